// SPDX-License-Identifier: Apache-2.0
// The fit of a generalised Pareto distribution to exceedances x > 0 by an average over a grid of
// theta = -k / sigma, weighted by the profile likelihood.
//
// Source: Zhang & Stephens 2009, "A new and efficient estimation method for the generalized Pareto
// distribution"; the prior on k as Vehtari et al. 2024, appendix C.
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>
#include <cstdint>

namespace dgm {

/// Points of the grid for n exceedances.
DGM_HD inline int pareto_grid(int64_t n) { return 30 + static_cast<int>(sqrt(static_cast<double>(n))); }

/// Point j = 0, 1, ... of the grid; quartile and largest are order statistics floor(n / 4 + 1/2) and n of the
/// exceedances, counted from 1.
DGM_HD inline double pareto_theta(int j, int grid, double quartile, double largest) {
  return 1 / largest + (1 - sqrt(grid / (j + 0.5))) / (3 * quartile);
}

/// Logarithm of the profile likelihood of theta, from k = mean_i log(1 - theta x_i).
DGM_HD inline double pareto_log_likelihood(int64_t n, double theta, double k) {
  return static_cast<double>(n) * (log(-theta / k) - k - 1);
}

/// k with a prior worth 10 observations of 1/2.
DGM_HD inline double pareto_with_prior(int64_t n, double k) {
  return (k * static_cast<double>(n) + 10 * 0.5) / (static_cast<double>(n) + 10);
}

}  // namespace dgm
