// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>
#include <cstdint>

namespace dgm {

/// What entry s adds to the log-sum-exp of a row of n log weights, over the row in which it is the mean of the others;
/// 0 where that row is all -inf. NaN for a row with NaN or +inf.
DGM_HD inline float leave_one_out_gain_of(const float* l, int64_t n, int64_t s) {
  float max_others = -INFINITY;
  double sum_others = 0;
  for (int64_t j = 0; j < n; ++j) {
    if (!(l[j] < INFINITY)) return NAN;
    if (j == s) continue;
    max_others = fmaxf(max_others, l[j]);
    sum_others += static_cast<double>(l[j]);
  }
  if (max_others == -INFINITY) return 0.0f;
  // Relative to the largest of the others, which may lie far below l[s].
  double others = 0;
  for (int64_t j = 0; j < n; ++j) {
    if (j != s) others += static_cast<double>(expf(l[j] - max_others));
  }
  // The mean in double: it is a small difference of large numbers.
  const double mean = sum_others / static_cast<double>(n - 1);
  const float replaced = static_cast<float>(others) + expf(static_cast<float>(mean - static_cast<double>(max_others)));
  const float own = l[s] - max_others;
  // log(others + e^own) without overflow for own > 0.
  const float all = own <= 0.0f ? logf(static_cast<float>(others) + expf(own))
                                : own + log1pf(static_cast<float>(others) * expf(-own));
  return all - logf(replaced);
}

}  // namespace dgm
