// SPDX-License-Identifier: Apache-2.0
// What results are held to: plain long-double loops, and their numerical derivatives. Nothing here
// is shared with the library.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

namespace dgm::test {

using Real = long double;
using Reals = std::vector<Real>;

inline Reals to_reals(const std::vector<float>& values) { return {values.begin(), values.end()}; }

/// Normal numbers times scale plus shift, from a seed.
inline std::vector<float> random_normals(int64_t count, uint64_t seed, double scale = 1.0, double shift = 0.0) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal(shift, scale);
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(normal(generator));
  return values;
}

/// log sum_i exp(x_i) in two passes; -inf for nothing but -inf.
inline Real log_sum_exp(const Reals& x) {
  Real max = -INFINITY;
  for (const Real value : x) {
    if (std::isnan(value)) return value;
    max = std::max(max, value);
  }
  if (std::isinf(max)) return max;
  Real sum = 0;
  for (const Real value : x) sum += std::exp(value - max);
  return max + std::log(sum);
}

/// Central differences of a scalar function of the reference, at every element of x.
inline Reals central_differences(const std::function<Real(const Reals&)>& f, Reals x, Real step = 1e-6L) {
  Reals gradient(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Real at = x[i];
    const Real h = step * std::max<Real>(1, std::abs(at));
    x[i] = at + h;
    const Real above = f(x);
    x[i] = at - h;
    const Real below = f(x);
    x[i] = at;
    gradient[i] = (above - below) / (2 * h);
  }
  return gradient;
}

/// Expects |got - wanted| <= bound * max(1, |wanted|) everywhere; infinities and NaN must agree.
/// Prints index, got, wanted, error and bound of the worst element.
inline void expect_close(const std::vector<float>& got, const Reals& wanted, double bound, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.size()) << what;
  std::size_t worst = 0;
  double worst_error = -1;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Real g = got[i];
    const Real w = wanted[i];
    double error = 0;
    if (std::isnan(g) || std::isnan(w)) {
      error = std::isnan(g) && std::isnan(w) ? 0 : INFINITY;
    } else if (std::isinf(g) || std::isinf(w)) {
      error = g == w ? 0 : INFINITY;
    } else {
      error = static_cast<double>(std::abs(g - w) / std::max<Real>(1, std::abs(w)));
    }
    if (error > worst_error) {
      worst_error = error;
      worst = i;
    }
  }
  if (worst_error > bound) {
    ADD_FAILURE() << what << ": element " << worst << " of " << got.size() << ": got " << got[worst] << ", wanted "
                  << static_cast<double>(wanted[worst]) << ", error " << worst_error << " > bound " << bound;
  }
}

}  // namespace dgm::test
