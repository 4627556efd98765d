// SPDX-License-Identifier: Apache-2.0
// Log-densities of vectors with independent coordinates, and the divergences and entropies that have a
// closed form. All sum over the last axis and give natural logs.
//
// Shapes    of each argument: (B, S, D), or (B, D) shared by the S samples of a datum, or (D) shared by all.
//           The result is (B, S) if an argument has three axes, else (B) if one has two, else of rank 0.
//           B, S, D >= 0, f32, all on one stream; no function waits for the device.
// Gradient  with respect to every argument, summed where it is shared. A row whose upstream gradient is 0 gives
//           none, whatever its arguments are.
// Accuracy  |error| <= kDensityError * sum_d |terms|; gradients to kDensityError of the sum of their terms'
//           absolute values.
// Throws    ShapeError if the shapes do not fit, DeviceError if the streams differ.
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// sum_d log N(x_d; mean_d, exp(log_scale_d)^2). Gradient, with t = (x - mean) / scale: by x -t / scale, by the mean
/// t / scale, by the log scale t^2 - 1. A log scale below -88 divides as -88 does, so that x = mean is harmless.
Variable gaussian_log_density(const Variable& x, const Variable& mean, const Variable& log_scale);
/// The same with mean 0 and scale 1.
Variable standard_gaussian_log_density(const Variable& x);
/// KL(N(mean, scale^2) || N(0, 1)), summed over d.
Variable gaussian_kl(const Variable& mean, const Variable& log_scale);
/// KL(N(mean, scale^2) || N(other_mean, other_scale^2)), summed over d.
Variable gaussian_kl(const Variable& mean, const Variable& log_scale, const Variable& other_mean,
                     const Variable& other_log_scale);
/// sum_d log P(X_d <= x_d) for X_d ~ N(mean_d, scale_d^2), to full accuracy in both tails: -t^2/2 - log(-t sqrt(2 pi))
/// far below the mean. 0 at +inf, -inf at -inf. Gradient, with h = density / probability at t: by x h / scale, by the
/// mean -h / scale, by the log scale -h t. |error| in its terms t^2 and log h, of which the value is a sum.
Variable gaussian_log_cdf(const Variable& x, const Variable& mean, const Variable& log_scale);

/// sum_d x_d log p_d + (1 - x_d) log(1 - p_d) with p = sigmoid(logits); x in [0, 1], not only 0 and 1. A logit of
/// +-inf gives 0 for the x that it makes certain and -inf for others. Gradient x - p by the logits, the logit by x.
Variable bernoulli_log_density(const Variable& x, const Variable& logits);
/// sum_d log P(X_d <= x_d) for a bit X_d that is 1 with probability sigmoid(logits): -inf for x_d < 0, log(1 - p_d) for
/// 0 <= x_d < 1, 0 above. No gradient by x.
Variable bernoulli_log_cdf(const Variable& x, const Variable& logits);
/// Entropy of Bernoulli(sigmoid(logits)), summed over d; 0 at a logit of +-inf.
Variable bernoulli_entropy(const Variable& logits);
/// KL(Bernoulli(sigmoid(logits)) || Bernoulli(sigmoid(other))), summed over d.
Variable bernoulli_kl(const Variable& logits, const Variable& other);

/// Entropy -sum_d p_d log p_d from log probabilities (log_softmax); a probability of 0 adds 0.
Variable categorical_entropy(const Variable& log_probabilities);
/// sum_d p_d (log p_d - log q_d); p_d = 0 adds 0, also where q_d = 0; q_d = 0 < p_d gives inf.
Variable categorical_kl(const Variable& log_probabilities, const Variable& other);

inline constexpr double kDensityError = 1e-6;

}  // namespace dgm
