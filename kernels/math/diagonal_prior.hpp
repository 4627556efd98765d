// SPDX-License-Identifier: Apache-2.0
// The alignment prior of Dyer, Chahuneau & Smith 2013, "A Simple, Fast, and Effective Reparameterization of
// IBM Model 2": of target position i in 1..m, source position j in 1..n,
//
//   p(NULL) = p0,  p(j) = (1 - p0) h(j) / sum_j h(j),  h(j) = exp(-tension |i/m - j/n|).
//
// On each side of the diagonal h is a geometric sequence, so its sum takes no loop over j.
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>
#include <cstdint>

namespace dgm {

struct DiagonalSum {
  double sum;       // of h over j
  double distance;  // the mean of |i/m - j/n| under h
};

/// sum_{q < k} exp(-x q) and sum_{q < k} q exp(-x q), x >= 0.
struct Geometric {
  double sum;
  double weighted;
};

DGM_HD inline Geometric geometric(double x, double k) {
  if (x * k < 1e-2) {
    // Below, the closed forms are differences of nearly equal numbers: the first terms of their series in x.
    const double q = k * (k - 1) / 2;
    const double q2 = q * (2 * k - 1) / 3;
    const double q3 = q * q;
    const double q4 = q2 * (3 * k * k - 3 * k - 1) / 5;
    return {k - x * (q - x / 2 * (q2 - x / 3 * q3)), q - x * (q2 - x / 2 * (q3 - x / 3 * q4))};
  }
  const double r = exp(-x);
  const double below = -expm1(-x);  // 1 - r
  const double rk = exp(-x * k);
  return {-expm1(-x * k) / below, (r - rk * (k - (k - 1) * r)) / (below * below)};
}

/// n >= 1, tension >= 0.
DGM_HD inline DiagonalSum diagonal_sum(int64_t i, int64_t m, int64_t n, double tension) {
  const double at = static_cast<double>(i) / static_cast<double>(m);
  const int64_t below = i * n / m;  // source positions that are not beyond the diagonal
  const int64_t above = n - below;
  const double width = 1.0 / static_cast<double>(n);
  double sum = 0;
  double distance = 0;
  if (below > 0) {
    const double nearest = at - static_cast<double>(below) * width;
    const Geometric g = geometric(tension * width, static_cast<double>(below));
    const double h = exp(-tension * nearest);
    sum += h * g.sum;
    distance += h * (nearest * g.sum + width * g.weighted);
  }
  if (above > 0) {
    const double nearest = static_cast<double>(below + 1) * width - at;
    const Geometric g = geometric(tension * width, static_cast<double>(above));
    const double h = exp(-tension * nearest);
    sum += h * g.sum;
    distance += h * (nearest * g.sum + width * g.weighted);
  }
  return {sum, distance / sum};
}

}  // namespace dgm
