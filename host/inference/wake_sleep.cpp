// SPDX-License-Identifier: Apache-2.0
#include <dgm/inference/importance.hpp>
#include <dgm/inference/wake_sleep.hpp>

#include "host/core/check.hpp"
#include "host/inference/weighted.hpp"

namespace dgm {

WakeSleep::WakeSleep(const LatentJoint& joint, Proposal proposal, Sleep sleep, int64_t samples, WakePhase wake)
    : joint_(joint), proposal_(std::move(proposal)), sleep_(std::move(sleep)), samples_(samples), wake_(wake) {
  check<ArgumentError>(samples >= 1, "WakeSleep: samples is ", samples, "; at least 1 is needed");
  check<ArgumentError>(proposal_ != nullptr, "WakeSleep: proposal is empty; one that is trained is needed");
  check<ArgumentError>(sleep_ != nullptr, "WakeSleep: sleep is empty; what draws dreams is needed");
}

std::string WakeSleep::name() const {
  const char* const kind = wake_ == WakePhase::unweighted ? "wake-sleep"
                           : wake_ == WakePhase::weighted ? "reweighted wake, sleep"
                                                          : "reweighted wake and sleep";
  return text(kind, " (S = ", samples_, ")");
}

Estimate WakeSleep::operator()(Tape& tape, const Draws& draws) const {
  const Variable dreamed = sleep_(tape, draws.at(kSleepSite));
  check<ShapeError>(dreamed.shape().rank() == 1, name(), ": the dreams' log q has shape ", dreamed.shape().str(),
                    "; (M) is needed");
  const Variable dreams = sum(dreamed);
  const Proposal constant = [this](Tape& on) { return proposal_(on)->detach(); };
  if (wake_ != WakePhase::unweighted) {
    const Proposal& q = wake_ == WakePhase::weighted ? constant : proposal_;
    Estimate estimate = ImportanceSampling(joint_, q, samples_)(tape, draws);
    estimate.objective = estimate.objective + dreams;
    return estimate;
  }
  const std::unique_ptr<VectorDistribution> q = constant(tape);
  const Variable z = q->sample(draws, samples_, joint_.data());
  const Variable log_joint = joint_.prior(tape)->log_prob(z) + joint_.log_likelihood(tape, z);
  const Variable log_weights = log_joint.detach() - q->log_prob(z);
  const Variable each = has_density(log_joint) * (1.0f / static_cast<float>(samples_));
  return {.objective = weighted_sum(each.value(), log_joint) + dreams,
          .log_marginal = mean(log_weights, -1).value(),
          .log_weights = log_weights.value()};
}

}  // namespace dgm
