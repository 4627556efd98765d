// SPDX-License-Identifier: Apache-2.0
// A stretch of ranks and columns at a time, its sums in cache while the steps pass.
#include "kernels/sequences.hpp"

#include "host/cpu/parallel.hpp"

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/sequences.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

void AddTo(const float* HWY_RESTRICT x, int64_t count, double* HWY_RESTRICT sums) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, hn::ScalableTag<double>> half;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    hn::StoreU(hn::Add(hn::LoadU(d, sums + i), hn::PromoteTo(d, hn::LoadU(half, x + i))), d, sums + i);
  }
  for (; i < count; ++i) sums[i] += x[i];
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(AddTo);

void run_cpu(const SequenceSum& args) {
  constexpr int64_t kStretch = 2048;
  const auto add_to = HWY_DYNAMIC_DISPATCH(AddTo);
  const int64_t elements = args.batch * args.cols;
  const int64_t grain = std::max<int64_t>(1, (1 << 15) / std::max<int64_t>(1, args.steps));
  cpu::parallel_ranges(elements, grain, [&](int64_t begin, int64_t end, int) {
    double sums[kStretch];
    for (int64_t first = begin; first < end; first += kStretch) {
      const int64_t count = std::min(kStretch, end - first);
      std::fill_n(sums, count, 0.0);
      for (int64_t t = 0; t < args.steps; ++t) {
        const int64_t rows = args.step_begin[t + 1] - args.step_begin[t];
        const int64_t active = std::min(count, rows * args.cols - first);
        if (active <= 0) break;
        add_to(args.x + args.step_begin[t] * args.cols + first, active, sums);
      }
      int64_t rank = first / args.cols;
      int64_t column = first % args.cols;
      for (int64_t i = 0; i < count; ++i) {
        args.y[args.sequence_of_rank[rank] * args.cols + column] = static_cast<float>(sums[i]);
        if (++column == args.cols) column = 0, ++rank;
      }
    }
  });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
