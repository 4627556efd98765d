// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/inference/score_function.hpp>

#include "host/core/check.hpp"
#include "host/inference/weighted.hpp"

namespace dgm {

ScoreFunction::ScoreFunction(const LatentJoint& joint, Proposal proposal, ScoreFunctionOptions options)
    : joint_(joint),
      proposal_(std::move(proposal)),
      options_(std::move(options)),
      running_mean_(Tensor<float>::zeros({}, joint.stream())) {
  const bool others = options_.baseline == Baseline::leave_one_out || options_.baseline == Baseline::vimco;
  const int64_t fewest = others ? 2 : 1;
  check<ArgumentError>(options_.samples >= fewest, "ScoreFunction: samples is ", options_.samples, "; at least ",
                       fewest, others ? " are needed by a baseline of the other draws" : " is needed");
  check<ArgumentError>(options_.decay >= 0 && options_.decay < 1, "ScoreFunction: decay is ", options_.decay,
                       "; 0 <= decay < 1 is needed");
  check<ArgumentError>(options_.baseline != Baseline::learned || options_.predictions != nullptr,
                       "ScoreFunction: the learned baseline needs predictions");
}

std::string ScoreFunction::name() const {
  switch (options_.baseline) {
    case Baseline::none:
      return text("REINFORCE (S = ", options_.samples, ")");
    case Baseline::running_mean:
      return text("REINFORCE, running mean (S = ", options_.samples, ")");
    case Baseline::learned:
      return text("NVIL (S = ", options_.samples, ")");
    case Baseline::leave_one_out:
      return text("REINFORCE, leave one out (S = ", options_.samples, ")");
    case Baseline::vimco:
      break;
  }
  return text("VIMCO (S = ", options_.samples, ")");
}

Estimate ScoreFunction::operator()(Tape& tape, const Draws& draws) const {
  const std::unique_ptr<VectorDistribution> prior = joint_.prior(tape);
  const std::unique_ptr<VectorDistribution> q = proposal_or_prior(proposal_, *prior, tape);
  const Variable z = q->sample(draws, options_.samples, joint_.data()).detach();
  const Variable log_joint = prior->log_prob(z) + joint_.log_likelihood(tape, z);
  const Variable log_q = q->log_prob(z);
  const Variable signal = log_joint.detach() - log_q.detach();  // (B, S)
  const auto samples = static_cast<float>(options_.samples);
  const Shape column = {joint_.batch(), 1};

  if (options_.baseline == Baseline::vimco) {
    const ImportanceWeights weights = importance_weights(signal);
    const Tensor<float> credit = leave_one_out_gain(signal.value());
    Variable objective = weighted_sum(weights.weights.value(), log_joint);
    if (log_q.requires_grad()) {
      // d log_mean / d log q = -weights, and the score function's own term.
      objective = objective + weighted_sum((Variable(credit) - weights.weights.value()).value(), log_q);
    }
    return {objective, weights.log_mean.value(), weights.effective_sample_size, signal.value()};
  }

  const Variable bound = mean(signal, -1);  // (B)
  Variable advantage = signal;
  std::optional<Variable> error;  // of the predictions
  if (options_.baseline == Baseline::leave_one_out) {
    // l_s - (sum - l_s) / (S - 1) = (l_s - mean) S / (S - 1).
    advantage = (signal - reshape(bound, column)) * (samples / (samples - 1));
  } else if (options_.baseline != Baseline::none) {
    advantage = signal - running_mean_.clone();
    if (options_.baseline == Baseline::learned) {
      const Variable predictions = options_.predictions(tape);
      check<ShapeError>(predictions.shape() == Shape{joint_.batch()}, name(), ": predictions has shape ",
                        predictions.shape().str(), "; (B) = ", Shape{joint_.batch()}.str(), " is needed");
      const Variable gap = advantage - reshape(predictions, column);
      error = sum(square(gap)) * (1 / samples);
      advantage = gap.detach();
    }
    const Variable update = Variable(running_mean_) * static_cast<float>(options_.decay) +
                            mean(signal) * static_cast<float>(1 - options_.decay);
    running_mean_.copy_from(update.value());
  }
  const auto each = Tensor<float>::full(signal.shape(), 1 / samples, signal.stream());
  Variable objective = weighted_sum(each, log_joint);
  if (log_q.requires_grad()) objective = objective + weighted_sum((advantage * (1 / samples)).value(), log_q);
  if (error) objective = objective - *error;
  return {objective, bound.value(), std::nullopt, signal.value()};
}

}  // namespace dgm
