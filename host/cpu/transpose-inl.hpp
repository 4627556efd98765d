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

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
