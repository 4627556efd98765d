// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/estimator.hpp>
#include <dgm/inference/latent_joint.hpp>

namespace dgm {

struct ElboOptions {
  int64_t samples = 1;
  /// KL(q || p) in closed form instead of from the draws: less variance, where the distributions have one.
  bool analytic_kl = true;
  /// Nats that each coordinate's KL, averaged over the batch, may have for nothing: below, it is not pushed further
  /// down, so that a strong decoder does not make all of q the prior (posterior collapse). Needs analytic_kl.
  float free_bits = 0.0f;
  /// A factor of the KL, rank 0, read when the step runs: raise it from 0 to 1 in the first steps (KL annealing).
  /// None: 1.
  std::optional<Tensor<float>> kl_weight = {};
};

/// The reparameterised evidence lower bound: log p(x) >= E_q [log p(x | z)] - KL(q(z | x) || p(z)), with gradients
/// through the draws. Unbiased for the bound's gradient; the bound is log p(x) where q is the posterior. Source Kingma
/// & Welling 2014; free bits: Kingma et al. 2016; annealing: Bowman et al. 2016.
class ReparameterisedElbo : public Estimator {
 public:
  /// Throws ArgumentError if samples < 1, free_bits < 0, or free_bits > 0 without analytic_kl.
  ReparameterisedElbo(const LatentJoint& joint, Proposal proposal, ElboOptions options = {});
  std::string name() const override;
  /// log_marginal is the bound itself, (B), whatever free_bits and kl_weight are.
  /// Throws ArgumentError if a trained proposal's draws are not reparameterised, or if analytic_kl is wanted of
  /// distributions that have no closed form.
  Estimate operator()(Tape& tape, const Draws& draws) const override;

 private:
  const LatentJoint& joint_;
  Proposal proposal_;
  ElboOptions options_;
};

}  // namespace dgm
