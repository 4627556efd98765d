// SPDX-License-Identifier: Apache-2.0
// A log-sum-exp in the making: the largest term so far, and the sum of exp(term - max).
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>

namespace dgm {

struct LogSum {
  float max = -INFINITY;
  float sum = 0.0f;

  DGM_HD float log() const {
    if (sum == 0.0f) return max;                   // no term, or -inf terms only
    if (max == INFINITY) return max + 0.0f * sum;  // the sum may be NaN, and then so is the result
    return max + logf(sum);
  }
};

DGM_HD inline LogSum merge(LogSum a, LogSum b) {
  // Equal maxima first: -inf against -inf would make the gap NaN.
  const float scale = a.max == b.max ? 1.0f : expf(-fabsf(a.max - b.max));
  // Not fmaxf, which drops a NaN.
  if (a.max >= b.max) return {a.max, a.sum + b.sum * scale};
  return {b.max, b.sum + a.sum * scale};
}

DGM_HD inline LogSum add(LogSum a, float term) {
  // A NaN term fails every comparison and must stay: it goes in as max and sum.
  if (term != term) return {term, term};
  if (term == -INFINITY) return a;
  return merge(a, {term, 1.0f});
}

}  // namespace dgm
