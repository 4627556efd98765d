// SPDX-License-Identifier: Apache-2.0
// A stretch of ranks and columns at a time, its sums in cache while the steps pass.
#include "kernels/sequences.hpp"

#include "host/cpu/parallel.hpp"

#include <algorithm>
#include <array>

namespace dgm::kernels {

void run_cpu(const SequenceSum& args) {
  constexpr int64_t kStretch = 1024;
  const int64_t elements = args.batch * args.cols;
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, args.steps));
  cpu::parallel_ranges(elements, grain, [&](int64_t begin, int64_t end, int) {
    std::array<double, kStretch> sums;
    for (int64_t first = begin; first < end; first += kStretch) {
      const int64_t count = std::min(kStretch, end - first);
      std::fill_n(sums.begin(), count, 0.0);
      for (int64_t t = 0; t < args.steps; ++t) {
        const int64_t rows = args.step_begin[t + 1] - args.step_begin[t];
        const int64_t active = std::min(count, rows * args.cols - first);
        if (active <= 0) break;
        const float* const x = args.x + args.step_begin[t] * args.cols + first;
        for (int64_t i = 0; i < active; ++i) sums[static_cast<std::size_t>(i)] += x[i];
      }
      for (int64_t i = 0; i < count; ++i) {
        const int64_t at = first + i;
        args.y[args.sequence_of_rank[at / args.cols] * args.cols + at % args.cols] =
            static_cast<float>(sums[static_cast<std::size_t>(i)]);
      }
    }
  });
}

}  // namespace dgm::kernels
