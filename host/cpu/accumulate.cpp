// SPDX-License-Identifier: Apache-2.0
#include "kernels/accumulate.hpp"

#include "host/cpu/parallel.hpp"

namespace dgm::kernels {

namespace {
constexpr int64_t kGrain = 1 << 15;  // below this a second thread costs more than it brings
}

void run_cpu(const Accumulate& args) {
  cpu::parallel_ranges(args.size, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) args.to[i] += args.from[i];
  });
}

void run_cpu(const Fill& args) {
  cpu::parallel_ranges(args.size, kGrain,
                       [&](int64_t begin, int64_t end, int) { std::fill(args.to + begin, args.to + end, args.value); });
}

void run_cpu(const ScaleBy& args) {
  const float factor = *args.factor;
  cpu::parallel_ranges(args.size, kGrain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) args.x[i] *= factor;
  });
}

}  // namespace dgm::kernels
