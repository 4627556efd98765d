// SPDX-License-Identifier: Apache-2.0
// Learning rate of an update, from its number: evaluated where the step counter lives, so that no
// step waits for the host and a replayed graph follows the schedule.
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>
#include <cstdint>

namespace dgm::kernels {

enum class ScheduleKind : int32_t { constant, linear, cosine, exponential, step };

struct ScheduleArgs {
  ScheduleKind kind;
  double rate;     // at the end of the warm-up
  int64_t warmup;  // updates in which the rate climbs linearly to `rate`
  double span;     // updates until `final` (linear, cosine) or between factors (exponential, step)
  double target;   // the final rate (linear, cosine) or the factor (exponential, step)
};

/// Rate of update `step`, counted from 0.
DGM_HD inline double scheduled_rate(const ScheduleArgs& schedule, int64_t step) {
  if (step < schedule.warmup) {
    return schedule.rate * static_cast<double>(step + 1) / static_cast<double>(schedule.warmup);
  }
  const double spans = static_cast<double>(step - schedule.warmup) / schedule.span;
  const double done = spans < 1.0 ? spans : 1.0;
  switch (schedule.kind) {
    case ScheduleKind::linear:
      return schedule.rate + (schedule.target - schedule.rate) * done;
    case ScheduleKind::cosine:
      return schedule.target + (schedule.rate - schedule.target) * 0.5 * (1.0 + cos(3.14159265358979323846 * done));
    case ScheduleKind::exponential:
      return schedule.rate * pow(schedule.target, spans);
    case ScheduleKind::step:
      return schedule.rate * pow(schedule.target, floor(spans));
    case ScheduleKind::constant:
      break;
  }
  return schedule.rate;
}

}  // namespace dgm::kernels
