// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads: one pass for the normaliser, one to write, the second from cache unless
// the row is longer than that. Short rows are visited a vector of them at a time, transposed, so that no
// lane is idle and nothing is reduced across lanes. Traffic: forward reads 4 bytes a term and writes 4; backward reads
// 8 and writes 4.
#include "kernels/log_softmax.hpp"

#include "host/cpu/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/log_softmax.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/log_sum-inl.hpp"
#include "host/cpu/simd-inl.hpp"
#include "host/cpu/transpose-inl.hpp"

#include <hwy/aligned_allocator.h>
#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::StoreFirst;
using cpu::HWY_NAMESPACE::Transpose;
using cpu::HWY_NAMESPACE::VecF32;

constexpr int64_t kShortRow = 24;  // beyond, full vectors within the row are as fast

// Columns of a tile of short rows.
struct Columns {
  Columns() : lanes(static_cast<int64_t>(hn::Lanes(F32()))) {
    memory = hwy::AllocateAligned<float>(static_cast<std::size_t>(2 * kShortRow * lanes));
    std::fill(memory.get(), memory.get() + 2 * kShortRow * lanes, 0.0f);  // lanes past the last row
  }
  float* first() const { return memory.get(); }
  float* second() const { return memory.get() + kShortRow * lanes; }

  int64_t lanes;
  hwy::AlignedFreeUniquePtr<float[]> memory;
};

void ForwardShort(const LogSoftmaxForward& args, int64_t begin, int64_t end) {
  const F32 d;
  const Columns columns;
  float* const x = columns.first();
  const int64_t lanes = columns.lanes;
  const int64_t size = args.cols * lanes;
  const VecF32 lowest = hn::Set(d, -INFINITY);
  for (int64_t b = begin; b < end; b += lanes) {
    const int64_t count = std::min(lanes, end - b);
    Transpose(args.x + b * args.cols, args.cols, count, args.cols, x, lanes);
    VecF32 max = lowest;
    VecF32 nan = hn::Zero(d);
    for (int64_t i = 0; i < size; i += lanes) {
      const VecF32 v = hn::Load(d, x + i);
      max = hn::Max(max, v);
      nan = hn::Or(nan, hn::VecFromMask(d, hn::IsNaN(v)));
    }
    const auto none = hn::Eq(max, lowest);
    const VecF32 shift = hn::IfThenZeroElse(none, max);
    VecF32 sum = hn::Zero(d);
    for (int64_t i = 0; i < size; i += lanes) {
      const VecF32 below = hn::Sub(hn::Load(d, x + i), shift);
      const VecF32 e = ExpBelow88(d, below);
      sum = hn::Add(sum, e);
      hn::Store(args.exponentiated ? e : below, d, x + i);
    }
    // +inf minus itself stays at its own place; a NaN goes everywhere.
    sum = hn::IfThenElse(hn::Eq(max, hn::Set(d, INFINITY)), hn::Set(d, 1.0f), sum);
    sum = hn::Or(sum, nan);
    const VecF32 log_sum = hn::IfThenZeroElse(none, hn::MulAdd(sum, hn::Zero(d), hn::Log(d, sum)));
    const VecF32 factor = hn::Div(hn::Set(d, 1.0f), hn::IfThenElse(hn::Eq(sum, hn::Zero(d)), hn::Set(d, 1.0f), sum));
    for (int64_t i = 0; i < size; i += lanes) {
      const VecF32 v = hn::Load(d, x + i);
      hn::Store(args.exponentiated ? hn::Mul(v, factor) : hn::Sub(v, log_sum), d, x + i);
    }
    Transpose(x, lanes, args.cols, count, args.y + b * args.cols, args.cols);
  }
}

void BackwardShort(const LogSoftmaxBackward& args, int64_t begin, int64_t end) {
  const F32 d;
  const Columns columns;
  float* const y = columns.first();
  float* const g = columns.second();
  const int64_t lanes = columns.lanes;
  const int64_t size = args.cols * lanes;
  const VecF32 nothing = hn::Set(d, args.exponentiated ? 0.0f : -INFINITY);
  for (int64_t b = begin; b < end; b += lanes) {
    const int64_t count = std::min(lanes, end - b);
    Transpose(args.y + b * args.cols, args.cols, count, args.cols, y, lanes);
    Transpose(args.g + b * args.cols, args.cols, count, args.cols, g, lanes);
    VecF32 sum = hn::Zero(d);
    for (int64_t i = 0; i < size; i += lanes) {
      const VecF32 v = hn::Load(d, y + i);
      const VecF32 u = hn::Load(d, g + i);
      sum = hn::Add(sum, hn::IfThenZeroElse(hn::Eq(v, nothing), args.exponentiated ? hn::Mul(v, u) : u));
    }
    for (int64_t i = 0; i < size; i += lanes) {
      const VecF32 v = hn::Load(d, y + i);
      const VecF32 u = hn::Load(d, g + i);
      const VecF32 value = args.exponentiated ? hn::Mul(v, hn::Sub(u, sum)) : hn::NegMulAdd(ExpBelow88(d, v), sum, u);
      hn::Store(hn::IfThenZeroElse(hn::Eq(v, nothing), value), d, y + i);
    }
    Transpose(y, lanes, args.cols, count, args.dx + b * args.cols, args.cols);
  }
}

void Forward(const LogSoftmaxForward& args, int64_t begin, int64_t end) {
  if (args.cols <= kShortRow) return ForwardShort(args, begin, end);
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t b = begin; b < end; ++b) {
    const float* const x = args.x + b * args.cols;
    float* const y = args.y + b * args.cols;
    const LogSum total = cpu::HWY_NAMESPACE::RowLogSum(x, args.cols);
    if (total.sum == 0.0f) {  // nothing but -inf
      std::fill(y, y + args.cols, args.exponentiated ? 0.0f : -INFINITY);
      continue;
    }
    // Off the largest term first: the result's error is then relative to it, however large x is.
    const VecF32 shift = hn::Set(d, total.max);
    const VecF32 log_sum = hn::Set(d, std::log(total.sum));
    const VecF32 factor = hn::Set(d, 1.0f / total.sum);
    const auto result = [&](VecF32 v) HWY_ATTR {
      const VecF32 below = hn::Sub(v, shift);
      return args.exponentiated ? hn::Mul(ExpBelow88(d, below), factor) : hn::Sub(below, log_sum);
    };
    int64_t i = 0;
    for (; i + lanes <= args.cols; i += lanes) hn::StoreU(result(hn::LoadU(d, x + i)), d, y + i);
    if (i < args.cols) {
      const auto rest = static_cast<std::size_t>(args.cols - i);
      StoreFirst(d, result(LoadFirst(d, x + i, rest, hn::Zero(d))), y + i, rest);
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

namespace {
constexpr int64_t kGrainTerms = 1 << 14;
int64_t grain_rows(int64_t cols) { return std::max<int64_t>(1, kGrainTerms / cols); }
}  // namespace

void run_cpu(const LogSoftmaxForward& args) {
  const auto forward = HWY_DYNAMIC_DISPATCH(Forward);
  cpu::parallel_ranges(args.rows, grain_rows(args.cols),
                       [&](int64_t begin, int64_t end, int) { forward(args, begin, end); });
}

void run_cpu(const LogSoftmaxBackward& args) {
  const auto backward = HWY_DYNAMIC_DISPATCH(Backward);
  cpu::parallel_ranges(args.rows, grain_rows(args.cols),
                       [&](int64_t begin, int64_t end, int) { backward(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
