// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads: one pass for the normaliser, one to write, the second from cache unless
// the row is longer than that. Traffic: forward reads 4 bytes a term and writes 4; backward reads
// 8 and writes 4.
#include "kernels/log_softmax.hpp"

#include "host/cpu/row_launch.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/log_softmax.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/log_sum-inl.hpp"
#include "host/cpu/simd-inl.hpp"

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::kShortRow;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::ShortLogSums;
using cpu::HWY_NAMESPACE::ShortRows;
using cpu::HWY_NAMESPACE::StoreFirst;
using cpu::HWY_NAMESPACE::VecF32;

void ForwardShort(const LogSoftmaxForward& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  ShortRows rows;
  for (int64_t b = begin; b < end; b += lanes) {
    const int64_t count = std::min(lanes, end - b);
    rows.load(args.x + b * args.cols, args.cols, count);
    VecF32 max, sum;
    ShortLogSums(rows, args.cols, &max, &sum,
                 [&](int64_t i, VecF32 below, VecF32 e) HWY_ATTR { rows.set(i, args.exponentiated ? e : below); });
    const auto none = hn::Eq(sum, hn::Zero(d));  // nothing but -inf
    const VecF32 log_sum = hn::IfThenZeroElse(none, hn::MulAdd(sum, hn::Zero(d), hn::Log(d, sum)));
    const VecF32 factor = hn::Div(hn::Set(d, 1.0f), hn::IfThenElse(none, hn::Set(d, 1.0f), sum));
    for (int64_t i = 0; i < args.cols; ++i) {
      const VecF32 v = rows.get(i);
      rows.set(i, args.exponentiated ? hn::Mul(v, factor) : hn::Sub(v, log_sum));
    }
    rows.store(args.y + b * args.cols, args.cols, count);
  }
}

void BackwardShort(const LogSoftmaxBackward& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  ShortRows y, g;
  const VecF32 nothing = hn::Set(d, args.exponentiated ? 0.0f : -INFINITY);
  for (int64_t b = begin; b < end; b += lanes) {
    const int64_t count = std::min(lanes, end - b);
    y.load(args.y + b * args.cols, args.cols, count);
    g.load(args.g + b * args.cols, args.cols, count);
    VecF32 sum = hn::Zero(d);
    for (int64_t i = 0; i < args.cols; ++i) {
      const VecF32 v = y.get(i);
      const VecF32 u = g.get(i);
      sum = hn::Add(sum, hn::IfThenZeroElse(hn::Eq(v, nothing), args.exponentiated ? hn::Mul(v, u) : u));
    }
    for (int64_t i = 0; i < args.cols; ++i) {
      const VecF32 v = y.get(i);
      const VecF32 u = g.get(i);
      const VecF32 value = args.exponentiated ? hn::Mul(v, hn::Sub(u, sum)) : hn::NegMulAdd(ExpBelow88(d, v), sum, u);
      y.set(i, hn::IfThenZeroElse(hn::Eq(v, nothing), value));
    }
    y.store(args.dx + b * args.cols, args.cols, count);
  }
}

/// From the row's max and sum.
HWY_INLINE void ForwardRow(const float* HWY_RESTRICT x, int64_t cols, float max, float sum, bool exponentiated,
                           float* HWY_RESTRICT y) {
  if (sum == 0.0f) {  // nothing but -inf
    std::fill(y, y + cols, exponentiated ? 0.0f : -INFINITY);
    return;
  }
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  // Off the largest term first: the result's error is then relative to it, however large x is.
  const VecF32 shift = hn::Set(d, max);
  const VecF32 log_sum = hn::Set(d, std::log(sum));
  const VecF32 factor = hn::Set(d, 1.0f / sum);
  const auto result = [&](VecF32 v) HWY_ATTR {
    const VecF32 below = hn::Sub(v, shift);
    return exponentiated ? hn::Mul(ExpBelow88(d, below), factor) : hn::Sub(below, log_sum);
  };
  int64_t i = 0;
  for (; i + lanes <= cols; i += lanes) hn::StoreU(result(hn::LoadU(d, x + i)), d, y + i);
  if (i < cols) {
    const auto rest = static_cast<std::size_t>(cols - i);
    StoreFirst(d, result(LoadFirst(d, x + i, rest, hn::Zero(d))), y + i, rest);
  }
}

void Forward(const LogSoftmaxForward& args, int64_t begin, int64_t end) {
  if (args.cols <= kShortRow) return ForwardShort(args, begin, end);
  const int64_t step = cpu::HWY_NAMESPACE::RowsAtATime(args.cols);
  cpu::HWY_NAMESPACE::RowLogSum total;
  for (int64_t b = begin; b < end; b += step) {
    const float* const x = args.x + b * args.cols;
    const int64_t rows = std::min(step, end - b);
    cpu::HWY_NAMESPACE::RowLogSums(x, args.cols, rows, &total);
    for (int64_t i = 0; i < rows; ++i) {
      ForwardRow(x + i * args.cols, args.cols, total.max[i], total.sum[i], args.exponentiated,
                 args.y + (b + i) * args.cols);
    }
  }
}

void Backward(const LogSoftmaxBackward& args, int64_t begin, int64_t end) {
  if (args.cols <= kShortRow) return BackwardShort(args, begin, end);
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const VecF32 nothing = hn::Set(d, args.exponentiated ? 0.0f : -INFINITY);
  for (int64_t b = begin; b < end; ++b) {
    const float* const y = args.y + b * args.cols;
    const float* const g = args.g + b * args.cols;
    float* const dx = args.dx + b * args.cols;
    const auto term = [&](VecF32 v, VecF32 u) HWY_ATTR {
      return hn::IfThenZeroElse(hn::Eq(v, nothing), args.exponentiated ? hn::Mul(v, u) : u);
    };
    VecF32 sums = hn::Zero(d);
    int64_t i = 0;
    for (; i + lanes <= args.cols; i += lanes) sums = hn::Add(sums, term(hn::LoadU(d, y + i), hn::LoadU(d, g + i)));
    if (i < args.cols) {
      const auto rest = static_cast<std::size_t>(args.cols - i);
      sums = hn::Add(sums, term(LoadFirst(d, y + i, rest, nothing), LoadFirst(d, g + i, rest, hn::Zero(d))));
    }
    const VecF32 sum = hn::Set(d, hn::GetLane(hn::SumOfLanes(d, sums)));
    const auto result = [&](VecF32 v, VecF32 u) HWY_ATTR {
      const VecF32 value = args.exponentiated ? hn::Mul(v, hn::Sub(u, sum)) : hn::NegMulAdd(ExpBelow88(d, v), sum, u);
      return hn::IfThenZeroElse(hn::Eq(v, nothing), value);
    };
    for (i = 0; i + lanes <= args.cols; i += lanes) {
      hn::StoreU(result(hn::LoadU(d, y + i), hn::LoadU(d, g + i)), d, dx + i);
    }
    if (i < args.cols) {
      const auto rest = static_cast<std::size_t>(args.cols - i);
      StoreFirst(d, result(LoadFirst(d, y + i, rest, nothing), LoadFirst(d, g + i, rest, hn::Zero(d))), dx + i, rest);
    }
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

void run_cpu(const LogSoftmaxForward& args) { cpu::launch_rows(args, HWY_DYNAMIC_DISPATCH(Forward)); }
void run_cpu(const LogSoftmaxBackward& args) { cpu::launch_rows(args, HWY_DYNAMIC_DISPATCH(Backward)); }

}  // namespace dgm::kernels
#endif  // HWY_ONCE
