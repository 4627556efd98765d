// SPDX-License-Identifier: Apache-2.0
// Gaussian mixtures with diagonal covariances:
//
//   p(x) = sum_k pi_k prod_d N(x_d; mean_kd, scale_kd^2),  pi = softmax(logits),  scale = exp(log_scale).
//
// Shapes, the same in every function here, all f32 and on one stream:
//   x         (N, D) data, N >= 0, D >= 1
//   logits    (K), K >= 1; any real numbers; -inf is a component of no weight: it adds nothing to any
//             sum whatever its mean and scale are, and its gradients are zero
//   mean      (K, D)
//   log_scale (K, D)
//   weights   (N), any sign; null: all 1
//
// Letters: t_nkd = (x_nd - mean_kd) / scale_kd, the standardised residual; r_nk = p(k | x_n), the
// responsibility. Nothing of size N x K is stored, forward or backward, but by the function that is asked
// for it. No function waits for the device. All throw ShapeError and DeviceError before any work starts.
//
// Edges     a row of x with a NaN has log p(x) = NaN; else one with an infinity, or so far from every
//           component that f32 ends, -inf and no gradient. No component of weight at all: -inf likewise.
// Order     sums over rows are hierarchical and end in double, in an order that is fixed: equal input
//           gives equal bits on one device; on the CPU with any number of threads.
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>
#include <dgm/ops/mixture_statistics.hpp>

namespace dgm {

/// Of a log marginal or joint: |error| <= kDiagonalMixtureError * max(D, |y|, C), C the largest
/// |log pi_k - sum_d log_scale_kd| of a component of weight. Of responsibilities and gradients: what
/// follows from twice that error in every log joint, and as much again from rounding.
inline constexpr double kDiagonalMixtureError = 1e-6;

/// Log marginal of each row: y[n] = log p(x_n).
///
/// returns   (N) f32.
/// Gradient  with respect to all four, for an upstream g:
///           d logits[k]      = sum_n g_n r_nk - pi_k sum_n g_n
///           d mean[k,d]      = sum_n g_n r_nk t_nkd / scale_kd
///           d log_scale[k,d] = sum_n g_n r_nk (t_nkd^2 - 1)
///           d x[n,d]         = -g_n sum_k r_nk t_nkd / scale_kd
///           the responsibilities are recomputed in the backward pass.
Variable diagonal_mixture_log_marginal(const Variable& x, const Variable& logits, const Variable& mean,
                                       const Variable& log_scale);

/// Log-likelihood of a batch: sum_n w_n log p(x_n), of rank 0.
///
/// Rows of weight 0 add nothing, whatever they are. Gradients as above with g = w times the upstream;
/// one pass over the data gives value and gradients, so that backward() only scales.
Variable diagonal_mixture_log_likelihood(const Variable& x, const Variable& logits, const Variable& mean,
                                         const Variable& log_scale, const Tensor<float>* weights = nullptr);

/// Responsibilities r[n,k] = p(k | x_n).
///
/// returns   (N, K) f32. A row of log marginal -inf has no posterior: its responsibilities are 0; NaN
///           where the log marginal is.
Tensor<float> diagonal_mixture_responsibilities(const Tensor<float>& x, const Tensor<float>& logits,
                                                const Tensor<float>& mean, const Tensor<float>& log_scale);

/// The sufficient statistics of an EM iteration and the log marginals, in one pass over the data.
///
/// From them: new weights s0 / sum_k s0, new means mean + scale s1 / s0, new variances
/// scale^2 (s2 / s0 - (s1 / s0)^2).
MixtureStatistics diagonal_mixture_statistics(const Tensor<float>& x, const Tensor<float>& logits,
                                              const Tensor<float>& mean, const Tensor<float>& log_scale,
                                              const Tensor<float>* weights = nullptr);

/// Exact draws of the component: z[n,s] ~ p(k | x_n).
///
/// samples   S >= 1.
/// data      (N) each row's datum for the draw; null: the row's number.
/// returns   (N, S) int32; -1 for a row of log marginal -inf or NaN.
/// Method    inversion of the cumulative responsibilities by one uniform a draw, words s of the datum;
///           CPU and GPU agree unless the uniform is within rounding of a boundary.
Tensor<int32_t> diagonal_mixture_sample_posterior(const Tensor<float>& x, const Tensor<float>& logits,
                                                  const Tensor<float>& mean, const Tensor<float>& log_scale,
                                                  const Draws& draws, int64_t samples = 1,
                                                  const Tensor<int64_t>* data = nullptr);

/// Log joint for given components: y[n,s] = log pi_z + log N(x_n; mean_z, scale_z^2), z = z[n,s].
///
/// z         (N, S) int32 in 0..K-1, S >= 1. One out of range gives NaN and no gradient; nothing is read
///           or written there.
/// Gradient  as that of the log marginal with r_nk replaced by [z_ns = k], summed over s.
Variable diagonal_mixture_log_joint(const Variable& x, const Tensor<int32_t>& z, const Variable& logits,
                                    const Variable& mean, const Variable& log_scale);

/// Ancestral sampling: z_n ~ pi, x_n ~ N(mean_z, scale_z^2), datum n for row n.
///
/// Components agree across devices unless the uniform is within rounding of a boundary, values to the
/// rounding of log, sqrt, sin and cos. Without a component of weight z = -1 and x = NaN.
/// Throws ArgumentError if count < 0.
MixtureSample diagonal_mixture_sample(int64_t count, const Tensor<float>& logits, const Tensor<float>& mean,
                                      const Tensor<float>& log_scale, const Draws& draws);

}  // namespace dgm
