// SPDX-License-Identifier: Apache-2.0
// Between rows of numbers and tiles whose vectors hold one column of consecutive rows. Compiled once for
// each instruction set, like simd-inl.hpp.
#if defined(DGM_HOST_CPU_TRANSPOSE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_TRANSPOSE_INL
#undef DGM_HOST_CPU_TRANSPOSE_INL
#else
#define DGM_HOST_CPU_TRANSPOSE_INL
#endif

#include "host/cpu/simd-inl.hpp"

#include <algorithm>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace dgm::cpu::HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR
/// Four rows of four: to[c * to_stride + r] = from[r * from_stride + c].
HWY_INLINE void Transpose4x4(const float* HWY_RESTRICT from, int64_t from_stride, float* HWY_RESTRICT to,
                             int64_t to_stride) {
  const hn::CappedTag<float, 4> f;
  const hn::Repartition<uint64_t, hn::CappedTag<float, 4>> pairs;
  const auto a = hn::LoadU(f, from);
  const auto b = hn::LoadU(f, from + from_stride);
  const auto c = hn::LoadU(f, from + 2 * from_stride);
  const auto e = hn::LoadU(f, from + 3 * from_stride);
  const auto ab_low = hn::BitCast(pairs, hn::InterleaveLower(f, a, b));
  const auto ce_low = hn::BitCast(pairs, hn::InterleaveLower(f, c, e));
  const auto ab_high = hn::BitCast(pairs, hn::InterleaveUpper(f, a, b));
  const auto ce_high = hn::BitCast(pairs, hn::InterleaveUpper(f, c, e));
  hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pairs, ab_low, ce_low)), f, to);
  hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pairs, ab_low, ce_low)), f, to + to_stride);
  hn::StoreU(hn::BitCast(f, hn::InterleaveLower(pairs, ab_high, ce_high)), f, to + 2 * to_stride);
  hn::StoreU(hn::BitCast(f, hn::InterleaveUpper(pairs, ab_high, ce_high)), f, to + 3 * to_stride);
}
#endif

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
/// Within each block of four lanes, what four vectors have at place c becomes the block of vector c.
HWY_INLINE void TransposeBlocks(VecF32 (&v)[4]) {
  const F32 d;
  const hn::RepartitionToWide<F32> wide;
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d, v[0], v[1]));
  const auto ce_low = hn::BitCast(wide, hn::InterleaveLower(d, v[2], v[3]));
  const auto ab_high = hn::BitCast(wide, hn::InterleaveUpper(d, v[0], v[1]));
  const auto ce_high = hn::BitCast(wide, hn::InterleaveUpper(d, v[2], v[3]));
  v[0] = hn::BitCast(d, hn::InterleaveLower(wide, ab_low, ce_low));
  v[1] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_low, ce_low));
  v[2] = hn::BitCast(d, hn::InterleaveLower(wide, ab_high, ce_high));
  v[3] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_high, ce_high));
}

/// Four floats from each fourth row on: block b of the vector from row 4 b.
HWY_INLINE VecF32 LoadFourthRows(const float* HWY_RESTRICT from, int64_t stride) {
  const hn::CappedTag<float, 4> four;
  const auto low = hn::LoadU(four, from);
#if HWY_TARGET <= HWY_AVX3
  const hn::Half<F32> half;
  return hn::Combine(F32(), hn::Combine(half, hn::LoadU(four, from + 12 * stride), hn::LoadU(four, from + 8 * stride)),
                     hn::Combine(half, hn::LoadU(four, from + 4 * stride), low));
#elif HWY_TARGET <= HWY_AVX2
  return hn::Combine(F32(), hn::LoadU(four, from + 4 * stride), low);
#else
  (void)stride;
  return low;
#endif
}

HWY_INLINE void StoreFourthRows(VecF32 v, float* HWY_RESTRICT to, int64_t stride) {
  const hn::CappedTag<float, 4> four;
#if HWY_TARGET <= HWY_AVX3
  const hn::Half<F32> half;
  const auto low = hn::LowerHalf(half, v);
  const auto high = hn::UpperHalf(half, v);
  hn::StoreU(hn::LowerHalf(four, low), four, to);
  hn::StoreU(hn::UpperHalf(four, low), four, to + 4 * stride);
  hn::StoreU(hn::LowerHalf(four, high), four, to + 8 * stride);
  hn::StoreU(hn::UpperHalf(four, high), four, to + 12 * stride);
#elif HWY_TARGET <= HWY_AVX2
  const hn::Half<F32> half;
  hn::StoreU(hn::LowerHalf(half, v), four, to);
  hn::StoreU(hn::UpperHalf(half, v), four, to + 4 * stride);
#else
  (void)stride;
  hn::StoreU(v, four, to);
#endif
}
#endif

/// to[c * to_stride + r] = from[r * from_stride + c] for r below rows and c below cols.
HWY_INLINE void Transpose(const float* HWY_RESTRICT from, int64_t from_stride, int64_t rows, int64_t cols,
                          float* HWY_RESTRICT to, int64_t to_stride) {
#if HWY_TARGET != HWY_SCALAR
  if (rows >= 4 && cols >= 4) {
    for (int64_t i = 0; i < rows; i += 4) {
      const int64_t r = std::min(i, rows - 4);  // the last block again in part, rather than numbers one by one
      for (int64_t j = 0; j < cols; j += 4) {
        const int64_t c = std::min(j, cols - 4);
        Transpose4x4(from + r * from_stride + c, from_stride, to + c * to_stride + r, to_stride);
      }
    }
    return;
  }
#endif
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) to[c * to_stride + r] = from[r * from_stride + c];
  }
}

/// A vector of rows of at least four columns: columns[c * lanes + r] = rows[r * cols + c]. columns is aligned.
HWY_INLINE void RowsToColumns(const float* HWY_RESTRICT rows, int64_t cols, float* HWY_RESTRICT columns) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  for (int64_t j = 0; j < cols; j += 4) {
    const int64_t c = std::min(j, cols - 4);  // the last columns again in part
    VecF32 v[4];
    for (int64_t r = 0; r < 4; ++r) v[r] = LoadFourthRows(rows + r * cols + c, cols);
    TransposeBlocks(v);
    for (int64_t i = 0; i < 4; ++i) hn::Store(v[i], d, columns + (c + i) * lanes);
  }
#else
  Transpose(rows, cols, lanes, cols, columns, lanes);
#endif
}

/// The other way.
HWY_INLINE void ColumnsToRows(const float* HWY_RESTRICT columns, int64_t cols, float* HWY_RESTRICT rows) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  for (int64_t j = 0; j < cols; j += 4) {
    const int64_t c = std::min(j, cols - 4);
    VecF32 v[4];
    for (int64_t i = 0; i < 4; ++i) v[i] = hn::Load(d, columns + (c + i) * lanes);
    TransposeBlocks(v);
    for (int64_t r = 0; r < 4; ++r) StoreFourthRows(v[r], rows + r * cols + c, cols);
  }
#else
  Transpose(columns, lanes, cols, lanes, rows, cols);
#endif
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
