// SPDX-License-Identifier: Apache-2.0
// Draws of vectors with independent coordinates, S for each datum, fused with what they are made of.
//
// Shapes    parameters (B, D) f32, B, D >= 0; the result is (B, S, D), on their stream; no function waits.
// draws     coordinate d of sample s of a row takes word d % 4 of block s * ceil(D / 4) + d / 4 of the row's
//           datum: data[b], or b where data is null. A Gaussian takes the pair of words that its own is in, as
//           cuRAND pairs them. Neither threads nor the number of rows enter.
// Throws    ShapeError, DeviceError if the streams differ, ArgumentError if samples < 1 or a datum's draws would
//           need more than 2^32 blocks.
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>

namespace dgm {

/// z = mean + exp(log_scale) * e, e ~ N(0, I): the reparameterised Gaussian.
/// Gradient  pathwise: by the mean sum_s g, by the log scale sum_s g (z - mean).
/// Accuracy  |error| <= kVectorSampleError * (|mean| + scale * max(1, |e|)); equal on all devices to that.
Variable gaussian_sample(const Variable& mean, const Variable& log_scale, const Draws& draws, int64_t samples = 1,
                         const Tensor<int64_t>* data = nullptr);

/// y = location - log(-log u), u ~ U(0, 1): Gumbel variables. The largest of a row of y with location = log p is drawn
/// with probability p (Gumbel-max); softmax(y / temperature) is its relaxation (Gumbel-softmax).
/// Gradient  sum_s g.
/// Edges     a location of -inf stays -inf.
/// Accuracy  |error| <= kVectorSampleError * max(1, |location|, |y|).
Variable gumbel_sample(const Variable& location, const Draws& draws, int64_t samples = 1,
                       const Tensor<int64_t>* data = nullptr);

/// 1 with probability sigmoid(logits), else 0. No gradient flows through it.
/// Edges     a logit of +inf always gives 1, -inf never; NaN gives NaN.
/// Accuracy  probabilities to 1e-7; devices agree unless a uniform is that close to its boundary.
Tensor<float> bernoulli_sample(const Tensor<float>& logits, const Draws& draws, int64_t samples = 1,
                               const Tensor<int64_t>* data = nullptr);

inline constexpr double kVectorSampleError = 2e-6;

}  // namespace dgm
