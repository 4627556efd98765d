// SPDX-License-Identifier: Apache-2.0
#include <dgm/inference/estimator.hpp>
#include <dgm/ops/reductions.hpp>

#include "host/core/check.hpp"

namespace dgm {

Estimate Exact::operator()(Tape& tape, const Draws&) const {
  const Variable log_marginal = joint_.log_marginal(tape);
  return {sum(log_marginal), log_marginal.value()};
}

PosteriorSampling::PosteriorSampling(const FiniteJoint& joint, int64_t samples) : joint_(joint), samples_(samples) {
  check<ArgumentError>(samples >= 1, "PosteriorSampling: samples is ", samples, "; at least 1 is needed");
}

std::string PosteriorSampling::name() const { return text("posterior sampling (S = ", samples_, ")"); }

Estimate PosteriorSampling::operator()(Tape& tape, const Draws& draws) const {
  const Tensor<int32_t> z = joint_.sample_posterior(draws, samples_);
  // The draws are data here: the posterior's own gradient has mean zero, so none flows through z.
  const Variable mean_log_joint = sum(mean(joint_.log_joint(tape, z), -1));
  Tape unused;
  return {mean_log_joint, joint_.log_marginal(unused).value()};
}

}  // namespace dgm
