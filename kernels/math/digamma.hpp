// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>

namespace dgm {

/// d log Gamma(x) / dx for x > 0: recurrence up to 6, then the asymptotic series. Relative error 1e-12 away from its
/// zero at 1.4616.
DGM_HD inline double digamma(double x) {
  double result = 0;
  for (; x < 6; x += 1) result -= 1 / x;
  const double y = 1 / (x * x);
  return result + log(x) - 0.5 / x -
         y * (1.0 / 12 - y * (1.0 / 120 - y * (1.0 / 252 - y * (1.0 / 240 - y * (1.0 / 132 - y * (691.0 / 32760))))));
}

}  // namespace dgm
