// SPDX-License-Identifier: Apache-2.0
// Launches of the mixture whose parameters differ by row, as a network gives them:
// log p(x_n) = log sum_k pi_nk prod_d N(x_nd; mean_nkd, exp(log_scale_nkd)^2), pi_n = softmax(logits_n).
//
// Letters: N rows, K components, D dimensions; t_nkd = (x_nd - mean_nkd) / scale_nkd, the standardised
// residual; r_nk = p(k | x_n), the responsibilities. A component of logit -inf is harmless whatever its
// mean and scale are.
#pragma once

#include "kernels/draws.hpp"

#include <cstdint>

namespace dgm::kernels {

struct ConditionalMixture {
  const float* logits;     // (N, K)
  const float* mean;       // (N, K, D)
  const float* log_scale;  // (N, K, D)
  int64_t rows;            // N
  int64_t components;      // K >= 1
  int64_t dims;            // D >= 1
};

/// y[n] = log p(x_n).
struct ConditionalMixtureMarginal {
  ConditionalMixture mixture;
  const float* x;  // (N, D)
  float* y;        // (N)
};
void run_cpu(const ConditionalMixtureMarginal& args);
void run_cuda(const ConditionalMixtureMarginal& args, void* stream);

/// Gradients of sum_n g_n log p(x_n), recomputed from y:
///   d_logits = g (r - pi),  d_mean = g r t / scale,  d_log_scale = g r (t^2 - 1),  d_x = -sum_k d_mean.
/// Rows with g = 0 or y = -inf have none, whatever x is.
struct ConditionalMixtureBackward {
  ConditionalMixture mixture;
  const float* x;      // (N, D)
  const float* y;      // (N), what the forward pass gave
  const float* g;      // (N)
  float* d_x;          // (N, D), null: not wanted
  float* d_logits;     // (N, K), null: not wanted
  float* d_mean;       // (N, K, D), null: not wanted; needed for d_x
  float* d_log_scale;  // (N, K, D), null: not wanted
};
void run_cpu(const ConditionalMixtureBackward& args);
void run_cuda(const ConditionalMixtureBackward& args, void* stream);

/// z[n,s] ~ p(z | x_n), by inversion of the cumulative responsibilities: word s % 4 of block s / 4 of
/// the datum. -1 for a row without a posterior (log marginal -inf or NaN).
struct ConditionalMixturePosteriorSample {
  ConditionalMixture mixture;
  const float* x;       // (N, D)
  const int64_t* data;  // (N) each row's datum for the draw; null: the row's number
  int64_t samples;      // S >= 1
  DrawArgs draws;
  int32_t* z;  // (N, S)
};
void run_cpu(const ConditionalMixturePosteriorSample& args);
void run_cuda(const ConditionalMixturePosteriorSample& args, void* stream);

/// Ancestral sampling: z_n ~ Cat(pi_n), x_n ~ N(mean_nz, scale_nz^2). A datum draws its component from
/// word 0 of block 0 and its dimensions from blocks 1, 2, ... (two normals from two words). -1 and NaN for
/// a row without a distribution.
struct ConditionalMixtureAncestral {
  ConditionalMixture mixture;
  const int64_t* data;  // (N), null: the row's number
  DrawArgs draws;
  int32_t* z;  // (N)
  float* x;    // (N, D)
};
void run_cpu(const ConditionalMixtureAncestral& args);
void run_cuda(const ConditionalMixtureAncestral& args, void* stream);

}  // namespace dgm::kernels
