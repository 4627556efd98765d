// SPDX-License-Identifier: Apache-2.0
// SIMD helpers for CPU ops, compiled once for each instruction set by Highway's foreach_target: no
// ordinary include guard, and everything in HWY_NAMESPACE.
#if defined(DGM_HOST_CPU_SIMD_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_SIMD_INL
#undef DGM_HOST_CPU_SIMD_INL
#else
#define DGM_HOST_CPU_SIMD_INL
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>
#include <limits>

HWY_BEFORE_NAMESPACE();
namespace dgm::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using F32 = hn::ScalableTag<float>;
using VecF32 = hn::Vec<F32>;

/// exp(x) for x <= 88.3 (above: unspecified) with at most 2 ulp; exactly 0 below -87.33, so for
/// -inf too; NaN gives NaN. No branch, about 12 instructions.
template <class D, class V>
HWY_INLINE V ExpBelow88(D d, V x) {
  const hn::RebindToSigned<D> di;
  // Cephes' reduction: x = n ln 2 + r with |r| <= ln(2)/2, ln 2 in two parts. Adding 1.5 * 2^23 rounds n to an
  // integer, which is then in the low bits; converting n instead could make a number of NaN.
  const V shifter = hn::Set(d, 12582912.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), shifter);
  const V n = hn::Sub(shifted, shifter);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  V p = hn::Set(d, 1.9875691500e-4f);
  p = hn::MulAdd(p, r, hn::Set(d, 1.3981999507e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 8.3334519073e-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 4.1665795894e-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.6666665459e-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 5.0000001201e-1f));
  p = hn::Add(hn::MulAdd(hn::Mul(p, r), r, r), hn::Set(d, 1.0f));
  // Times 2^n, in the exponent bits; right while the result is a normal number.
  const auto bits = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  // The comparison is false for NaN, and its p is NaN: kept by testing for "small" instead.
  return hn::IfThenZeroElse(hn::Lt(x, hn::Set(d, -87.33f)), hn::BitCast(d, bits));
}

/// A vector whose first `count` lanes are loaded from p and whose others are `fill`; reads nothing
/// past the count.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LoadFirst(D d, const float* HWY_RESTRICT p, std::size_t count, V fill) {
  const auto mask = hn::FirstN(d, count);
  return hn::IfThenElse(mask, hn::MaskedLoad(mask, d, p), fill);
}

/// Stores the first `count` lanes and touches nothing past them.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void StoreFirst(D d, V v, float* HWY_RESTRICT p, std::size_t count) {
  hn::BlendedStore(v, hn::FirstN(d, count), d, p);
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
