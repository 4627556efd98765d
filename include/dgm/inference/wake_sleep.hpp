// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/estimator.hpp>
#include <dgm/inference/latent_joint.hpp>

#include <functional>

namespace dgm {

/// The site that a Sleep is given its draws at; the three after it are its own too.
inline constexpr int kSleepSite = 65520;

/// Dreams: draws z ~ p(z) and x ~ p(x | z) from the model as it is, with no gradient to it, and gives log q(z | x) for
/// each, (M), differentiable by the proposal's parameters.
using Sleep = std::function<Variable(Tape& tape, const Draws& draws)>;

/// How the model learns while awake.
enum class WakePhase {
  /// From draws of the proposal as they are: (1/S) sum_s grad log p(x, z_s), the gradient of the ELBO by the model
  /// alone. The proposal learns from dreams only (wake-sleep).
  unweighted,
  /// From draws weighted by what the posterior wants of them, as ImportanceSampling does; the proposal learns from
  /// dreams only (reweighted wake-sleep with sleep-phase updates).
  weighted,
  /// The same, and the proposal learns from the weighted draws and from dreams: the sum of both gradients.
  weighted_with_proposal,
};

/// Wake-sleep: the proposal is trained to invert what the model generates, by E_{p(z, x)} [grad log q(z | x)], instead
/// of through the draws or a score function. Works for any z. The two phases ascend different functions: there need not
/// be one that both increase.
/// Source    Hinton, Dayan, Frey & Neal 1995; Bornschein & Bengio 2015 (the reweighted wake phases).
class WakeSleep : public Estimator {
 public:
  /// Throws ArgumentError if samples < 1 or one of proposal and sleep is empty.
  WakeSleep(const LatentJoint& joint, Proposal proposal, Sleep sleep, int64_t samples = 1,
            WakePhase wake = WakePhase::unweighted);
  std::string name() const override;
  /// The objective is the sum of both phases'. log_marginal: an estimate of the ELBO for an unweighted wake phase, else
  /// that of ImportanceSampling, with effective sample size and weights.
  /// Throws ShapeError if the dreams' log q is not of shape (M).
  Estimate operator()(Tape& tape, const Draws& draws) const override;

 private:
  const LatentJoint& joint_;
  Proposal proposal_;
  Sleep sleep_;
  int64_t samples_;
  WakePhase wake_;
};

}  // namespace dgm
