// SPDX-License-Identifier: Apache-2.0
// Elementwise functions are written once, over "lanes": a type L with the maths below on values of
// type L::V, a float here and in the kernels, a SIMD vector in host/cpu/lanes-inl.hpp. The headers of
// such functions (kernels/math/*-inl.hpp) are included after one of the two.
//
// A type L has: V with + - * /; set, neg, abs, sqrt, exp, log, tanh;
//   log1p        log(1 + x) for -0.25 <= x <= 1
//   normal_cdf   the standard normal's distribution function
//   erfcx        exp(z^2) erfc(z) for z >= 0
//   if_less(a, b, yes, no), if_less_equal: no if a or b is NaN
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>

#define DGM_LANES_BEGIN namespace dgm::kernels::scalar {
#define DGM_LANES_END }
#define DGM_LANES_FN DGM_HD inline

namespace dgm::kernels::scalar {

struct Lanes {
  using V = float;
  DGM_HD static V set(float x) { return x; }
  DGM_HD static V neg(V x) { return -x; }
  DGM_HD static V abs(V x) { return fabsf(x); }
  DGM_HD static V sqrt(V x) { return sqrtf(x); }
  DGM_HD static V exp(V x) { return expf(x); }
  DGM_HD static V log(V x) { return logf(x); }
  DGM_HD static V log1p(V x) { return log1pf(x); }
  DGM_HD static V tanh(V x) { return tanhf(x); }
  DGM_HD static V normal_cdf(V x) { return 0.5f * erfcf(-0.70710678f * x); }
  DGM_HD static V erfcx(V z) {
#if defined(__CUDA_ARCH__)
    return erfcxf(z);
#else
    // The C library has no such function: in double, whose exponential goes far enough, then the series at infinity.
    const double x = z;
    const double inverse = 1 / (x * x);
    const double far = 0.56418958354775629 / x * (1 - inverse / 2 + 3 * inverse * inverse / 4);
    return static_cast<float>(x < 25 ? std::exp(x * x) * std::erfc(x) : far);
#endif
  }
  DGM_HD static V if_less(V a, V b, V yes, V no) { return a < b ? yes : no; }
  DGM_HD static V if_less_equal(V a, V b, V yes, V no) { return a <= b ? yes : no; }
};

}  // namespace dgm::kernels::scalar
