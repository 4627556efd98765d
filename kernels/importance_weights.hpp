// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace dgm::kernels {

/// weights = softmax of a row of log weights, log_mean = log of the mean of their exponentials, ess = 1 / sum of
/// squared weights. A row of -inf: 0, -inf, 0. One with +inf or NaN: NaN.
struct ImportanceWeightsForward {
  const float* log_weights;  // (rows, samples)
  int64_t rows;
  int64_t samples;  // at least 1
  float* weights;   // (rows, samples)
  float* log_mean;  // (rows)
  float* ess;       // (rows)
};
void run_cpu(const ImportanceWeightsForward& args);
void run_cuda(const ImportanceWeightsForward& args, void* stream);

/// gradient[b,s] = w[b,s] (g_weights[b,s] - sum_j w[b,j] g_weights[b,j]), or w[b,s] g_log_mean[b].
struct ImportanceWeightsBackward {
  const float* weights;     // (rows, samples)
  const float* g_weights;   // (rows, samples), null if g_log_mean is given
  const float* g_log_mean;  // (rows), null if g_weights is given
  int64_t rows;
  int64_t samples;
  float* gradient;  // (rows, samples)
};
void run_cpu(const ImportanceWeightsBackward& args);
void run_cuda(const ImportanceWeightsBackward& args, void* stream);

/// gain[b,s] = log sum_j e^{l_j} - log(sum_{j != s} e^{l_j} + e^{mean_{j != s} l_j}) of a row l; 0 where the second sum
/// is 0. Each entry goes through the row, for no sum could be taken out of another without cancellation.
struct LeaveOneOutGain {
  const float* log_weights;  // (rows, samples)
  int64_t rows;
  int64_t samples;  // at least 2
  float* gain;      // (rows, samples)
};
void run_cpu(const LeaveOneOutGain& args);
void run_cuda(const LeaveOneOutGain& args, void* stream);

/// shape[b] = k-hat of the row.
struct ParetoShape {
  static constexpr int64_t kMostSamples = 16384;
  static constexpr int64_t kFewestTail = 5;

  const float* log_weights;  // (rows, samples)
  int64_t rows;
  int64_t samples;  // 1 to kMostSamples
  float* shape;     // (rows)

  /// How many of the largest weights are fitted.
  int64_t tail() const {
    const auto s = static_cast<double>(samples);
    return static_cast<int64_t>(std::ceil(std::min(s / 5, 3 * std::sqrt(s))));
  }
};
void run_cpu(const ParetoShape& args);
void run_cuda(const ParetoShape& args, void* stream);

}  // namespace dgm::kernels
