// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/joint.hpp>

#include <string>

namespace dgm {

/// What an estimator makes of a joint.
struct Estimate {
  /// Rank 0. Its gradient estimates that of sum_b log p(x_b). Its value may mean nothing.
  Variable objective;
  /// log p(x_b), (B), exact or estimated, for reports.
  Tensor<float> log_marginal;
};

/// A way to the gradient of the log marginal,
///
///   grad log p(x) = E_{p(z|x)} [ grad log p(x, z) ],
///
/// where backpropagation alone does not get through the sum over z. All estimators share this
/// interface, so any of them trains any model, and compare() holds them against the exact gradient.
class Estimator {
 public:
  virtual ~Estimator() = default;
  /// "exact", "posterior sampling (S = 4)", ...
  virtual std::string name() const = 0;
  /// Queues the work and does not wait. draws: at a site that nothing else of the step uses.
  virtual Estimate operator()(Tape& tape, const FiniteJoint& joint, const Draws& draws) const = 0;
};

/// Sums z out in log space: the exact gradient, without variance.
class Exact : public Estimator {
 public:
  std::string name() const override { return "exact"; }
  Estimate operator()(Tape& tape, const FiniteJoint& joint, const Draws& draws) const override;
};

/// Draws z_s ~ p(z | x) and averages: (1/S) sum_s grad log p(x, z_s). Unbiased, with variance of order
/// 1/S; each sample costs one evaluation of the joint instead of K.
class PosteriorSampling : public Estimator {
 public:
  /// Throws ArgumentError if samples < 1.
  explicit PosteriorSampling(int64_t samples = 1);
  std::string name() const override;
  Estimate operator()(Tape& tape, const FiniteJoint& joint, const Draws& draws) const override;

 private:
  int64_t samples_;
};

}  // namespace dgm
