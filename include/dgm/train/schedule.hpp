// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm {

/// Learning rate as a function of the number of updates made so far, t = 0, 1, ... Evaluated on
/// the device, in double, rounded to float.
///
/// With a warm-up of W updates the rate is rate * (t + 1) / W while t < W, and below t counts from
/// the end of the warm-up. All functions throw ArgumentError for rates that are negative or not
/// finite, and for counts below 1.
class Schedule {
 public:
  /// Always `rate`. Implicit, so that a number will do wherever a schedule is wanted.
  Schedule(double rate);  // NOLINT(google-explicit-constructor)
  /// From `rate` at t = 0 in a straight line to `target` at t = updates, and constant after.
  static Schedule linear(double rate, int64_t updates, double target = 0);
  /// target + (rate - target) (1 + cos(pi t / updates)) / 2, and `target` after.
  /// Source    Loshchilov & Hutter 2017, SGDR, arXiv:1608.03983, equation 5 without restarts.
  static Schedule cosine(double rate, int64_t updates, double target = 0);
  /// rate * factor^(t / every), continuously.
  static Schedule exponential(double rate, double factor, int64_t every = 1);
  /// rate * factor^floor(t / every).
  static Schedule step(double rate, double factor, int64_t every);
  /// This schedule after a linear warm-up.
  Schedule with_warmup(int64_t updates) const;

  /// The rate of update t >= 0.
  double at(int64_t t) const;

  /// What the device is told.
  enum class Kind : int32_t { constant, linear, cosine, exponential, step };
  Kind kind() const { return kind_; }
  double rate() const { return rate_; }
  int64_t warmup() const { return warmup_; }
  int64_t span() const { return span_; }
  double target() const { return target_; }

 private:
  Schedule(Kind kind, double rate, int64_t span, double target);
  Kind kind_;
  double rate_;
  int64_t warmup_ = 0;
  int64_t span_;
  double target_;
};

}  // namespace dgm
