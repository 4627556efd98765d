// SPDX-License-Identifier: Apache-2.0
// The maths of kernels/math/scalar_lanes.hpp on SIMD vectors, over the whole range of a float. Each
// function states its maximal error, found by running it over one float in 257 and all edges.
#if defined(DGM_HOST_CPU_LANES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_LANES_INL
#undef DGM_HOST_CPU_LANES_INL
#else
#define DGM_HOST_CPU_LANES_INL
#endif

#include "host/cpu/simd-inl.hpp"

#undef DGM_LANES_BEGIN
#undef DGM_LANES_END
#undef DGM_LANES_FN
#define DGM_LANES_BEGIN   \
  HWY_BEFORE_NAMESPACE(); \
  namespace dgm::kernels::HWY_NAMESPACE {
#define DGM_LANES_END \
  }                   \
  HWY_AFTER_NAMESPACE();
#define DGM_LANES_FN HWY_INLINE

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

struct Lanes {
  using D = hn::ScalableTag<float>;
  using DI = hn::RebindToSigned<D>;
  using V = hn::Vec<D>;

  static HWY_INLINE V set(float x) { return hn::Set(D(), x); }
  static HWY_INLINE V neg(V x) { return hn::Neg(x); }
  static HWY_INLINE V abs(V x) { return hn::Abs(x); }
  static HWY_INLINE V sqrt(V x) { return hn::Sqrt(x); }
  static HWY_INLINE V if_less(V a, V b, V yes, V no) { return hn::IfThenElse(hn::Lt(a, b), yes, no); }
  static HWY_INLINE V if_less_equal(V a, V b, V yes, V no) { return hn::IfThenElse(hn::Le(a, b), yes, no); }

  /// 1.1 ulp, half the last bit for results below the smallest normal number.
  static HWY_INLINE V exp(V x) {
    const D d;
    const DI di;
    // Beyond these bounds the result is 0 or infinite anyway, and the integers below would overflow.
    x = if_less(x, set(-105.0f), set(-105.0f), if_less(set(89.5f), x, set(89.5f), x));
    const V n = hn::Round(x * set(1.44269504088896341f));
    V r = hn::NegMulAdd(n, set(0.693359375f), x);
    r = hn::NegMulAdd(n, set(-2.12194440e-4f), r);
    V p = set(1.9875691500e-4f);
    p = hn::MulAdd(p, r, set(1.3981999507e-3f));
    p = hn::MulAdd(p, r, set(8.3334519073e-3f));
    p = hn::MulAdd(p, r, set(4.1665795894e-2f));
    p = hn::MulAdd(p, r, set(1.6666665459e-1f));
    p = hn::MulAdd(p, r, set(5.0000001201e-1f));
    p = hn::MulAdd(p * r, r, r) + set(1.0f);
    // 2^n in two factors: neither leaves the normal numbers, their product may.
    const auto whole = hn::ConvertTo(di, n);
    const auto half = hn::ShiftRight<1>(whole);
    const auto bias = hn::Set(di, 127);
    const V first = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(half, bias)));
    const V second = hn::BitCast(d, hn::ShiftLeft<23>(hn::Add(hn::Sub(whole, half), bias)));
    return p * first * second;
  }

  /// 0.8 ulp; -inf at 0, NaN below.
  static HWY_INLINE V log(V x) {
    const V inf = set(std::numeric_limits<float>::infinity());
    const V small = set(1.17549435e-38f);
    const auto subnormal = hn::Lt(x, small);
    const V y = log_normal(hn::IfThenElse(subnormal, x * set(8388608.0f), x),
                           hn::IfThenElse(subnormal, set(-23.0f), set(0.0f)));
    const V at_zero = if_less(x, set(0.0f), set(std::numeric_limits<float>::quiet_NaN()), neg(inf));
    // x + x keeps NaN and infinity.
    return if_less_equal(x, set(0.0f), at_zero, if_less(x, inf, y, x + x));
  }

  /// 2 ulp for -0.25 <= x <= 1.
  static HWY_INLINE V log1p(V x) {
    // 1 + x is never formed, so nothing of x is lost: it is 1 + f, or 2 (1 + f) with f = (x - 1) / 2.
    const auto large = hn::Ge(x, set(0.41421356f));
    const V f = hn::IfThenElse(large, set(0.5f) * (x - set(1.0f)), x);
    return log_of(f, hn::IfThenElseZero(large, set(1.0f)));
  }

  /// 2 ulp.
  static HWY_INLINE V tanh(V x) {
    const V z = x * x;
    V p = set(-5.660780460e-3f);
    p = hn::MulAdd(p, z, set(2.060199915e-2f));
    p = hn::MulAdd(p, z, set(-5.372922704e-2f));
    p = hn::MulAdd(p, z, set(1.333132892e-1f));
    p = hn::MulAdd(p, z, set(-3.333327831e-1f));
    const V near = hn::MulAdd(p * z, x, x);
    const V a = abs(x);
    const V e = exp(set(-2.0f) * a);
    const V far = hn::CopySignToAbs((set(1.0f) - e) / (set(1.0f) + e), x);
    return if_less(a, set(0.625f), near, far);
  }

  /// Absolute error 1e-7.
  static HWY_INLINE V normal_cdf(V x) {
    const V t = set(1.0f) / hn::MulAdd(set(0.4f * 0.70710678f), abs(x), set(1.0f));
    const V q = set(0.5f) * erfcx_at(t) * exp(set(-0.5f) * x * x);
    return if_less(x, set(0.0f), q, set(1.0f) - q);
  }

  /// exp(z^2) erfc(z) for z >= 0, 4 ulp.
  static HWY_INLINE V erfcx(V z) {
    // The fit does not reach infinity: there the series does.
    const V inverse = set(1.0f) / z;
    const V square = inverse * inverse;
    V far = hn::MulAdd(set(-1.875f), square, set(0.75f));
    far = hn::MulAdd(far, square, set(-0.5f));
    far = hn::MulAdd(far, square, set(1.0f)) * inverse * set(0.56418958f);
    return if_less(z, set(12.0f), erfcx_at(set(1.0f) / hn::MulAdd(set(0.4f), z, set(1.0f))), far);
  }

 private:
  // erfcx(z) = t P(t) with t = 1 / (1 + 0.4 z), P fitted to a relative error of 2e-8 for z < 12.
  static HWY_INLINE V erfcx_at(V t) {
    V p = set(-2.310163733e-2f);
    p = hn::MulAdd(p, t, set(1.634070404e-1f));
    p = hn::MulAdd(p, t, set(-4.191517114e-1f));
    p = hn::MulAdd(p, t, set(4.437521483e-1f));
    p = hn::MulAdd(p, t, set(-2.004914926e-1f));
    p = hn::MulAdd(p, t, set(2.284490231e-1f));
    p = hn::MulAdd(p, t, set(1.442227976e-1f));
    p = hn::MulAdd(p, t, set(2.119280425e-1f));
    p = hn::MulAdd(p, t, set(2.252956853e-1f));
    p = hn::MulAdd(p, t, set(2.256901223e-1f));
    return p * t;
  }

  // log(x) + exponent ln 2 for a normal x > 0.
  static HWY_INLINE V log_normal(V x, V exponent) {
    const D d;
    const DI di;
    // x = 2^e (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)).
    const auto root_half = hn::Set(di, 0x3f3504f3);
    const auto bits = hn::Sub(hn::BitCast(di, x), root_half);
    const V e = hn::ConvertTo(d, hn::ShiftRight<23>(bits)) + exponent;
    const V f = hn::BitCast(d, hn::Add(hn::And(bits, hn::Set(di, 0x007fffff)), root_half)) - set(1.0f);
    return log_of(f, e);
  }

  // log(1 + f) + e ln 2 for 1 + f in [sqrt(1/2), sqrt(2)].
  static HWY_INLINE V log_of(V f, V e) {
    V p = set(6.915367995e-2f);
    p = hn::MulAdd(p, f, set(-1.178980766e-1f));
    p = hn::MulAdd(p, f, set(1.187297631e-1f));
    p = hn::MulAdd(p, f, set(-1.238434848e-1f));
    p = hn::MulAdd(p, f, set(1.421865809e-1f));
    p = hn::MulAdd(p, f, set(-1.666925082e-1f));
    p = hn::MulAdd(p, f, set(2.000222661e-1f));
    p = hn::MulAdd(p, f, set(-2.499998660e-1f));
    p = hn::MulAdd(p, f, set(3.333331044e-1f));
    const V ff = f * f;
    V y = p * f * ff;
    y = hn::MulAdd(e, set(-2.12194440e-4f), y);
    y = hn::NegMulAdd(set(0.5f), ff, y);
    return hn::MulAdd(e, set(0.693359375f), f + y);
  }
};

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
