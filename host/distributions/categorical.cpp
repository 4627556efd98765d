// SPDX-License-Identifier: Apache-2.0
#include <dgm/distributions/categorical.hpp>
#include <dgm/ops/categorical_sample.hpp>
#include <dgm/ops/densities.hpp>
#include <dgm/ops/log_softmax.hpp>
#include <dgm/ops/pick.hpp>

#include "host/core/check.hpp"

#include <algorithm>
#include <cmath>

namespace dgm {

namespace {

Variable normalised(const Variable& logits) {
  check<ShapeError>(logits.shape().rank() == 2 && logits.shape()[1] >= 1, "Categorical: logits has shape ",
                    logits.shape().str(), "; (B, K) with K >= 1 is needed");
  return log_softmax(logits);
}

}  // namespace

Categorical::Categorical(const Variable& logits) : log_probabilities_(normalised(logits)) {}

Tensor<int32_t> Categorical::sample(const Draws& draws, int64_t samples, const Tensor<int64_t>* data) const {
  return categorical_sample(log_probabilities_.value(), draws, samples, data);
}

Variable Categorical::log_prob(const Tensor<int32_t>& z) const { return pick(log_probabilities_, z); }

Variable Categorical::entropy() const { return categorical_entropy(log_probabilities_); }

Variable Categorical::kl(const Categorical& other) const {
  return categorical_kl(log_probabilities_, other.log_probabilities_);
}

Tensor<int32_t> Categorical::mode() const {
  const std::vector<float> table = log_probabilities_.value().to_host();
  std::vector<int32_t> best(static_cast<std::size_t>(batch()), -1);
  for (std::size_t b = 0; b < best.size(); ++b) {
    const auto row = table.begin() + static_cast<std::ptrdiff_t>(b) * values();
    const auto end = row + values();
    if (std::any_of(row, end, [](float x) { return std::isnan(x); })) continue;
    const auto largest = std::max_element(row, end);
    if (*largest > -INFINITY) best[b] = static_cast<int32_t>(largest - row);
  }
  return Tensor<int32_t>::from(best, {batch()}, log_probabilities_.stream());
}

Tensor<float> Categorical::cdf(const Tensor<int32_t>& z) const {
  check<ShapeError>(z.shape().rank() == 2 && z.shape()[0] == batch(), "Categorical::cdf: z has shape ", z.shape().str(),
                    "; (B, S) with B = ", batch(), " is needed");
  const std::vector<float> table = log_probabilities_.value().to_host();
  const std::vector<int32_t> wanted = z.to_host();
  const auto samples = static_cast<std::size_t>(z.shape()[1]);
  const auto width = static_cast<std::size_t>(values());
  std::vector<float> result(wanted.size());
  std::vector<double> below(width);  // P(Z <= k)
  for (std::size_t b = 0; b < static_cast<std::size_t>(batch()); ++b) {
    double sum = 0;
    for (std::size_t k = 0; k < width; ++k) below[k] = sum += std::exp(double{table[b * width + k]});
    const bool none = !(sum > 0);  // NaN too
    for (std::size_t i = b * samples; i < (b + 1) * samples; ++i) {
      const int32_t k = wanted[i];
      const double inside = k < 0 ? 0 : k + 1 >= values() ? 1 : below[static_cast<std::size_t>(k)] / sum;
      result[i] = none ? NAN : static_cast<float>(inside);
    }
  }
  return Tensor<float>::from(result, z.shape(), z.stream());
}

}  // namespace dgm
