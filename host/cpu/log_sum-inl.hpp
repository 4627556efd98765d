// SPDX-License-Identifier: Apache-2.0
// The log-sum-exp of rows, for every op that normalises them. Compiled once for each instruction set,
// like simd-inl.hpp.
//
// Memory is read once, and asked for kPrefetch floats ahead: the requests of the loads alone leave a core
// idle for a tenth of the time. Short rows come a vector of them at a time, transposed, so that no lane is
// idle; rows of middling length kReducedRows at a time, so that what is reduced across lanes is reduced
// for all of them at once; long ones alone, in one pass.
#if defined(DGM_HOST_CPU_LOG_SUM_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_LOG_SUM_INL
#undef DGM_HOST_CPU_LOG_SUM_INL
#else
#define DGM_HOST_CPU_LOG_SUM_INL
#endif

#include "host/cpu/reduce_rows-inl.hpp"
#include "host/cpu/simd-inl.hpp"
#include "host/cpu/transpose-inl.hpp"

#include <hwy/cache_control.h>

#include <algorithm>
#include <cmath>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace dgm::cpu::HWY_NAMESPACE {

constexpr int64_t kShortRow = 24;    // beyond, full vectors within the row are as fast
constexpr int64_t kPairedRow = 128;  // beyond, two groups of rows are too much for the nearest cache
constexpr int64_t kMiddleRow = 512;  // beyond, what one row costs across lanes is little beside its terms
constexpr int64_t kPrefetch = 2048;
constexpr int64_t kMostRows = 16;  // of RowLogSums

/// Rows that RowLogSums takes at a time.
HWY_INLINE int64_t RowsAtATime(int64_t cols) {
  if (cols <= kShortRow) return static_cast<int64_t>(hn::Lanes(F32()));
  if (cols <= kPairedRow) return 2 * kReducedRows;
  return cols <= kMiddleRow ? kReducedRows : 1;
}

/// A row's log-sum-exp is max + log(sum). For a row of -inf, sum is 0; if there is a NaN, sum is NaN; if
/// there is +inf and no NaN, max is +inf and sum 1. Else max is the largest term, or less by at most 1.
struct RowLogSum {
  float max[kMostRows];
  float sum[kMostRows];
};

/// Where the sum came out NaN, because of NaN or of +inf less itself.
inline void UnusualLogSum(const float* row, int64_t cols, float* max, float* sum) {
  const bool nan = std::any_of(row, row + cols, [](float v) { return std::isnan(v); });
  *max = nan ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  *sum = nan ? *max : 1.0f;
}

/// Columns of a vector of short rows, and where they come from and go to.
class ShortRows {
 public:
  ShortRows() : lanes_(static_cast<int64_t>(hn::Lanes(F32()))) {
    std::fill(columns_, columns_ + kShortRow * lanes_, 0.0f);  // lanes past the last row
  }
  HWY_INLINE void load(const float* rows, int64_t cols, int64_t count) {
    constexpr int64_t kLine = 16;
    for (int64_t i = 0; i < cols * count; i += kLine) hwy::Prefetch(rows + i + kPrefetch);
    if (count == lanes_ && cols >= 4) return RowsToColumns(rows, cols, columns_);
    Transpose(rows, cols, count, cols, columns_, lanes_);
  }
  HWY_INLINE void store(float* rows, int64_t cols, int64_t count) const {
    if (count == lanes_ && cols >= 4) return ColumnsToRows(columns_, cols, rows);
    Transpose(columns_, lanes_, cols, count, rows, cols);
  }
  HWY_INLINE VecF32 get(int64_t i) const { return hn::Load(F32(), columns_ + i * lanes_); }
  HWY_INLINE void set(int64_t i, VecF32 v) { hn::Store(v, F32(), columns_ + i * lanes_); }

 private:
  int64_t lanes_;
  alignas(64) float columns_[kShortRow * kMostRows];
};

/// The rows' max and sum, as in RowLogSum; visit(i, term - max, its exponential) for each column.
template <class Visit>
HWY_INLINE void ShortLogSums(const ShortRows& rows, int64_t cols, VecF32* max, VecF32* sum, const Visit& visit) {
  const F32 d;
  const VecF32 lowest = hn::Set(d, std::numeric_limits<float>::lowest());
  VecF32 largest = lowest;  // from the lowest float on: -inf less -inf would be NaN
  auto nan = hn::FirstN(d, 0);
  for (int64_t i = 0; i < cols; ++i) {
    const VecF32 v = rows.get(i);
    largest = hn::Max(largest, v);
    nan = hn::Or(nan, hn::IsNaN(v));
  }
  VecF32 total = hn::Zero(d);
  for (int64_t i = 0; i < cols; ++i) {
    const VecF32 below = hn::Sub(rows.get(i), largest);
    const VecF32 e = ExpBelow88(d, below);
    total = hn::Add(total, e);
    visit(i, below, e);
  }
  // +inf minus itself stays at its own place; a NaN goes everywhere.
  total = hn::IfThenElse(hn::Eq(largest, hn::Set(d, std::numeric_limits<float>::infinity())), hn::Set(d, 1.0f), total);
  *max = largest;
  *sum = hn::IfThenElse(nan, hn::NaN(d), total);
}

/// kReducedRows rows of middling length, of which `rows` are there: first their largest terms, then their sums, so
/// that of several such groups one can be computed while the other is reduced.
class MiddleRows {
 public:
  HWY_INLINE MiddleRows(const float* x, int64_t cols, int64_t rows)
      : cols_(cols),
        rest_(static_cast<std::size_t>(cols) % hn::Lanes(F32())),
        whole_(cols - static_cast<int64_t>(rest_)) {
    DGM_UNROLL for (int p = 0; p < kReducedRows; ++p) row_[p] = x + std::min<int64_t>(p, rows - 1) * cols;
  }

  HWY_INLINE void largest(float* HWY_RESTRICT max) const {
    const F32 d;
    VecF32 fold[kReducedRows];
    // From the lowest float on: -inf less -inf would be NaN.
    DGM_UNROLL for (int p = 0; p < kReducedRows; ++p) fold[p] = hn::Set(d, std::numeric_limits<float>::lowest());
    for (int64_t k = 0; k < whole_; k += lanes()) {
      DGM_UNROLL for (int p = 0; p < kReducedRows; ++p) { fold[p] = hn::Max(fold[p], hn::LoadU(d, row_[p] + k)); }
    }
    if (rest_ > 0) {
      DGM_UNROLL for (int p = 0; p < kReducedRows; ++p) { fold[p] = hn::Max(fold[p], last(p)); }
    }
    ReduceRows(fold, Larger(), max);
  }

  /// ahead: how many floats from here what follows is asked for; memory would idle while this is computed.
  HWY_INLINE void sums(int64_t ahead, float* HWY_RESTRICT max, float* HWY_RESTRICT sum) const {
    const F32 d;
    VecF32 fold[kReducedRows];
    DGM_UNROLL for (int p = 0; p < kReducedRows; ++p) fold[p] = hn::Zero(d);
    for (int64_t k = 0; k < whole_; k += lanes()) {
      DGM_UNROLL for (int p = 0; p < kReducedRows; ++p) {
        hwy::Prefetch(row_[p] + k + ahead);
        const VecF32 below = hn::Sub(hn::LoadU(d, row_[p] + k), hn::Set(d, max[p]));
        fold[p] = hn::Add(fold[p], ExpBelow88(d, below));
      }
    }
    if (rest_ > 0) {
      DGM_UNROLL for (int p = 0; p < kReducedRows; ++p) {
        hwy::Prefetch(row_[p] + whole_ + ahead);
        fold[p] = hn::Add(fold[p], ExpBelow88(d, hn::Sub(last(p), hn::Set(d, max[p]))));
      }
    }
    ReduceRows(fold, Plus(), sum);

    const hn::CappedTag<float, kReducedRows> some;
    bool unusual = false;
    DGM_UNROLL for (int p = 0; p < kReducedRows; p += static_cast<int>(hn::Lanes(some))) {
      unusual |= !hn::AllFalse(some, hn::IsNaN(hn::LoadU(some, sum + p)));
    }
    if (HWY_LIKELY(!unusual)) return;
    for (int p = 0; p < kReducedRows; ++p) {
      if (std::isnan(sum[p])) UnusualLogSum(row_[p], cols_, &max[p], &sum[p]);
    }
  }

 private:
  static HWY_INLINE int64_t lanes() { return static_cast<int64_t>(hn::Lanes(F32())); }
  HWY_INLINE VecF32 last(int p) const {
    const F32 d;
    return LoadFirst(d, row_[p] + whole_, rest_, hn::Set(d, -INFINITY));
  }

  int64_t cols_;
  std::size_t rest_;
  int64_t whole_;
  const float* row_[kReducedRows];  // the last one again for those that are not there
};

/// The lanes of a long row: sums of exp(term - reference).
class LaneLogSums {
 public:
  LaneLogSums()
      : reference_(hn::Set(F32(), std::numeric_limits<float>::lowest())),
        part_{hn::Zero(F32()), hn::Zero(F32()), hn::Zero(F32()), hn::Zero(F32())},
        total_(hn::Zero(F32())) {}

  template <int V>
  HWY_INLINE void add(const VecF32 (&v)[V]) {
    const F32 d;
    VecF32 top = v[0];
    DGM_UNROLL for (int i = 1; i < V; ++i) top = hn::Max(top, v[i]);
    // Only what rises by more than 1: if every small step counted, their roundings would add up.
    if (!hn::AllFalse(d, hn::Gt(top, hn::Add(reference_, hn::Set(d, 1.0f))))) raise(top);
    DGM_UNROLL for (int i = 0; i < V; ++i) {
      part_[i % kParts] = hn::Add(part_[i % kParts], ExpBelow88(d, hn::Sub(v[i], reference_)));
    }
  }

  /// Ends a chunk: long sums are sums of short ones.
  HWY_INLINE void fold() {
    total_ = hn::Add(total_, hn::Add(hn::Add(part_[0], part_[1]), hn::Add(part_[2], part_[3])));
    DGM_UNROLL for (int i = 0; i < kParts; ++i) part_[i] = hn::Zero(F32());
  }

  HWY_INLINE void result(float* max, float* sum) const {
    const F32 d;
    const VecF32 most = hn::MaxOfLanes(d, reference_);
    *max = hn::GetLane(most);
    *sum = hn::GetLane(hn::SumOfLanes(d, hn::Mul(total_, ExpBelow88(d, hn::Sub(reference_, most)))));
  }

 private:
  static constexpr int kParts = 4;

  HWY_INLINE void raise(VecF32 top) {
    const F32 d;
    const VecF32 next = hn::Max(reference_, top);
    const VecF32 factor = ExpBelow88(d, hn::Sub(reference_, next));
    DGM_UNROLL for (int i = 0; i < kParts; ++i) part_[i] = hn::Mul(part_[i], factor);
    total_ = hn::Mul(total_, factor);
    reference_ = next;
  }

  VecF32 reference_;
  VecF32 part_[kParts];
  VecF32 total_;
};

HWY_INLINE void LongLogSum(const float* HWY_RESTRICT row, int64_t cols, float* HWY_RESTRICT max,
                           float* HWY_RESTRICT sum) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kChunk = 4096;
  constexpr int kVectors = 8;
  const VecF32 nothing = hn::Set(d, -INFINITY);
  LaneLogSums sums;
  for (int64_t begin = 0; begin < cols; begin += kChunk) {
    const int64_t end = std::min(cols, begin + kChunk);
    int64_t i = begin;
    for (; i + kVectors * lanes <= end; i += kVectors * lanes) {
      VecF32 v[kVectors];
      DGM_UNROLL for (int j = 0; j < kVectors; ++j) {
        hwy::Prefetch(row + i + j * lanes + kPrefetch);
        v[j] = hn::LoadU(d, row + i + j * lanes);
      }
      sums.add(v);
    }
    if (i < end) {
      VecF32 v[kVectors];
      DGM_UNROLL for (int j = 0; j < kVectors; ++j) {
        const int64_t rest = std::min(lanes, end - i - j * lanes);
        v[j] = rest > 0 ? LoadFirst(d, row + i + j * lanes, static_cast<std::size_t>(rest), nothing) : nothing;
      }
      sums.add(v);
    }
    sums.fold();
  }
  sums.result(max, sum);
  if (std::isnan(*sum)) UnusualLogSum(row, cols, max, sum);
}

/// Of 1 to RowsAtATime(cols) consecutive rows of at least one term, neither short.
HWY_INLINE void RowLogSums(const float* x, int64_t cols, int64_t rows, RowLogSum* result) {
  if (cols <= kMiddleRow) {
    const int64_t ahead = std::max(kPrefetch, RowsAtATime(cols) * cols);
    const MiddleRows first(x, cols, rows);
    first.largest(result->max);
    if (rows <= kReducedRows) return first.sums(ahead, result->max, result->sum);
    const MiddleRows second(x + kReducedRows * cols, cols, rows - kReducedRows);
    second.largest(result->max + kReducedRows);
    first.sums(ahead, result->max, result->sum);
    second.sums(ahead, result->max + kReducedRows, result->sum + kReducedRows);
  } else {
    LongLogSum(x, cols, result->max, result->sum);
  }
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
