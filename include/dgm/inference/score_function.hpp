// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/estimator.hpp>
#include <dgm/inference/latent_joint.hpp>

namespace dgm {

/// What is subtracted from the learning signal l_bs = log p(x_b, z_bs) - log q(z_bs | x_b). None of them biases the
/// gradient; a good one takes most of its variance.
enum class Baseline {
  none,
  /// The mean of the signals of earlier steps, exponentially discounted.
  running_mean,
  /// A function of x, trained to predict the signal (NVIL), on top of the running mean.
  learned,
  /// The mean of the datum's other draws; needs S >= 2.
  leave_one_out,
  /// For the multi-sample bound log (1/S) sum_s w_s instead of the ELBO: each draw is credited with what the bound
  /// gains over the one in which its weight is the geometric mean of the others (VIMCO); needs S >= 2.
  vimco,
};

struct ScoreFunctionOptions {
  int64_t samples = 1;
  Baseline baseline = Baseline::running_mean;
  double decay = 0.9;  ///< of the running mean, in [0, 1)
  /// For Baseline::learned: predictions (B) on the tape. Their squared error is added to the objective (to be ascended,
  /// so with a minus), whose gradient trains them.
  std::function<Variable(Tape& tape)> predictions = {};
};

/// grad E_q [l] = E_q [grad log p(x, z) + (l - baseline) grad log q(z | x)]: works for any z, discrete ones too, since
/// no gradient flows through the draws.
///
/// The running mean is kept on the device and updated by every call.
/// Source    Williams 1992 (REINFORCE); Mnih & Gregor 2014 (NVIL); Mnih & Rezende 2016 (VIMCO).
class ScoreFunction : public Estimator {
 public:
  /// Throws ArgumentError if samples < 1, or < 2 for leave_one_out and vimco, for a decay outside [0, 1), or for a
  /// learned baseline without predictions.
  ScoreFunction(const LatentJoint& joint, Proposal proposal, ScoreFunctionOptions options = {});
  std::string name() const override;
  /// log_marginal is the mean of l (an estimate of the ELBO), for vimco the multi-sample bound.
  Estimate operator()(Tape& tape, const Draws& draws) const override;

 private:
  const LatentJoint& joint_;
  Proposal proposal_;
  ScoreFunctionOptions options_;
  mutable Tensor<float> running_mean_;  // rank 0
};

}  // namespace dgm
