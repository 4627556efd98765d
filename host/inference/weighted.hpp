// SPDX-License-Identifier: Apache-2.0
// What the estimators of latent vectors share.
#pragma once

#include <dgm/inference/latent_joint.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/importance_weights.hpp>
#include <dgm/ops/reductions.hpp>

namespace dgm {

inline std::unique_ptr<VectorDistribution> proposal_or_prior(const Proposal& proposal, const VectorDistribution& prior,
                                                             Tape& tape) {
  return proposal ? proposal(tape) : prior.detach();
}

/// A given value with the gradient factors * g by y, for constant factors of y's shape.
inline Variable with_gradient(const Tensor<float>& value, const Variable& y, const Tensor<float>& factors) {
  return Tape::record(value, {y}, [factors](const Tensor<float>& g, Gradients& inputs) {
    inputs.add(0, multiply(factors, g).value());
  });
}

/// sum_bs factors[b,s] y[b,s] for constant factors. An infinite y enters the value as the largest number: it has factor
/// 0 where the estimators put it, and 0 times infinity would be NaN.
inline Variable weighted_sum(const Tensor<float>& factors, const Variable& y) {
  return with_gradient(sum(multiply(factors, clamp(y.detach(), -3e38f, 3e38f))).value(), y, factors);
}

/// 1 where y is above -inf, 0 where it is -inf, NaN where it is NaN; constant.
inline Variable has_density(const Variable& y) {
  return clamp(scale_shift(clamp(y.detach(), -3e38f, 3e38f), 1e-30f, 2e8f), 0.0f, 1.0f);
}

/// sum_b log_mean[b] over the data of which some draw has weight.
inline Tensor<float> sum_of_bounds(const ImportanceWeights& weights) {
  const Variable has_weight = clamp(weights.effective_sample_size, 0.0f, 1.0f);
  return sum(multiply(has_weight, clamp(weights.log_mean.detach(), -3e38f, 3e38f))).value();
}

}  // namespace dgm
