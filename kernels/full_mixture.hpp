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

#include "kernels/mixture.hpp"

namespace dgm::kernels {

struct FullMixture {
  const float* logits;  // (K); normalised by softmax; -inf is a component of no weight
  const float* mean;    // (K, D)
  const float* factor;  // (K, D, D)
  int64_t components;   // K >= 1
  int64_t dims;         // D >= 1
};

using FullMixtureMarginal = MixtureMarginal<FullMixture>;
void run_cpu(const FullMixtureMarginal& args);
void run_cuda(const FullMixtureMarginal& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureMarginal& args);

/// s2 (K, D, D): s2[k,i,j] = sum_n w_n r_nk t_nki t_nkj for j <= i; 0 above the diagonal.
using FullMixtureStatistics = MixtureStatistics<FullMixture>;
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

using FullMixtureResponsibilities = MixtureResponsibilities<FullMixture>;
void run_cpu(const FullMixtureResponsibilities& args);
void run_cuda(const FullMixtureResponsibilities& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureResponsibilities& args);

using FullMixturePosteriorSample = MixturePosteriorSample<FullMixture>;
void run_cpu(const FullMixturePosteriorSample& args);
void run_cuda(const FullMixturePosteriorSample& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixturePosteriorSample& args);

using FullMixtureJoint = MixtureJoint<FullMixture>;
void run_cpu(const FullMixtureJoint& args);
void run_cuda(const FullMixtureJoint& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureJoint& args);

using FullMixtureJointStatistics = MixtureJointStatistics<FullMixture>;
void run_cpu(const FullMixtureJointStatistics& args);
void run_cuda(const FullMixtureJointStatistics& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureJointStatistics& args);

/// x_n = mean_z + L_z e.
using FullMixtureAncestral = MixtureAncestral<FullMixture>;
void run_cpu(const FullMixtureAncestral& args);
void run_cuda(const FullMixtureAncestral& args, void* stream);
std::size_t cuda_scratch_bytes(const FullMixtureAncestral& args);

}  // namespace dgm::kernels
