// SPDX-License-Identifier: Apache-2.0
#include <dgm/inference/importance.hpp>

#include "host/core/check.hpp"
#include "host/inference/weighted.hpp"

namespace dgm {

namespace {

// z, its gradient multiplied by a factor (B, S) that is known only once the forward pass is through.
using LateFactor = std::shared_ptr<std::optional<Tensor<float>>>;
Variable with_gradient_times(const Variable& z, const LateFactor& factor) {
  return Tape::record(z.value(), {z}, [factor](const Tensor<float>& g, Gradients& inputs) {
    const Tensor<float> per_draw = (*factor)->reshape({g.shape()[0], g.shape()[1], 1});
    inputs.add(0, multiply(g, per_draw).value());
  });
}

}  // namespace

ImportanceSampling::ImportanceSampling(const LatentJoint& joint, Proposal proposal, int64_t samples,
                                       ImportanceGradient gradient)
    : joint_(joint), proposal_(std::move(proposal)), samples_(samples), gradient_(gradient) {
  check<ArgumentError>(samples >= 1, "ImportanceSampling: samples is ", samples, "; at least 1 is needed");
}

std::string ImportanceSampling::name() const {
  const char* const kind = gradient_ == ImportanceGradient::iwae   ? "IWAE"
                           : gradient_ == ImportanceGradient::dreg ? "DReG"
                           : proposal_                             ? "importance"
                                                                   : "importance from the prior";
  return text(kind, " (S = ", samples_, ")");
}

Estimate ImportanceSampling::operator()(Tape& tape, const Draws& draws) const {
  const std::unique_ptr<VectorDistribution> prior = joint_.prior(tape);
  const std::unique_ptr<VectorDistribution> q = proposal_or_prior(proposal_, *prior, tape);
  const Variable drawn = q->sample(draws, samples_, joint_.data());

  if (gradient_ == ImportanceGradient::posterior_weighted) {
    const Variable z = drawn.detach();
    const Variable log_joint = prior->log_prob(z) + joint_.log_likelihood(tape, z);
    const Variable log_q = q->log_prob(z);
    const Tensor<float> log_weights = (log_joint.detach() - log_q.detach()).value();
    const ImportanceWeights weights = importance_weights(log_weights);
    Variable objective = weighted_sum(weights.weights.value(), log_joint);
    if (log_q.requires_grad()) objective = objective + weighted_sum(weights.weights.value(), log_q);
    return {objective, weights.log_mean.value(), weights.effective_sample_size, log_weights};
  }

  check<ArgumentError>(q->reparameterised() || !q->log_prob(drawn).requires_grad(), name(),
                       ": the proposal is trained but its draws let no gradient through; use posterior_weighted, or "
                       "the score function");
  const bool doubly = gradient_ == ImportanceGradient::dreg;
  const auto factor = std::make_shared<std::optional<Tensor<float>>>();
  const Variable z = doubly ? with_gradient_times(drawn, factor) : drawn;
  const Variable log_q = doubly ? q->detach()->log_prob(z) : q->log_prob(z);
  const Variable log_weights = prior->log_prob(z) + joint_.log_likelihood(tape, z) - log_q;
  const ImportanceWeights weights = importance_weights(log_weights);
  *factor = weights.weights.value();
  // The gradient of log_mean by the log weights is the weights.
  return {with_gradient(sum_of_bounds(weights), log_weights, weights.weights.value()), weights.log_mean.value(),
          weights.effective_sample_size, log_weights.value()};
}

}  // namespace dgm
