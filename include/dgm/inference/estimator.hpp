// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/joint.hpp>

#include <optional>
#include <string>

namespace dgm {

/// What an estimator makes of a joint.
struct Estimate {
  /// Rank 0. Its gradient estimates that of sum_b log p(x_b), or of the bound that the estimator names. Its value
  /// may mean nothing.
  Variable objective;
  /// log p(x_b), (B), exact, estimated or bounded, for reports.
  Tensor<float> log_marginal;
  /// Of the weights of each datum's draws, (B); none for an estimator without weights.
  std::optional<Tensor<float>> effective_sample_size = {};
  /// The log weights themselves, (B, S): pareto_shape() tells from them whether the proposal misses the posterior.
  std::optional<Tensor<float>> log_weights = {};
  /// How often proposed moves of the datum's chains were accepted, (B); none for an estimator without chains.
  std::optional<Tensor<float>> acceptance_rate = {};
};

/// A way to the gradient of the log marginal of one batch,
///
///   grad log p(x) = E_{p(z|x)} [ grad log p(x, z) ],
///
/// where backpropagation alone does not get through the sum or integral over z. An estimator is made for a joint,
/// which must outlive it; from then on all share this interface, so any of them trains any model, and compare()
/// holds them against the exact gradient.
class Estimator {
 public:
  virtual ~Estimator() = default;
  /// "exact", "posterior sampling (S = 4)", ...
  virtual std::string name() const = 0;
  /// Queues the work and does not wait. draws: at a site that nothing else of the step uses.
  virtual Estimate operator()(Tape& tape, const Draws& draws) const = 0;
};

/// Sums z out in log space: the exact gradient, without variance.
class Exact : public Estimator {
 public:
  explicit Exact(const FiniteJoint& joint) : joint_(joint) {}
  std::string name() const override { return "exact"; }
  Estimate operator()(Tape& tape, const Draws& draws) const override;

 private:
  const FiniteJoint& joint_;
};

/// Draws z_s ~ p(z | x) and averages: (1/S) sum_s grad log p(x, z_s). Unbiased, with variance of order
/// 1/S; each sample costs one evaluation of the joint instead of K.
class PosteriorSampling : public Estimator {
 public:
  /// Throws ArgumentError if samples < 1.
  explicit PosteriorSampling(const FiniteJoint& joint, int64_t samples = 1);
  std::string name() const override;
  Estimate operator()(Tape& tape, const Draws& draws) const override;

 private:
  const FiniteJoint& joint_;
  int64_t samples_;
};

}  // namespace dgm
