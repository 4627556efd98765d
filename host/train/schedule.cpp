// SPDX-License-Identifier: Apache-2.0
#include <dgm/train/schedule.hpp>

#include "host/core/check.hpp"
#include "host/train/schedule_args.hpp"

#include <cmath>

namespace dgm {

namespace {

void check_rate(const char* name, double rate) {
  check<ArgumentError>(std::isfinite(rate) && rate >= 0, "Schedule: ", name, " is ", rate,
                       "; a finite number, at least 0, is needed");
}

}  // namespace

Schedule::Schedule(Kind kind, double rate, int64_t span, double target)
    : kind_(kind), rate_(rate), span_(span), target_(target) {
  check_rate("rate", rate);
  check_rate(kind == Kind::linear || kind == Kind::cosine ? "target" : "factor", target);
  check<ArgumentError>(span >= 1,
                       "Schedule: ", kind == Kind::linear || kind == Kind::cosine ? "updates is " : "every is ", span,
                       "; at least 1 is needed");
}

Schedule::Schedule(double rate) : Schedule(Kind::constant, rate, 1, 1) {}

Schedule Schedule::linear(double rate, int64_t updates, double target) {
  return Schedule(Kind::linear, rate, updates, target);
}

Schedule Schedule::cosine(double rate, int64_t updates, double target) {
  return Schedule(Kind::cosine, rate, updates, target);
}

Schedule Schedule::exponential(double rate, double factor, int64_t every) {
  return Schedule(Kind::exponential, rate, every, factor);
}

Schedule Schedule::step(double rate, double factor, int64_t every) { return Schedule(Kind::step, rate, every, factor); }

Schedule Schedule::with_warmup(int64_t updates) const {
  check<ArgumentError>(updates >= 1, "Schedule::with_warmup: updates is ", updates, "; at least 1 is needed");
  Schedule result = *this;
  result.warmup_ = updates;
  return result;
}

double Schedule::at(int64_t t) const {
  check<ArgumentError>(t >= 0, "Schedule::at: t is ", t, "; at least 0 is needed");
  return kernels::scheduled_rate(schedule_args(*this), t);
}

}  // namespace dgm
