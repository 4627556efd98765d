// SPDX-License-Identifier: Apache-2.0
// Gaussian mixtures with full covariances:
//
//   p(x) = sum_k pi_k N(x; mean_k, L_k L_k^T),  pi = softmax(logits).
//
// Shapes, the same in every function here, all f32 and on one stream:
//   x         (N, D) data, N >= 0, D >= 1
//   logits    (K), K >= 1; any real numbers; -inf is a component of no weight: it adds nothing to any
//             sum whatever its mean and factor are, and its gradients are zero
//   mean      (K, D)
//   factor    (K, D, D): below the diagonal L_ij, on it log L_ii, so that any real numbers are a
//             covariance; what is above the diagonal is ignored, and its gradient zero
//   weights   (N), any sign; null: all 1
//
// Letters: t_nk = L_k^-1 (x_n - mean_k), the whitened residual; r_nk = p(k | x_n), the responsibility.
// Nothing of size N x K is stored, forward or backward, but by the function that is asked for it. No
// function waits for the device. All throw ShapeError and DeviceError before any work starts.
//
// Edges     a row of x with a NaN has log p(x) = NaN; else one with an infinity, or so far from every
//           component that f32 ends, -inf and no gradient. No component of weight at all: -inf likewise.
// Order     sums over rows are hierarchical and end in double, in an order that is fixed: equal input
//           gives equal bits on one device; on the CPU with an equal number of threads.
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>
#include <dgm/ops/mixture_statistics.hpp>

namespace dgm {

/// Of a log marginal or joint, for covariances of condition number at most kFullMixtureCondition:
/// |error| <= kFullMixtureError * max(D, |y|, C), C the largest |log pi_k - log |L_k|| of a component of
/// weight; beyond, in proportion to the root of the condition number. Responsibilities have twice
/// that as their relative error. Gradients, and statistics with t's length in place of its entries, are
/// right to kFullMixtureGradientError times the sum of the absolute values of their terms where that
/// max(D, |y|, C) is at most 100, and in proportion to it beyond.
inline constexpr double kFullMixtureError = 4e-6;
inline constexpr double kFullMixtureGradientError = 1e-5;
inline constexpr double kFullMixtureCondition = 1e3;

/// Log marginal of each row: y[n] = log p(x_n).
///
/// returns   (N) f32.
/// Gradient  with respect to all four, for an upstream g:
///           d logits[k] = sum_n g_n r_nk - pi_k sum_n g_n
///           d mean[k]   = L_k^-T sum_n g_n r_nk t_nk
///           d L_k       = tril(L_k^-T sum_n g_n r_nk (t_nk t_nk^T - I)), on the diagonal of factor
///                         times L_ii
///           d x[n]      = -g_n sum_k r_nk L_k^-T t_nk
///           the responsibilities are recomputed in the backward pass.
Variable full_mixture_log_marginal(const Variable& x, const Variable& logits, const Variable& mean,
                                   const Variable& factor);

/// Log-likelihood of a batch: sum_n w_n log p(x_n), of rank 0.
///
/// Rows of weight 0 add nothing, whatever they are. Gradients as above with g = w times the upstream;
/// one pass over the data gives value and gradients, so that backward() only scales.
Variable full_mixture_log_likelihood(const Variable& x, const Variable& logits, const Variable& mean,
                                     const Variable& factor, const Tensor<float>* weights = nullptr);

/// Responsibilities r[n,k] = p(k | x_n).
///
/// returns   (N, K) f32. A row of log marginal -inf has no posterior: its responsibilities are 0; NaN
///           where the log marginal is.
Tensor<float> full_mixture_responsibilities(const Tensor<float>& x, const Tensor<float>& logits,
                                            const Tensor<float>& mean, const Tensor<float>& factor);

/// The sufficient statistics of an EM iteration and the log marginals, in one pass over the data.
///
/// From them: new weights s0 / sum_k s0, new means mean + L s1 / s0, new covariances
/// L (s2 / s0 - s1 s1^T / s0^2) L^T with s2 made symmetric.
MixtureStatistics full_mixture_statistics(const Tensor<float>& x, const Tensor<float>& logits,
                                          const Tensor<float>& mean, const Tensor<float>& factor,
                                          const Tensor<float>* weights = nullptr);

/// Exact draws of the component: z[n,s] ~ p(k | x_n).
///
/// samples   S >= 1.
/// data      (N) each row's datum for the draw; null: the row's number.
/// returns   (N, S) int32; -1 for a row of log marginal -inf or NaN.
/// Method    inversion of the cumulative responsibilities by one uniform a draw, words s of the datum;
///           CPU and GPU agree unless the uniform is within rounding of a boundary.
Tensor<int32_t> full_mixture_sample_posterior(const Tensor<float>& x, const Tensor<float>& logits,
                                              const Tensor<float>& mean, const Tensor<float>& factor,
                                              const Draws& draws, int64_t samples = 1,
                                              const Tensor<int64_t>* data = nullptr);

/// Log joint for given components: y[n,s] = log pi_z + log N(x_n; mean_z, L_z L_z^T), z = z[n,s].
///
/// z         (N, S) int32 in 0..K-1, S >= 1. One out of range gives NaN and no gradient; nothing is read
///           or written there.
/// Gradient  as that of the log marginal with r_nk replaced by [z_ns = k], summed over s.
Variable full_mixture_log_joint(const Variable& x, const Tensor<int32_t>& z, const Variable& logits,
                                const Variable& mean, const Variable& factor);

/// Ancestral sampling: z_n ~ pi, x_n = mean_z + L_z e with e ~ N(0, I), datum n for row n.
///
/// Components agree across devices unless the uniform is within rounding of a boundary, values to the
/// rounding of log, sqrt, sin and cos. Without a component of weight z = -1 and x = NaN.
/// Throws ArgumentError if count < 0.
MixtureSample full_mixture_sample(int64_t count, const Tensor<float>& logits, const Tensor<float>& mean,
                                  const Tensor<float>& factor, const Draws& draws);

}  // namespace dgm
