// SPDX-License-Identifier: Apache-2.0
#include "kernels/columns.hpp"

#include "host/cpu/parallel.hpp"

#include <algorithm>

namespace dgm::kernels {

namespace {
constexpr int64_t kGrainElements = 1 << 15;
int64_t grain(int64_t cols) { return kGrainElements / (cols + 1) + 1; }
}  // namespace

void run_cpu(const CopyColumns& args) {
  cpu::parallel_ranges(args.rows, grain(args.cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const from = args.from + r * args.from_cols + args.from_begin;
      std::copy(from, from + args.cols, args.to + r * args.to_cols + args.to_begin);
    }
  });
}

void run_cpu(const PadColumns& args) {
  cpu::parallel_ranges(args.rows, grain(args.to_cols), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      const float* const from = args.from + r * args.cols;
      float* const to = args.to + r * args.to_cols;
      std::fill(to, to + args.begin, 0.0f);
      std::copy(from, from + args.cols, to + args.begin);
      std::fill(to + args.begin + args.cols, to + args.to_cols, 0.0f);
    }
  });
}

}  // namespace dgm::kernels
