// SPDX-License-Identifier: Apache-2.0
// Gaussian mixtures whose parameters differ by row, the output layer of a mixture density network:
//
//   p(x_n) = sum_k pi_nk prod_d N(x_nd; mean_nkd, scale_nkd^2),
//   pi_n = softmax(logits_n),  scale = exp(log_scale).
//
// Shapes, the same in every function here, all f32 and on one stream:
//   x         (N, D) data, N >= 0, D >= 1
//   logits    (N, K), K >= 1; -inf is a component of no weight: it adds nothing to any sum whatever its
//             mean and scale are, and its gradients are zero
//   mean      (N, K, D)
//   log_scale (N, K, D)
//
// Letters: t_nkd = (x_nd - mean_nkd) / scale_nkd, the standardised residual; r_nk = p(k | x_n), the
// responsibility. No function waits for the device. All throw ShapeError and DeviceError before any
// work starts.
//
// Source: Bishop 1994, "Mixture density networks".
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>
#include <dgm/ops/mixture_statistics.hpp>

namespace dgm {

/// Log marginal of each row: y[n] = log p(x_n).
///
/// returns   (N) f32.
/// Gradient  with respect to all four, for an upstream g:
///           d logits[n,k]      = g_n (r_nk - pi_nk)
///           d mean[n,k,d]      = g_n r_nk t_nkd / scale_nkd
///           d log_scale[n,k,d] = g_n r_nk (t_nkd^2 - 1)
///           d x[n,d]           = -sum_k d mean[n,k,d]
///           recomputed from the inputs and y: nothing else is kept.
/// Edges     a row of x with a NaN gives NaN; else one with an infinity, or so far from every component
///           that f32 ends, -inf and no gradient, and so does a row of logits that are all -inf. Rows
///           with g_n = 0 have no gradient whatever x is.
/// Accuracy  |error| <= kConditionalMixtureError * max(D, |y|, C), C the largest |log pi_k| + sum_d
///           |log_scale_kd| of the row's components of weight; of the gradients that, and as much from
///           rounding, relative to max(1, t^2) |g| r in units of the scale.
Variable conditional_mixture_log_marginal(const Variable& x, const Variable& logits, const Variable& mean,
                                          const Variable& log_scale);

inline constexpr double kConditionalMixtureError = 1e-6;

/// Exact draws of the component: z[n,s] ~ p(k | x_n).
///
/// samples   S >= 1.
/// data      (N) each row's datum for the draw; null: the row's number.
/// returns   (N, S) int32; -1 for a row of log marginal -inf or NaN.
/// Method    inversion of the cumulative responsibilities by one uniform a draw, words s of the datum;
///           CPU and GPU agree unless the uniform is within rounding of a boundary.
Tensor<int32_t> conditional_mixture_sample_posterior(const Tensor<float>& x, const Tensor<float>& logits,
                                                     const Tensor<float>& mean, const Tensor<float>& log_scale,
                                                     const Draws& draws, int64_t samples = 1,
                                                     const Tensor<int64_t>* data = nullptr);

/// Ancestral sampling: z_n ~ pi_n, x_n ~ N(mean_nz, scale_nz^2), datum data[n] (null: n) for row n.
///
/// Components agree across devices unless the uniform is within rounding of a boundary, values to the
/// rounding of log, sqrt, sin and cos. A row of logits without a distribution gives z = -1 and x = NaN.
MixtureSample conditional_mixture_sample(const Tensor<float>& logits, const Tensor<float>& mean,
                                         const Tensor<float>& log_scale, const Draws& draws,
                                         const Tensor<int64_t>* data = nullptr);

}  // namespace dgm
