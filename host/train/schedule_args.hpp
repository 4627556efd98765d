// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/train/schedule.hpp>

#include "kernels/math/schedule.hpp"

namespace dgm {

inline kernels::ScheduleArgs schedule_args(const Schedule& schedule) {
  kernels::ScheduleKind kind = kernels::ScheduleKind::constant;
  switch (schedule.kind()) {
    case Schedule::Kind::constant:
      break;
    case Schedule::Kind::linear:
      kind = kernels::ScheduleKind::linear;
      break;
    case Schedule::Kind::cosine:
      kind = kernels::ScheduleKind::cosine;
      break;
    case Schedule::Kind::exponential:
      kind = kernels::ScheduleKind::exponential;
      break;
    case Schedule::Kind::step:
      kind = kernels::ScheduleKind::step;
      break;
  }
  return {kind, schedule.rate(), schedule.warmup(), static_cast<double>(schedule.span()), schedule.target()};
}

}  // namespace dgm
