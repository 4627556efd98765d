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

/// exp(x) for x <= 88.3 (above: unspecified) with a relative error below 1e-7; exactly 0 below -87.33, so for
/// -inf too; NaN gives NaN. No branch, about 12 instructions.
template <class D, class V>
HWY_INLINE V ExpBelow88(D d, V x) {
  // x = n ln 2 + r with |r| <= ln(2)/2, ln 2 in two parts. Adding 1.5 * 2^23 rounds n to an integer, which is then in
  // the low bits.
  const V shifter = hn::Set(d, 12582912.0f);
  const V shifted = hn::MulAdd(x, hn::Set(d, 1.44269504088896341f), shifter);
  const V n = hn::Sub(shifted, shifter);
  V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), x);
  r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
  // 1 + r + r^2 q(r), q fitted to a relative error of 5e-9.
  V p = hn::Set(d, 0x1.6a2352p-10f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.123a6cp-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.5558f4p-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.555490p-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.fffffcp-2f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
#if HWY_TARGET <= HWY_AVX3
  if constexpr (hn::MaxLanes(D()) == 16) {
    // Not less than: NaN is to stay.
    const __mmask16 large = _mm512_cmp_ps_mask(x.raw, _mm512_set1_ps(-87.33f), _CMP_NLT_UQ);
    return V{_mm512_maskz_scalef_ps(large, p.raw, n.raw)};
  }
#endif
  // Times 2^n, in the exponent bits; right while the result is a normal number.
  const hn::RebindToSigned<D> di;
  const auto bits = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  const auto small = hn::IfThenElseZero(hn::IsNaN(x), x);
  return hn::IfThenElse(hn::Ge(x, hn::Set(d, -87.33f)), hn::BitCast(d, bits), small);
}

/// 2^x for x <= 0 with a relative error below 1.8e-7, 1 for 0; 0 below -150, so for -inf too. NaN: unspecified.
HWY_INLINE VecF32 Exp2Below0(F32 d, VecF32 x) {
#if HWY_TARGET <= HWY_AVX3
  // The fraction, 0 for -inf, and the scaling by 2^floor(x) are an instruction each.
  const VecF32 r = VecF32{_mm512_reduce_ps(x.raw, _MM_FROUND_TO_NEG_INF)};
  VecF32 p = hn::Set(d, 0x1.e974fcp-10f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.277854p-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.c91ce6p-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.ebdb56p-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.62e4bap-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  return VecF32{_mm512_scalef_ps(p.raw, x.raw)};
#else
  const hn::RebindToSigned<F32> di;
  // Adding 1.5 * 2^23 rounds to an integer, which is then in the low bits.
  const VecF32 shifter = hn::Set(d, 12582912.0f);
  const VecF32 shifted = hn::Add(x, shifter);
  const VecF32 r = hn::Sub(x, hn::Sub(shifted, shifter));
  VecF32 p = hn::Set(d, 0x1.5bba14p-10f);
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.3cea88p-7f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.c6b752p-5f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.ebf9bcp-3f));
  p = hn::MulAdd(p, r, hn::Set(d, 0x1.62e42ap-1f));
  p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
  const auto bits = hn::Add(hn::BitCast(di, p), hn::ShiftLeft<23>(hn::BitCast(di, shifted)));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(d, -126.0f)), hn::BitCast(d, bits));
#endif
}

/// A vector whose first `count` lanes are loaded from p and whose others are `fill`; reads nothing
/// past the count.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V LoadFirst(D d, const float* HWY_RESTRICT p, std::size_t count, V fill) {
#if HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
  // There MaskedLoad reads the whole vector.
  float lanes[HWY_MAX_BYTES / sizeof(float)] = {};
  for (std::size_t i = 0; i < count; ++i) lanes[i] = p[i];
  return hn::IfThenElse(hn::FirstN(d, count), hn::LoadU(d, lanes), fill);
#else
  const auto mask = hn::FirstN(d, count);
  return hn::IfThenElse(mask, hn::MaskedLoad(mask, d, p), fill);
#endif
}

/// Stores the first `count` lanes and touches nothing past them.
template <class D, class V = hn::Vec<D>>
HWY_INLINE void StoreFirst(D d, V v, float* HWY_RESTRICT p, std::size_t count) {
  hn::BlendedStore(v, hn::FirstN(d, count), d, p);
}

/// body(i, lanes) for whole vectors of 0..count-1, then body(i, rest) for what is left, if anything.
template <class Body>
HWY_INLINE void ForVectors(int64_t count, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(i, lanes);
  if (i < count) body(i, count - i);
}

/// LoadFirst and StoreFirst for a count that mostly is a whole vector, as in ForVectors.
HWY_INLINE VecF32 LoadSome(const float* p, int64_t count, float fill) {
  const F32 d;
  if (count == static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, p);
  return LoadFirst(d, p, static_cast<std::size_t>(count), hn::Set(d, fill));
}

HWY_INLINE void StoreSome(VecF32 v, float* p, int64_t count) {
  const F32 d;
  if (count == static_cast<int64_t>(hn::Lanes(d))) {
    hn::StoreU(v, d, p);
  } else {
    StoreFirst(d, v, p, static_cast<std::size_t>(count));
  }
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
