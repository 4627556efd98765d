// SPDX-License-Identifier: Apache-2.0
#include <dgm/inference/elbo.hpp>

#include "host/core/check.hpp"
#include "host/inference/weighted.hpp"

#include <limits>

namespace dgm {

ReparameterisedElbo::ReparameterisedElbo(const LatentJoint& joint, Proposal proposal, ElboOptions options)
    : joint_(joint), proposal_(std::move(proposal)), options_(std::move(options)) {
  check<ArgumentError>(options_.samples >= 1, "ReparameterisedElbo: samples is ", options_.samples,
                       "; at least 1 is needed");
  check<ArgumentError>(options_.free_bits >= 0, "ReparameterisedElbo: free_bits is ", options_.free_bits,
                       "; it may not be negative");
  check<ArgumentError>(options_.free_bits == 0 || options_.analytic_kl,
                       "ReparameterisedElbo: free_bits needs analytic_kl, the divergence of each coordinate");
}

std::string ReparameterisedElbo::name() const { return text("ELBO (S = ", options_.samples, ")"); }

Estimate ReparameterisedElbo::operator()(Tape& tape, const Draws& draws) const {
  const std::unique_ptr<VectorDistribution> prior = joint_.prior(tape);
  const std::unique_ptr<VectorDistribution> q = proposal_or_prior(proposal_, *prior, tape);
  const Variable z = q->sample(draws, options_.samples, joint_.data());
  const Variable log_q = q->log_prob(z);
  check<ArgumentError>(q->reparameterised() || !log_q.requires_grad(), name(),
                       ": the proposal is trained but its draws let no gradient through; use the score function");
  const Variable log_likelihood = joint_.log_likelihood(tape, z);
  const Variable log_prior = prior->log_prob(z);
  const Tensor<float> log_weights = (log_prior + log_likelihood - log_q).value();
  const Variable reconstruction = mean(log_likelihood, -1);  // (B)

  Variable kl = reconstruction.detach();       // (B), replaced below
  Variable penalty = reconstruction.detach();  // rank 0, what the objective is charged
  if (options_.analytic_kl) {
    const std::optional<Variable> terms = q->coordinate_kl(*prior);
    check<ArgumentError>(terms.has_value(), name(),
                         ": the divergence of the proposal from the prior has no closed form; set analytic_kl = false");
    kl = sum(*terms, -1);
    if (options_.free_bits > 0) {
      // max(free_bits, mean over the batch), for each coordinate.
      const Variable per_coordinate =
          clamp(mean(*terms, 0), options_.free_bits, std::numeric_limits<float>::infinity());
      penalty = sum(per_coordinate) * static_cast<float>(joint_.batch());
    } else {
      penalty = sum(kl);
    }
  } else {
    kl = mean(log_q - log_prior, -1);
    penalty = sum(kl);
  }
  const Tensor<float> bound = (reconstruction.detach() - kl.detach()).value();
  if (options_.kl_weight) penalty = penalty * *options_.kl_weight;
  return {sum(reconstruction) - penalty, bound, std::nullopt, log_weights};
}

}  // namespace dgm
