// SPDX-License-Identifier: Apache-2.0
// Launches of the Gaussian mixture with diagonal covariances:
// log p(x_n) = log sum_k pi_k prod_d N(x_nd; mean_kd, exp(log_scale_kd)^2), pi = softmax(logits).
//
// Letters: N rows of data, K components, D dimensions; t_nkd = (x_nd - mean_kd) / scale_kd, the
// standardised residual; r_nk the responsibilities.
//
// scratch: device memory of cuda_scratch_bytes(args) that run_cuda works in; dgm::run() provides it.
#pragma once

#include "kernels/mixture.hpp"

namespace dgm::kernels {

struct DiagonalMixture {
  const float* logits;     // (K); normalised by softmax; -inf is a component of no weight: it adds nothing
                           // to any sum whatever its mean and scale are, and its gradients are zero
  const float* mean;       // (K, D)
  const float* log_scale;  // (K, D)
  int64_t components;      // K >= 1
  int64_t dims;            // D >= 1
};

using DiagonalMixtureMarginal = MixtureMarginal<DiagonalMixture>;
void run_cpu(const DiagonalMixtureMarginal& args);
void run_cuda(const DiagonalMixtureMarginal& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureMarginal& args);

/// s2 (K, D): s2[k,d] = sum_n w_n r_nk t_nkd^2.
using DiagonalMixtureStatistics = MixtureStatistics<DiagonalMixture>;
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

using DiagonalMixtureResponsibilities = MixtureResponsibilities<DiagonalMixture>;
void run_cpu(const DiagonalMixtureResponsibilities& args);
void run_cuda(const DiagonalMixtureResponsibilities& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureResponsibilities& args);

using DiagonalMixturePosteriorSample = MixturePosteriorSample<DiagonalMixture>;
void run_cpu(const DiagonalMixturePosteriorSample& args);
void run_cuda(const DiagonalMixturePosteriorSample& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixturePosteriorSample& args);

using DiagonalMixtureJoint = MixtureJoint<DiagonalMixture>;
void run_cpu(const DiagonalMixtureJoint& args);
void run_cuda(const DiagonalMixtureJoint& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureJoint& args);

using DiagonalMixtureJointStatistics = MixtureJointStatistics<DiagonalMixture>;
void run_cpu(const DiagonalMixtureJointStatistics& args);
void run_cuda(const DiagonalMixtureJointStatistics& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureJointStatistics& args);

using DiagonalMixtureAncestral = MixtureAncestral<DiagonalMixture>;
void run_cpu(const DiagonalMixtureAncestral& args);
void run_cuda(const DiagonalMixtureAncestral& args, void* stream);
std::size_t cuda_scratch_bytes(const DiagonalMixtureAncestral& args);

}  // namespace dgm::kernels
