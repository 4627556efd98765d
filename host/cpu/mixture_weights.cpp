// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/mixture_weights.hpp"

#include <cmath>
#include <numeric>

namespace dgm::kernels {

std::vector<double> log_mixture_weights(const float* logits, int64_t components) {
  std::vector<double> result(logits, logits + components);
  double max = -INFINITY;
  for (const double logit : result) max = logit > max || std::isnan(logit) ? logit : max;
  if (max == -INFINITY) return result;
  double sum = 0;
  for (const double logit : result) sum += std::exp(logit - max);
  const double log_norm = max + std::log(sum);
  for (double& logit : result) logit -= log_norm;
  return result;
}

void mixture_logit_gradients(const float* logits, int64_t components, const double* s0, double upstream,
                             float* d_logits) {
  const std::vector<double> log_pi = log_mixture_weights(logits, components);
  const double sum = std::accumulate(s0, s0 + components, 0.0);
  for (int64_t k = 0; k < components; ++k) {
    d_logits[k] = static_cast<float>(upstream * (s0[k] - std::exp(log_pi[static_cast<std::size_t>(k)]) * sum));
  }
}

}  // namespace dgm::kernels
