// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads. Traffic: forward one cache line and 8 bytes a pick; backward writes
// 4 bytes an entry of x.
#include "kernels/pick.hpp"

#include "host/cpu/parallel.hpp"

#include <cmath>

namespace dgm::kernels {

namespace {
constexpr int64_t kGrain = 1 << 13;
}

void run_cpu(const PickForward& args) {
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrain / args.samples), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * args.samples; i < end * args.samples; ++i) {
      const int64_t k = args.index[i];
      args.y[i] = 0 <= k && k < args.cols ? args.x[i / args.samples * args.cols + k] : NAN;
    }
  });
}

void run_cpu(const PickBackward& args) {
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrain / args.cols), [&](int64_t begin, int64_t end, int) {
    std::fill(args.dx + begin * args.cols, args.dx + end * args.cols, 0.0f);
    for (int64_t i = begin * args.samples; i < end * args.samples; ++i) {
      const int64_t k = args.index[i];
      if (0 <= k && k < args.cols) args.dx[i / args.samples * args.cols + k] += args.g[i];
    }
  });
}

}  // namespace dgm::kernels
