// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/distributions/vector_distribution.hpp>
#include <dgm/ops/activations.hpp>
#include <dgm/ops/densities.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/ops/vector_sample.hpp>

#include "host/core/check.hpp"
#include "host/core/dispatch.hpp"

#include <cmath>
#include <limits>
#include <numbers>

namespace dgm {

namespace {

// A sum over coordinates that are rows of one: the terms themselves.
template <class Sum, class... Arguments>
Variable terms_of(const Sum& sum_over_last, const Variable& first, const Arguments&... others) {
  const Shape shape = first.shape();
  const Shape one = {shape.size(), 1};
  return reshape(sum_over_last(reshape(first, one), reshape(others, one)...), shape);
}

}  // namespace

DiagonalGaussian::DiagonalGaussian(Variable mean, Variable log_scale)
    : mean_(std::move(mean)), log_scale_(std::move(log_scale)) {
  check<ShapeError>(mean_.shape().rank() == 2, "DiagonalGaussian: mean has shape ", mean_.shape().str(),
                    "; (B, D) is needed");
  check_shape("DiagonalGaussian", "log_scale", log_scale_.value(), mean_.shape(), "(B, D)");
  check_same_stream("DiagonalGaussian", "mean", mean_.value(), "log_scale", log_scale_.value());
}

DiagonalGaussian DiagonalGaussian::standard(int64_t batch, int64_t dims, const Stream& stream) {
  const auto zeros = Tensor<float>::zeros({batch, dims}, stream);
  DiagonalGaussian result(zeros, zeros);
  result.standard_ = true;
  return result;
}

Variable DiagonalGaussian::sample(const Draws& draws, int64_t samples, const Tensor<int64_t>* data) const {
  return gaussian_sample(mean_, log_scale_, draws, samples, data);
}

Variable DiagonalGaussian::log_prob(const Variable& z) const {
  if (standard_) return standard_gaussian_log_density(z);
  return gaussian_log_density(z, mean_, log_scale_);
}

Variable DiagonalGaussian::entropy() const {
  constexpr float kHalfLogTwoPiE = 1.41893853f;
  return sum(log_scale_, -1) + kHalfLogTwoPiE * static_cast<float>(dims());
}

Variable DiagonalGaussian::log_cdf(const Variable& x) const { return gaussian_log_cdf(x, mean_, log_scale_); }

namespace {

// The standard normal's quantile by Newton's steps on log P, which is concave, from a start that is right in the tail.
double normal_quantile(double p) {
  if (p > 0.5) return -normal_quantile(1 - p);
  if (p == 0) return -std::numeric_limits<double>::infinity();
  constexpr double kRootHalf = 0.70710678118654752;
  double x = -std::sqrt(-2 * std::log(2 * p));
  for (int step = 0; step < 20; ++step) {
    const double below = std::erfc(-x * kRootHalf) / 2;
    if (!(below > 0)) break;  // beyond the smallest numbers the start has to do
    const double density = std::exp(-x * x / 2) / std::sqrt(2 * std::numbers::pi);
    x -= (std::log(below) - std::log(p)) * below / density;
  }
  return x;
}

}  // namespace

Variable DiagonalGaussian::quantile(double p) const {
  check<ArgumentError>(p >= 0 && p <= 1, "DiagonalGaussian::quantile: p is ", p, "; 0 <= p <= 1 is needed");
  return mean_ + exp(log_scale_) * static_cast<float>(normal_quantile(p));
}

std::optional<Variable> DiagonalGaussian::coordinate_kl(const VectorDistribution& other) const {
  const auto* const gaussian = dynamic_cast<const DiagonalGaussian*>(&other);
  if (gaussian == nullptr) return std::nullopt;
  if (gaussian->standard_) {
    return terms_of([](const auto&... u) { return gaussian_kl(u...); }, mean_, log_scale_);
  }
  return terms_of([](const auto&... u) { return gaussian_kl(u...); }, mean_, log_scale_, gaussian->mean_,
                  gaussian->log_scale_);
}

std::unique_ptr<VectorDistribution> DiagonalGaussian::detach() const {
  auto result = std::make_unique<DiagonalGaussian>(mean_.detach(), log_scale_.detach());
  result->standard_ = standard_;
  return result;
}

BernoulliVector::BernoulliVector(Variable logits) : logits_(std::move(logits)) {
  check<ShapeError>(logits_.shape().rank() == 2, "BernoulliVector: logits has shape ", logits_.shape().str(),
                    "; (B, D) is needed");
}

Variable BernoulliVector::sample(const Draws& draws, int64_t samples, const Tensor<int64_t>* data) const {
  return bernoulli_sample(logits_.value(), draws, samples, data);
}

Variable BernoulliVector::log_prob(const Variable& z) const { return bernoulli_log_density(z, logits_); }

Variable BernoulliVector::log_cdf(const Variable& x) const { return bernoulli_log_cdf(x, logits_); }

Variable BernoulliVector::entropy() const { return bernoulli_entropy(logits_); }

Tensor<float> BernoulliVector::mode() const {
  // The sigmoid is above 1/2 exactly where the logit is above 0; scaled up, it is 0 or 1 everywhere else.
  constexpr float kSmallest = 1.2e-38f;
  return clamp(scale_shift(logits_.detach(), 1 / kSmallest, 0), 0, 1).value();
}

std::optional<Variable> BernoulliVector::coordinate_kl(const VectorDistribution& other) const {
  const auto* const bernoulli = dynamic_cast<const BernoulliVector*>(&other);
  if (bernoulli == nullptr) return std::nullopt;
  return terms_of([](const auto&... u) { return bernoulli_kl(u...); }, logits_, bernoulli->logits_);
}

std::unique_ptr<VectorDistribution> BernoulliVector::detach() const {
  return std::make_unique<BernoulliVector>(logits_.detach());
}

}  // namespace dgm
