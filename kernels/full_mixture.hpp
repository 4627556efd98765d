// SPDX-License-Identifier: Apache-2.0
// Launches of the Gaussian mixture with full covariances:
// log p(x_n) = log sum_k pi_k N(x_n; mean_k, L_k L_k^T), pi = softmax(logits).
//
// Letters: N rows of data, K components, D dimensions; L_k lower triangular, given as `factor`, whose
// entries below the diagonal are L's and whose diagonal is log L_ii, so that any real numbers are a
// covariance; entries above the diagonal are ignored, and their gradients zero.
// t_nk = L_k^-1 (x_n - mean_k), the whitened residual; r_nk the responsibilities.
//
// scratch: device memory of cuda_scratch_bytes(args) that run_cuda works in; dgm::run() provides it.
#pragma once

#include "kernels/draws.hpp"

#include <cstddef>
#include <cstdint>

namespace dgm::kernels {

struct FullMixture {
  const float* logits;  // (K); normalised by softmax; -inf is a component of no weight
  const float* mean;    // (K, D)
  const float* factor;  // (K, D, D)
  int64_t components;   // K >= 1
  int64_t dims;         // D >= 1
};

/// y[n] = log p(x_n), and on request sum_n w_n log p(x_n), summed in double in a fixed order. Rows with
/// w_n = 0 add nothing to it whatever x_n is.
struct FullMixtureMarginal {
  FullMixture mixture;
  const float* x;                  // (N, D); a row with a NaN has y = NaN, else one with an infinity y = -inf
  int64_t rows;                    // N
  float* y;                        // (N), null: not wanted
  const float* weights = nullptr;  // (N), null: all 1; only the total is weighted
  float* total = nullptr;          // one element, null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const FullMixtureMarginal& args);
void run_cuda(const FullMixtureMarginal& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureMarginal& args);

/// Weighted sufficient statistics, about the current parameters, in one pass over the data:
///   s0[k]   = sum_n w_n r_nk
///   s1[k,d] = sum_n w_n r_nk t_nkd
///   s2[k,i,j] = sum_n w_n r_nk t_nki t_nkj for j <= i; 0 above the diagonal
/// and, on request, the log marginal, its weighted sum, and that sum's gradient by the data.
/// Sums are hierarchical and end in double; their order is fixed. Rows with w_n = 0 contribute
/// nothing whatever x_n is; rows of log marginal -inf contribute nothing.
struct FullMixtureStatistics {
  FullMixture mixture;
  const float* x;          // (N, D)
  int64_t rows;            // N
  const float* weights;    // (N), any sign; null: all 1
  const float* y_given;    // (N) log marginals from an earlier pass with the same parameters; null: computed
  float* y;                // (N), null: not wanted; not with y_given
  float* dx;               // (N, D), null: not wanted
  double* s0;              // (K), overwritten
  double* s1;              // (K, D), overwritten
  double* s2;              // (K, D, D), overwritten
  float* total = nullptr;  // one element: sum_n w_n log p(x_n), as above; null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const FullMixtureStatistics& args);
void run_cuda(const FullMixtureStatistics& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureStatistics& args);

/// Gradients from statistics, times *upstream:
///   d logits = s0 - pi sum_k s0,  d mean = L^-T s1,  d L = tril(L^-T (s2 - s0 I)), s2 made symmetric;
/// on the diagonal of the factor, times L_ii.
struct FullMixtureGradients {
  FullMixture mixture;
  const double* s0;
  const double* s1;
  const double* s2;
  const float* upstream;  // one element on the device; null: 1
  float* d_logits;        // (K), null: not wanted
  float* d_mean;          // (K, D), null: not wanted
  float* d_factor;        // (K, D, D), null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const FullMixtureGradients& args);
void run_cuda(const FullMixtureGradients& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureGradients& args);

/// r[n,k], for those who ask.
struct FullMixtureResponsibilities {
  FullMixture mixture;
  const float* x;
  int64_t rows;
  float* r;  // (N, K)
  void* scratch = nullptr;
};
void run_cpu(const FullMixtureResponsibilities& args);
void run_cuda(const FullMixtureResponsibilities& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureResponsibilities& args);

/// z[n,s] ~ p(z | x_n), by inversion of the cumulative responsibilities: word s % 4 of block s / 4 of
/// the datum. -1 for a row without a posterior (log marginal -inf or NaN).
struct FullMixturePosteriorSample {
  FullMixture mixture;
  const float* x;
  int64_t rows;
  const int64_t* data;  // (N) each row's datum for the draw; null: the row's number
  int64_t samples;      // S >= 1
  DrawArgs draws;
  int32_t* z;  // (N, S)
  float* y;    // (N) log marginals, null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const FullMixturePosteriorSample& args);
void run_cuda(const FullMixturePosteriorSample& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixturePosteriorSample& args);

/// log p(x_n, z_ns) for given components; NaN for one that is out of range.
struct FullMixtureJoint {
  FullMixture mixture;
  const float* x;
  const int32_t* z;  // (N, S), in 0..K-1
  int64_t rows;
  int64_t samples;
  float* y;  // (N, S)
  void* scratch = nullptr;
};
void run_cpu(const FullMixtureJoint& args);
void run_cuda(const FullMixtureJoint& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureJoint& args);

/// The statistics with the responsibilities replaced by one-hot samples: r_nk = sum_s g_ns [z_ns = k];
/// out-of-range components and samples of g_ns = 0 contribute nothing.
/// With FullMixtureGradients this is the gradient of sum_ns g_ns log p(x_n, z_ns).
struct FullMixtureJointStatistics {
  FullMixture mixture;
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
void run_cpu(const FullMixtureJointStatistics& args);
void run_cuda(const FullMixtureJointStatistics& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureJointStatistics& args);

/// Ancestral sampling: z_n ~ Cat(pi), x_n = mean_z + L_z e. Datum n draws its component from
/// word 0 of block 0 and its dimensions from blocks 1, 2, ... (two normals from two words).
struct FullMixtureAncestral {
  FullMixture mixture;
  int64_t rows;
  DrawArgs draws;
  int32_t* z;  // (N)
  float* x;    // (N, D)
  void* scratch = nullptr;
};
void run_cpu(const FullMixtureAncestral& args);
void run_cuda(const FullMixtureAncestral& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureAncestral& args);

}  // namespace dgm::kernels
