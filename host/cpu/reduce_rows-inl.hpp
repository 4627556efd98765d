// SPDX-License-Identifier: Apache-2.0
// Several vectors, each reduced to one number, at once. Compiled once for each instruction set, like
// simd-inl.hpp.
#if defined(DGM_HOST_CPU_REDUCE_ROWS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_REDUCE_ROWS_INL
#undef DGM_HOST_CPU_REDUCE_ROWS_INL
#else
#define DGM_HOST_CPU_REDUCE_ROWS_INL
#endif

#include "host/cpu/simd-inl.hpp"

#undef DGM_UNROLL
// Under a sanitizer every load has a branch of its own, and sixteen copies of each loop take minutes to compile.
#if defined(__SANITIZE_ADDRESS__)
#define DGM_UNROLL
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DGM_UNROLL
#endif
#endif
#if !defined(DGM_UNROLL)
#define DGM_UNROLL _Pragma("GCC unroll 16")
#endif

HWY_BEFORE_NAMESPACE();
namespace dgm::cpu::HWY_NAMESPACE {

constexpr int kReducedRows = 8;

struct Larger {
  HWY_INLINE VecF32 operator()(VecF32 a, VecF32 b) const { return hn::Max(a, b); }
};
struct Plus {
  HWY_INLINE VecF32 operator()(VecF32 a, VecF32 b) const { return hn::Add(a, b); }
};

/// to[p] = all lanes of v[p] by op: lanes of pairs of vectors are folded onto each other.
template <class Op>
HWY_INLINE void ReduceRows(const VecF32 (&v)[kReducedRows], const Op& op, float* HWY_RESTRICT to) {
  static_assert(kReducedRows == 8);
#if HWY_TARGET == HWY_SCALAR
  for (int p = 0; p < kReducedRows; ++p) to[p] = hn::GetLane(v[p]);
  (void)op;
#else
  const F32 d;
  const hn::RepartitionToWide<F32> wide;
  VecF32 four[2];  // blocks of 4 lanes: what remains of each of 4 vectors
  DGM_UNROLL for (int i = 0; i < 2; ++i) {
    const VecF32 ab =
        op(hn::InterleaveLower(d, v[4 * i], v[4 * i + 1]), hn::InterleaveUpper(d, v[4 * i], v[4 * i + 1]));
    const VecF32 cd =
        op(hn::InterleaveLower(d, v[4 * i + 2], v[4 * i + 3]), hn::InterleaveUpper(d, v[4 * i + 2], v[4 * i + 3]));
    four[i] = op(hn::BitCast(d, hn::InterleaveLower(wide, hn::BitCast(wide, ab), hn::BitCast(wide, cd))),
                 hn::BitCast(d, hn::InterleaveUpper(wide, hn::BitCast(wide, ab), hn::BitCast(wide, cd))));
  }
#if HWY_TARGET <= HWY_AVX2
  VecF32 both = op(hn::ConcatLowerLower(d, four[1], four[0]), hn::ConcatUpperUpper(d, four[1], four[0]));
#if HWY_TARGET <= HWY_AVX3
  both = op(both, hn::SwapAdjacentBlocks(both));
  const hn::Half<F32> half;
  const hn::Half<decltype(half)> quarter;
  hn::StoreU(hn::LowerHalf(quarter, hn::LowerHalf(half, both)), quarter, to);
  hn::StoreU(hn::LowerHalf(quarter, hn::UpperHalf(half, both)), quarter, to + 4);
#else
  hn::StoreU(both, d, to);
#endif
#else
  hn::StoreU(four[0], d, to);
  hn::StoreU(four[1], d, to + 4);
#endif
#endif
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
