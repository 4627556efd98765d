// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/diagonal_mixture/exact.hpp"

#include "host/cpu/mixture_weights.hpp"

#include <algorithm>
#include <cmath>

namespace dgm::kernels::diagonal {

namespace {
constexpr double kLogTwoPi = 1.8378770664093454836;
}

std::vector<double> peaks(const DiagonalMixture& mixture) {
  std::vector<double> result = log_mixture_weights(mixture.logits, mixture.components);
  for (std::size_t k = 0; k < result.size(); ++k) {
    if (result[k] == -INFINITY) continue;
    const float* const log_scale = mixture.log_scale + static_cast<int64_t>(k) * mixture.dims;
    for (int64_t d = 0; d < mixture.dims; ++d) result[k] -= log_scale[d] + kLogTwoPi / 2;
  }
  return result;
}

double residual(const DiagonalMixture& mixture, int64_t k, int64_t d, double x) {
  return (x - mixture.mean[k * mixture.dims + d]) * std::exp(-double{mixture.log_scale[k * mixture.dims + d]});
}

double log_joint(const DiagonalMixture& mixture, double peak, int64_t k, const float* x) {
  if (peak == -INFINITY) return peak;
  double sum = 0;
  for (int64_t d = 0; d < mixture.dims; ++d) {
    const double t = residual(mixture, k, d, x[d]);
    sum += t * t;
  }
  return peak - 0.5 * sum;
}

float posterior(const DiagonalMixture& mixture, const std::vector<double>& peak, const float* x, double* r) {
  bool nan = false;
  bool infinite = false;
  for (int64_t d = 0; d < mixture.dims; ++d) {
    nan = nan || std::isnan(x[d]);
    infinite = infinite || std::isinf(x[d]);
  }
  const double edge = nan ? NAN : -INFINITY;
  double max = -INFINITY;
  for (int64_t k = 0; k < mixture.components && !nan && !infinite; ++k) {
    r[k] = log_joint(mixture, peak[static_cast<std::size_t>(k)], k, x);
    max = r[k] > max || std::isnan(r[k]) ? r[k] : max;
  }
  if (nan || infinite || max == -INFINITY) {
    std::fill(r, r + mixture.components, nan ? NAN : 0.0);
    return static_cast<float>(edge);
  }
  double sum = 0;
  for (int64_t k = 0; k < mixture.components; ++k) sum += r[k] = std::exp(r[k] - max);
  const auto y = static_cast<float>(max + std::log(sum));
  for (int64_t k = 0; k < mixture.components; ++k) r[k] = y == -INFINITY ? 0.0 : r[k] / sum;
  return y;
}

}  // namespace dgm::kernels::diagonal
