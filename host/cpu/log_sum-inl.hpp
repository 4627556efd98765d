// SPDX-License-Identifier: Apache-2.0
// The log-sum-exp of a row, for every op that normalises one. Compiled once for each instruction set,
// like simd-inl.hpp.
#if defined(DGM_HOST_CPU_LOG_SUM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_LOG_SUM_INL
#undef DGM_HOST_CPU_LOG_SUM_INL
#else
#define DGM_HOST_CPU_LOG_SUM_INL
#endif

#include "host/cpu/simd-inl.hpp"
#include "kernels/math/log_sum.hpp"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cmath>

HWY_BEFORE_NAMESPACE();
namespace dgm::cpu::HWY_NAMESPACE {

constexpr int64_t kChunk = 2048;
constexpr int64_t kPrefetch = kChunk;

HWY_INLINE LogSum ChunkLogSum(const float* x, int64_t count) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const VecF32 lowest = hn::Set(d, -INFINITY);
  VecF32 max = lowest;
  VecF32 nan = hn::Zero(d);  // stays zero unless a term is NaN, which Max and exp may both lose
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const VecF32 v = hn::LoadU(d, x + i);
    max = hn::Max(max, v);
    nan = hn::Or(nan, hn::VecFromMask(d, hn::IsNaN(v)));
  }
  if (i < count) {
    const VecF32 v = LoadFirst(d, x + i, static_cast<std::size_t>(count - i), lowest);
    max = hn::Max(max, v);
    nan = hn::Or(nan, hn::VecFromMask(d, hn::IsNaN(v)));
  }
  if (!hn::AllFalse(d, hn::MaskFromVec(nan))) return add(LogSum{}, NAN);
  const float largest = hn::GetLane(hn::MaxOfLanes(d, max));
  if (largest == -INFINITY) return {};
  if (largest == INFINITY) return {INFINITY, 1.0f};
  const VecF32 shift = hn::Set(d, largest);
  VecF32 sum = hn::Zero(d);
  VecF32 sum1 = hn::Zero(d);
  i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    // Memory would idle while the exponentials are computed: what the next chunk reads comes in meanwhile.
    hwy::Prefetch(x + i + kPrefetch);
    hwy::Prefetch(x + i + lanes + kPrefetch);
    sum = hn::Add(sum, ExpBelow88(d, hn::Sub(hn::LoadU(d, x + i), shift)));
    sum1 = hn::Add(sum1, ExpBelow88(d, hn::Sub(hn::LoadU(d, x + i + lanes), shift)));
  }
  for (; i < count; i += lanes) {
    const auto rest = static_cast<std::size_t>(std::min(lanes, count - i));
    sum = hn::Add(sum, ExpBelow88(d, hn::Sub(LoadFirst(d, x + i, rest, lowest), shift)));
  }
  sum = hn::Add(sum, sum1);
  return {largest, hn::GetLane(hn::SumOfLanes(d, sum))};
}

/// Of a row of at least one term, in chunks that stay in the first-level cache: a first pass finds the
/// chunk's largest term, a second sums the exponentials, so memory is read once.
HWY_INLINE LogSum RowLogSum(const float* row, int64_t count) {
  LogSum total = ChunkLogSum(row, std::min(kChunk, count));
  for (int64_t k = kChunk; k < count; k += kChunk) {
    total = merge(total, ChunkLogSum(row + k, std::min(kChunk, count - k)));
  }
  return total;
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
