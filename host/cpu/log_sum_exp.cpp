// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads; memory is read once. Traffic: forward reads 4 bytes a term; backward reads 4 and
// writes 4.
#include "kernels/log_sum_exp.hpp"

#include "host/cpu/row_launch.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/log_sum_exp.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"
#include "host/cpu/log_sum-inl.hpp"
#include "host/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {  // names of one file must not meet those of another: each target has one namespace

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::RowLogSum;
using cpu::HWY_NAMESPACE::RowsAtATime;
using cpu::HWY_NAMESPACE::ShortRows;
using cpu::HWY_NAMESPACE::StoreFirst;
using cpu::HWY_NAMESPACE::VecF32;

void Forward(const LogSumExpForward& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t step = RowsAtATime(args.cols);
  const VecF32 shift = hn::Set(d, args.shift);
  ShortRows columns;
  RowLogSum total = {};
  for (int64_t b = begin; b < end; b += step) {
    const float* const x = args.x + b * args.cols;
    const int64_t rows = std::min(step, end - b);
    if (args.cols <= cpu::HWY_NAMESPACE::kShortRow) {
      columns.load(x, args.cols, rows);
      VecF32 max, sum;
      ShortLogSums(columns, args.cols, &max, &sum, [](int64_t, VecF32, VecF32) HWY_ATTR {});
      hn::StoreU(max, d, total.max);
      hn::StoreU(sum, d, total.sum);
    } else {
      RowLogSums(x, args.cols, rows, &total);
    }
    for (int64_t i = 0; i < rows; i += lanes) {
      const VecF32 y = hn::Add(hn::LoadU(d, total.max + i), Lanes::log(hn::LoadU(d, total.sum + i)));
      StoreFirst(d, hn::Add(y, shift), args.y + b + i, static_cast<std::size_t>(std::min(lanes, rows - i)));
    }
  }
}

void Backward(const LogSumExpBackward& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t b = begin; b < end; ++b) {
    const float* const x = args.x + b * args.cols;
    float* const dx = args.dx + b * args.cols;
    if (args.y[b] == -INFINITY) {
      std::fill(dx, dx + args.cols, 0.0f);
      continue;
    }
    const VecF32 log_norm = hn::Set(d, args.y[b] - args.shift);
    const VecF32 g = hn::Set(d, args.g[b]);
    int64_t i = 0;
    for (; i + lanes <= args.cols; i += lanes) {
      hn::StoreU(hn::Mul(g, ExpBelow88(d, hn::Sub(hn::LoadU(d, x + i), log_norm))), d, dx + i);
    }
    if (i < args.cols) {
      const auto rest = static_cast<std::size_t>(args.cols - i);
      const VecF32 v = LoadFirst(d, x + i, rest, hn::Zero(d));
      StoreFirst(d, hn::Mul(g, ExpBelow88(d, hn::Sub(v, log_norm))), dx + i, rest);
    }
  }
}

}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

void run_cpu(const LogSumExpForward& args) { cpu::launch_rows(args, HWY_DYNAMIC_DISPATCH(Forward)); }
void run_cpu(const LogSumExpBackward& args) { cpu::launch_rows(args, HWY_DYNAMIC_DISPATCH(Backward)); }

}  // namespace dgm::kernels
#endif  // HWY_ONCE
