// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/inference/hamiltonian.hpp>
#include <dgm/ops/columns.hpp>
#include <dgm/ops/hamiltonian.hpp>
#include <dgm/train/minibatch.hpp>

#include "host/core/dispatch.hpp"
#include "host/inference/weighted.hpp"

#include <cmath>

namespace dgm {

namespace {

// log p(x, z) with its gradient by z alone.
Chains evaluated(const LatentJoint& joint, const Tensor<float>& z) {
  Tape tape = Tape::without_parameters();
  const Variable watched = tape.watch(z);
  const Variable log_joint = joint.prior(tape)->log_prob(watched) + joint.log_likelihood(tape, watched);
  tape.backward(log_joint, Tensor<float>::full(log_joint.shape(), 1.0f, z.stream()));
  // A copy: the chains change in place, and the value may be shared.
  return {z.clone(), log_joint.value().clone(), tape.grad(watched).clone()};
}

// Where data have been visited their own places, else the new ones.
Tensor<float> resumed(const Tensor<float>& drawn, const Tensor<float>& kept, const Tensor<float>& steps) {
  const int64_t rows = steps.shape()[0];
  const Variable visited = reshape(clamp(columns(steps, 3, 4), 0.0f, 1.0f), {rows, 1, 1});
  return (drawn * (1.0f - visited) + kept * visited).value();
}

}  // namespace

HamiltonianMonteCarlo::HamiltonianMonteCarlo(const LatentJoint& joint, Proposal proposal, HamiltonianOptions options)
    : joint_(joint), proposal_(std::move(proposal)), options_(std::move(options)) {
  const auto at_least = [](const char* name, int64_t value, int64_t fewest) {
    check<ArgumentError>(value >= fewest, "HamiltonianMonteCarlo: ", name, " is ", value, "; at least ", fewest,
                         " is needed");
  };
  at_least("chains", options_.chains, 1);
  at_least("moves", options_.moves, 1);
  at_least("leaps", options_.leaps, 1);
  // What tells that a datum has been visited is that its steps have been adapted.
  at_least("warm_up", options_.warm_up, options_.persistent ? 1 : 0);
  check<ArgumentError>(options_.first_step > 0 && std::isfinite(options_.first_step),
                       "HamiltonianMonteCarlo: first_step is ", options_.first_step,
                       "; a positive, finite step is needed");
  check<ArgumentError>(options_.target > 0 && options_.target < 1, "HamiltonianMonteCarlo: target is ", options_.target,
                       "; 0 < target < 1 is needed");
  check<ArgumentError>(options_.jitter >= 0 && options_.jitter < 1, "HamiltonianMonteCarlo: jitter is ",
                       options_.jitter, "; 0 <= jitter < 1 is needed");
}

std::string HamiltonianMonteCarlo::name() const {
  return text("HMC (S = ", options_.chains * options_.moves, ", ", options_.warm_up, " + ", options_.moves, " moves)");
}

Estimate HamiltonianMonteCarlo::operator()(Tape& tape, const Draws& draws) const {
  const Stream& stream = joint_.stream();
  const int64_t rows = joint_.batch();
  const std::unique_ptr<VectorDistribution> prior = joint_.prior(tape);
  check<ArgumentError>(prior->continuous(), name(), ": z is discrete; it has no gradient to follow");
  const std::unique_ptr<VectorDistribution> q = proposal_or_prior(proposal_, *prior, tape);
  const int64_t dims = prior->dims();
  const Shape shape = {rows, options_.chains, dims};

  const Tensor<float> drawn = q->sample(draws, options_.chains, joint_.data()).value();
  Chains chains = evaluated(joint_, drawn);
  const Variable log_weights = Variable(chains.log_density) - q->log_prob(drawn).detach();
  const Tensor<float> log_marginal = importance_weights(log_weights.value()).log_mean.value();

  StepSizes steps = {Tensor<float>::zeros({rows, 4}, stream), static_cast<float>(options_.first_step)};
  std::optional<Tensor<int64_t>> data;
  if (joint_.data() != nullptr) data = *joint_.data();
  if (options_.persistent) {
    const PersistentChains& kept = *options_.persistent;
    const Shape& all = kept.z.shape();
    check<ShapeError>(all == Shape{all[0], options_.chains, dims} && kept.steps.shape() == Shape{all[0], 4}, name(),
                      ": persistent.z has shape ", all.str(), " and persistent.steps ", kept.steps.shape().str(),
                      "; (N, C, D) with C = ", options_.chains, " and D = ", dims, " and (N, 4) are needed");
    check<ShapeError>(data || all[0] == rows, name(), ": there are persistent chains of ", all[0], " data and ", rows,
                      " rows that do not say which data they are");
    steps.state = data ? gather_rows(kept.steps, *data) : kept.steps.clone();
    chains = evaluated(joint_, resumed(drawn, data ? gather_rows(kept.z, *data) : kept.z, steps.state));
  }

  MoveOptions options = {.target = options_.target, .jitter = options_.jitter, .data = joint_.data()};
  std::vector<Variable> places;
  Variable accepted = Tensor<float>::zeros(Shape{rows, options_.chains}, stream);
  for (int64_t move = 0; move < options_.warm_up + options_.moves; ++move) {
    options.adapt = move < options_.warm_up;
    Trajectory path = begin_trajectory(chains, steps, draws, move, options);
    Chains end = evaluated(joint_, path.moved);
    for (int64_t leap = 1; leap < options_.leaps; ++leap) {
      leapfrog(path, end.gradient);
      end = evaluated(joint_, path.moved);
    }
    const Tensor<float> acceptance = end_trajectory(chains, path, end, steps, draws, move, options);
    if (options.adapt) continue;
    accepted = accepted + acceptance;
    places.emplace_back(chains.z.clone().reshape({rows, options_.chains * dims}));
  }
  if (options_.persistent) {
    PersistentChains kept = *options_.persistent;
    if (data) {
      scatter_rows(chains.z, *data, kept.z);
      scatter_rows(steps.state, *data, kept.steps);
    } else {
      kept.z.copy_from(chains.z);
      kept.steps.copy_from(steps.state);
    }
  }

  const int64_t samples = options_.chains * options_.moves;
  const Tensor<float> z = concatenate(places).value().reshape({rows, samples, dims});
  const Variable log_joint = prior->log_prob(z) + joint_.log_likelihood(tape, z);
  // A chain that never found a place with density has nothing to say.
  const Tensor<float> each = (has_density(log_joint) * (1.0f / static_cast<float>(samples))).value();
  Variable objective = weighted_sum(each, log_joint);
  if (const Variable log_q = q->log_prob(z); log_q.requires_grad()) objective = objective + weighted_sum(each, log_q);
  return {.objective = objective,
          .log_marginal = log_marginal,
          .acceptance_rate = (mean(accepted, -1) * (1.0f / static_cast<float>(options_.moves))).value()};
}

}  // namespace dgm
