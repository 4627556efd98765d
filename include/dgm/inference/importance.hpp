// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/estimator.hpp>
#include <dgm/inference/latent_joint.hpp>

namespace dgm {

/// What is made of the weights w_s = p(x, z_s) / q(z_s | x), self-normalised to v_s = w_s / sum_j w_j.
enum class ImportanceGradient {
  /// Posterior-weighted: sum_s v_s grad log p(x, z_s) for the model, an estimate of E_{p(z|x)} [grad log p(x, z)]
  /// whose bias falls as 1/S; and sum_s v_s grad log q(z_s | x) for a trained proposal, which then approaches the
  /// posterior from outside (the wake phase of reweighted wake-sleep). z may be discrete.
  posterior_weighted,
  /// The gradient of log (1/S) sum_s w_s, for the model and through the draws for the proposal (IWAE): unbiased for
  /// that bound, which itself lies below log p(x) by about Var(w) / (2 S p(x)^2). The proposal's gradient drowns
  /// in noise as S grows. Needs reparameterised draws if the proposal is trained.
  iwae,
  /// The same expectation by the doubly reparameterised gradient: the model's as for iwae, the proposal's
  /// sum_s v_s^2 d log w_s / dz_s dz_s / dq, without the terms that only add noise (DReG).
  dreg,
};

/// Draws from a proposal, weighted by how much the posterior wants them.
/// Source    Burda, Grosse & Salakhutdinov 2016 (IWAE); Bornschein & Bengio 2015 (reweighted wake-sleep); Tucker,
///           Lawson, Gu & Maddison 2019 (DReG).
class ImportanceSampling : public Estimator {
 public:
  /// Throws ArgumentError if samples < 1.
  ImportanceSampling(const LatentJoint& joint, Proposal proposal, int64_t samples,
                     ImportanceGradient gradient = ImportanceGradient::posterior_weighted);
  std::string name() const override;
  /// log_marginal is log (1/S) sum_s w_s, a lower bound on log p(x_b) in expectation. A datum whose draws all have
  /// weight 0 has log_marginal -inf, effective sample size 0 and no gradient.
  /// Throws ArgumentError if the gradient needs reparameterised draws and the proposal has none.
  Estimate operator()(Tape& tape, const Draws& draws) const override;

 private:
  const LatentJoint& joint_;
  Proposal proposal_;
  int64_t samples_;
  ImportanceGradient gradient_;
};

}  // namespace dgm
