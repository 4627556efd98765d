// SPDX-License-Identifier: Apache-2.0
// Importance sampling in log space: S draws z_bs ~ q(z | x_b) a datum have log weights
// l[b,s] = log p(x_b, z_bs) - log q(z_bs | x_b).
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

struct ImportanceWeights {
  /// (B, S): w[b,s] = exp(l[b,s]) / sum_j exp(l[b,j]), self-normalised. Gradient w (g - sum_j w_j g_j).
  Variable weights;
  /// (B): log (1/S) sum_s exp(l[b,s]), whose exponential is an unbiased estimate of p(x_b). Gradient w.
  Variable log_mean;
  /// (B): 1 / sum_s w[b,s]^2, the effective sample size (Kong 1992), between 1 and S.
  Tensor<float> effective_sample_size;
};

/// Weights, evidence and effective sample size in one pass over the log weights.
///
/// log_weights (B, S) f32, natural logs; B >= 0, S >= 1; entries may be -inf: a draw that the model excludes.
///
/// Edges     a row of -inf gives weights and an effective sample size of 0, log_mean -inf, and no gradient; one
///           with +inf or NaN gives NaN.
/// Accuracy  |error| <= kImportanceWeightsError of a weight, relative to the effective sample size, and relative
///           to max(1, |y|) of log_mean; gradients to that of the largest |g|.
/// Throws    ShapeError. Does not wait for the device.
ImportanceWeights importance_weights(const Variable& log_weights);

inline constexpr double kImportanceWeightsError = 3e-6;

/// The shape k-hat of a generalised Pareto distribution fitted to the largest weights of each row, which tells
/// whether importance sampling can be relied on: below 0.5 the weights have a finite variance, from 0.7 on the
/// estimate is dominated by draws that were not seen.
///
/// log_weights (B, S) f32.
/// returns   (B): k-hat from the ceil(min(S / 5, 3 sqrt S)) largest weights; +inf where those are fewer than 5
///           (S <= 20) or all equal to the next largest, and where fewer than 6 weights are above 0; NaN for a
///           row with NaN or +inf. A weakly informative prior pulls it to 0.5 with the weight of 10 draws.
/// Accuracy  1e-3; a diagnostic.
/// Throws    ShapeError; ArgumentError if S > 16384. Does not wait for the device.
/// Source    Zhang & Stephens 2009 (the fit); Vehtari, Simpson, Gelman, Yao & Gabry 2024 (the diagnostic).
Tensor<float> pareto_shape(const Tensor<float>& log_weights);

/// What each draw adds to the multi-sample bound, the learning signal of VIMCO:
/// y[b,s] = log (1/S) sum_j exp(l[b,j]) - log (1/S) (sum_{j != s} exp(l[b,j]) + exp(mean_{j != s} l[b,j])).
///
/// log_weights (B, S) f32, S >= 2.
/// returns   (B, S).
/// Edges     where another draw's l is -inf, so is the mean of the others, which then adds nothing; a row in
///           which at most one weight is above 0 gains nothing it could be measured against: y = 0. +inf and NaN
///           give NaN.
/// Accuracy  |error| <= kImportanceWeightsError * max(1, |y|, max_s |l[b,s]|).
/// Throws    ShapeError if S < 2. Does not wait for the device.
/// Source    Mnih & Rezende 2016, equation 10.
Tensor<float> leave_one_out_gain(const Tensor<float>& log_weights);

}  // namespace dgm
