// SPDX-License-Identifier: Apache-2.0
#include "kernels/affine.hpp"

#include "host/cpu/parallel.hpp"

#include <algorithm>

namespace dgm::kernels {

void run_cpu(const BiasRows& args) {
  constexpr int64_t kGrain = 1 << 15;
  cpu::parallel_ranges(args.rows, kGrain / (args.cols + 1) + 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) std::copy(args.bias, args.bias + args.cols, args.y + r * args.cols);
  });
}

}  // namespace dgm::kernels
