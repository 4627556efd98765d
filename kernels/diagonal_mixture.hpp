// SPDX-License-Identifier: Apache-2.0
// Launches of the Gaussian mixture with diagonal covariances:
// log p(x_n) = log sum_k pi_k prod_d N(x_nd; mean_kd, exp(log_scale_kd)^2), pi = softmax(logits).
//
// Letters: N rows of data, K components, D dimensions; t_nkd = (x_nd - mean_kd) / scale_kd, the
// standardised residual; r_nk the responsibilities.
//
// scratch: device memory of cuda_scratch_bytes(args) that run_cuda works in; dgm::run() provides it.
#pragma once

#include "kernels/draws.hpp"

#include <cstddef>
#include <cstdint>

namespace dgm::kernels {

struct DiagonalMixture {
  const float* logits;     // (K); normalised by softmax; -inf is a component of no weight: it adds nothing
                           // to any sum whatever its mean and scale are, and its gradients are zero
  const float* mean;       // (K, D)
  const float* log_scale;  // (K, D)
  int64_t components;      // K >= 1
  int64_t dims;            // D >= 1
};

/// y[n] = log p(x_n), and on request sum_n w_n log p(x_n), summed in double in a fixed order. Rows with
/// w_n = 0 add nothing to it whatever x_n is.
struct DiagonalMixtureMarginal {
  DiagonalMixture mixture;
  const float* x;                  // (N, D); a row with a NaN has y = NaN, else one with an infinity y = -inf
  int64_t rows;                    // N
  float* y;                        // (N), null: not wanted
  const float* weights = nullptr;  // (N), null: all 1; only the total is weighted
  float* total = nullptr;          // one element, null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixtureMarginal& args);
void run_cuda(const DiagonalMixtureMarginal& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureMarginal& args);

/// Weighted sufficient statistics, about the current parameters, in one pass over the data:
///   s0[k]   = sum_n w_n r_nk
///   s1[k,d] = sum_n w_n r_nk t_nkd
///   s2[k,d] = sum_n w_n r_nk t_nkd^2
/// and, on request, the log marginal, its weighted sum, and that sum's gradient by the data.
/// Sums are hierarchical and end in double; their order is fixed. Rows with w_n = 0 contribute
/// nothing whatever x_n is; rows of log marginal -inf contribute nothing.
struct DiagonalMixtureStatistics {
  DiagonalMixture mixture;
  const float* x;          // (N, D)
  int64_t rows;            // N
  const float* weights;    // (N), any sign; null: all 1
  const float* y_given;    // (N) log marginals from an earlier pass with the same parameters; null: computed
  float* y;                // (N), null: not wanted; not with y_given
  float* dx;               // (N, D), null: not wanted
  double* s0;              // (K), overwritten
  double* s1;              // (K, D), overwritten
  double* s2;              // (K, D), overwritten
  float* total = nullptr;  // one element: sum_n w_n log p(x_n), as above; null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixtureStatistics& args);
void run_cuda(const DiagonalMixtureStatistics& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureStatistics& args);

/// Gradients from statistics, times *upstream:
///   d logits = s0 - pi sum_k s0,  d mean = s1 / scale,  d log_scale = s2 - s0.
struct DiagonalMixtureGradients {
  DiagonalMixture mixture;
  const double* s0;
  const double* s1;
  const double* s2;
  const float* upstream;  // one element on the device; null: 1
  float* d_logits;        // (K), null: not wanted
  float* d_mean;          // (K, D), null: not wanted
  float* d_log_scale;     // (K, D), null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixtureGradients& args);
void run_cuda(const DiagonalMixtureGradients& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureGradients& args);

/// r[n,k], for those who ask.
struct DiagonalMixtureResponsibilities {
  DiagonalMixture mixture;
  const float* x;
  int64_t rows;
  float* r;  // (N, K)
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixtureResponsibilities& args);
void run_cuda(const DiagonalMixtureResponsibilities& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureResponsibilities& args);

/// z[n,s] ~ p(z | x_n), by inversion of the cumulative responsibilities: word s % 4 of block s / 4 of
/// the datum. -1 for a row without a posterior (log marginal -inf or NaN).
struct DiagonalMixturePosteriorSample {
  DiagonalMixture mixture;
  const float* x;
  int64_t rows;
  const int64_t* data;  // (N) each row's datum for the draw; null: the row's number
  int64_t samples;      // S >= 1
  DrawArgs draws;
  int32_t* z;  // (N, S)
  float* y;    // (N) log marginals, null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixturePosteriorSample& args);
void run_cuda(const DiagonalMixturePosteriorSample& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixturePosteriorSample& args);

/// log p(x_n, z_ns) for given components; NaN for one that is out of range.
struct DiagonalMixtureJoint {
  DiagonalMixture mixture;
  const float* x;
  const int32_t* z;  // (N, S)
  int64_t rows;
  int64_t samples;
  float* y;  // (N, S)
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixtureJoint& args);
void run_cuda(const DiagonalMixtureJoint& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureJoint& args);

/// The statistics with the responsibilities replaced by one-hot samples: r_nk = sum_s g_ns [z_ns = k];
/// samples of g_ns = 0 and components out of range or of no weight contribute nothing.
/// With DiagonalMixtureGradients this is the gradient of sum_ns g_ns log p(x_n, z_ns).
struct DiagonalMixtureJointStatistics {
  DiagonalMixture mixture;
  const float* x;
  const int32_t* z;  // (N, S)
  const float* g;    // (N, S)
  int64_t rows;
  int64_t samples;
  float* dx;  // (N, D), null: not wanted
  double* s0;
  double* s1;
  double* s2;
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixtureJointStatistics& args);
void run_cuda(const DiagonalMixtureJointStatistics& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureJointStatistics& args);

/// Ancestral sampling: z_n ~ Cat(pi), x_n ~ N(mean_z, scale_z^2). Datum n draws its component from
/// word 0 of block 0 and its dimensions from blocks 1, 2, ... (two normals from two words).
struct DiagonalMixtureAncestral {
  DiagonalMixture mixture;
  int64_t rows;
  DrawArgs draws;
  int32_t* z;  // (N)
  float* x;    // (N, D)
  void* scratch = nullptr;
};
void run_cpu(const DiagonalMixtureAncestral& args);
void run_cuda(const DiagonalMixtureAncestral& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureAncestral& args);

}  // namespace dgm::kernels
