// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>

namespace dgm {

/// One of K values for each of B data, with probability softmax(logits). Gradients flow to the logits from
/// log_prob, entropy and kl. Natural logs. Nothing waits for the device but mode() and cdf().
///
/// Edges     a logit of -inf excludes a value: it is never drawn, has log probability -inf, and adds 0 to entropy
///           and divergence. A row of -inf has no distribution: draws and mode -1,
///           log probabilities -inf, entropy and divergence 0.
class Categorical {
 public:
  /// logits (B, K), K >= 1, unnormalised. Throws ShapeError.
  explicit Categorical(const Variable& logits);

  int64_t batch() const { return log_probabilities_.shape()[0]; }
  int64_t values() const { return log_probabilities_.shape()[1]; }

  /// (B, S); data as in categorical_sample. Throws ArgumentError if samples < 1.
  Tensor<int32_t> sample(const Draws& draws, int64_t samples = 1, const Tensor<int64_t>* data = nullptr) const;
  /// (B, S) for z (B, S).
  Variable log_prob(const Tensor<int32_t>& z) const;
  /// (B).
  Variable entropy() const;
  /// KL(this || other), (B); inf where this has probability and other has none.
  Variable kl(const Categorical& other) const;
  /// (B): the first of the most probable values, -1 for a row without a distribution. Waits for the device.
  Tensor<int32_t> mode() const;
  /// P(Z <= z) in the order of the values, (B, S) for z (B, S): 0 for z < 0, 1 for z >= K - 1; NaN for a row without a
  /// distribution. Without a gradient; waits for the device. Throws ShapeError.
  Tensor<float> cdf(const Tensor<int32_t>& z) const;
  /// log softmax(logits), (B, K).
  const Variable& log_probabilities() const { return log_probabilities_; }

 private:
  Variable log_probabilities_;
};

}  // namespace dgm
