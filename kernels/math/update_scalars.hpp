// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/optimiser.hpp"

namespace dgm::kernels {

inline constexpr double kLargestGradient = 1.8e19;
inline constexpr float kLargestFloat = 3.402823466e38f;

/// The one thread's work of UpdateScalars, given the sum of squares of the gradient.
DGM_HD inline void finish_update_scalars(const UpdateScalars& args, double square_sum) {
  const double norm = sqrt(square_sum);
  const double scale = args.clip_norm > 0 && norm > args.clip_norm ? args.clip_norm / norm : 1.0;
  // Above the root of the largest f32 a second moment would overflow. Negated, so that NaN is
  // skipped too, which 0 * inf gives as well.
  const bool skip = args.skip_non_finite && !(norm * scale <= kLargestGradient);
  const int64_t calls = args.counters[kUpdates] + args.counters[kSkipped];
  if (skip) {
    args.counters[kSkipped] += 1;
    args.counters[kLastSkipped] = calls;
  } else {
    args.counters[kUpdates] += 1;
  }
  const int64_t t = args.counters[kUpdates];
  const double rate = scheduled_rate(args.schedule, t > 0 ? t - 1 : 0);
  // 1 - beta^t loses all digits for beta near 1 and small t; expm1 loses none. log(0) = -inf is
  // right too: 1 - 0^t = 1.
  const double left1 = -expm1(static_cast<double>(t) * log(args.beta1));
  const double left2 = -expm1(static_cast<double>(t) * log(args.beta2));
  StepScalars& out = *args.scalars;
  out.rate = static_cast<float>(rate);
  out.step_size = static_cast<float>(rate / left1);
  out.root = static_cast<float>(1.0 / sqrt(left2));
  out.scale = static_cast<float>(scale);
  // Finite exactly where the update is made: what reads it later sees what was skipped.
  out.norm = !skip && norm > kLargestFloat ? kLargestFloat : static_cast<float>(norm);
  if (skip && norm <= kLargestFloat) out.norm = INFINITY;
  out.skip = skip ? 1 : 0;
}

}  // namespace dgm::kernels
