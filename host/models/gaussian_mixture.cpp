// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/gaussian_mixture.hpp>
#include <dgm/ops/diagonal_mixture.hpp>
#include <dgm/ops/full_mixture.hpp>

#include "host/core/check.hpp"
#include "host/models/small_matrix.hpp"

#include <algorithm>
#include <array>
#include <cmath>

namespace dgm {

namespace {

const char* scale_name(Covariance covariance) { return covariance == Covariance::full ? "factor" : "log_scale"; }

// What the ops take, in their order: logits, means, scales or factors.
std::array<Variable, 3> watched(Tape& tape, Parameters& parameters, Covariance covariance) {
  return {tape.watch(parameters["logits"]), tape.watch(parameters["mean"]),
          tape.watch(parameters[scale_name(covariance)])};
}

std::array<Tensor<float>, 3> values(const Parameters& parameters, Covariance covariance) {
  return {parameters["logits"].value, parameters["mean"].value, parameters[scale_name(covariance)].value};
}

// Of two ops that differ in the shape of the covariance, the one for this.
template <class Op>
Op* op_for(Covariance covariance, Op* diagonal, Op* full) {
  return covariance == Covariance::full ? full : diagonal;
}

}  // namespace

GaussianMixture::GaussianMixture(int64_t components, int64_t dims, Covariance covariance, const Stream& stream)
    : components_(components), dims_(dims), covariance_(covariance) {
  check<ArgumentError>(components >= 1, "GaussianMixture: components is ", components, "; at least 1 is needed");
  check<ArgumentError>(dims >= 1, "GaussianMixture: dims is ", dims, "; at least 1 is needed");
  parameters_.add("logits", Tensor<float>::zeros({components}, stream));
  parameters_.add("mean", Tensor<float>::zeros({components, dims}, stream));
  const Shape scale = covariance == Covariance::full ? Shape{components, dims, dims} : Shape{components, dims};
  parameters_.add(scale_name(covariance), Tensor<float>::zeros(scale, stream));
}

int64_t GaussianMixture::degrees_of_freedom() const {
  const int64_t scale = covariance_ == Covariance::full ? dims_ * (dims_ + 1) / 2 : dims_;
  return components_ - 1 + components_ * (dims_ + scale);
}

double GaussianMixture::aic(double log_likelihood) const {
  return -2 * log_likelihood + 2 * static_cast<double>(degrees_of_freedom());
}

double GaussianMixture::bic(double log_likelihood, int64_t rows) const {
  check<ArgumentError>(rows >= 1, "GaussianMixture::bic: rows is ", rows, "; at least 1 is needed");
  return -2 * log_likelihood + static_cast<double>(degrees_of_freedom()) * std::log(static_cast<double>(rows));
}

Variable GaussianMixture::log_likelihood(Tape& tape, const Tensor<float>& x, const Tensor<float>* weights) {
  const auto [logits, mean, scale] = watched(tape, parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_log_likelihood, full_mixture_log_likelihood)(x, logits, mean, scale,
                                                                                           weights);
}

Variable GaussianMixture::log_marginal(Tape& tape, const Tensor<float>& x) {
  const auto [logits, mean, scale] = watched(tape, parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_log_marginal, full_mixture_log_marginal)(x, logits, mean, scale);
}

Variable GaussianMixture::log_joint(Tape& tape, const Tensor<float>& x, const Tensor<int32_t>& z) {
  const auto [logits, mean, scale] = watched(tape, parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_log_joint, full_mixture_log_joint)(x, z, logits, mean, scale);
}

Tensor<float> GaussianMixture::log_prob(const Tensor<float>& x) const {
  const auto [logits, mean, scale] = values(parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_log_marginal, full_mixture_log_marginal)(x, logits, mean, scale).value();
}

Tensor<float> GaussianMixture::responsibilities(const Tensor<float>& x) const {
  const auto [logits, mean, scale] = values(parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_responsibilities, full_mixture_responsibilities)(x, logits, mean, scale);
}

std::vector<int32_t> GaussianMixture::assignments(const Tensor<float>& x) const {
  // By slices: the responsibilities of all rows at once would be N x K numbers.
  constexpr int64_t kSliceElements = int64_t{1} << 20;
  const int64_t slice = std::max<int64_t>(1, kSliceElements / components_);
  check<ShapeError>(x.shape().rank() == 2, "GaussianMixture::assignments: x has shape ", x.shape().str(),
                    "; (N, D) is needed");
  std::vector<int32_t> result;
  result.reserve(static_cast<std::size_t>(x.shape()[0]));
  for (int64_t begin = 0; begin < x.shape()[0]; begin += slice) {
    const int64_t end = std::min(begin + slice, x.shape()[0]);
    const std::vector<float> r = responsibilities(x.rows(begin, end)).to_host();
    for (int64_t n = 0; n < end - begin; ++n) {
      int32_t best = -1;
      float most = 0.0f;  // a row without density has no responsibility above 0, one with a NaN none that compares
      for (int64_t k = 0; k < components_; ++k) {
        const float value = r[static_cast<std::size_t>(n * components_ + k)];
        if (value > most) {
          most = value;
          best = static_cast<int32_t>(k);
        }
      }
      result.push_back(best);
    }
  }
  return result;
}

Tensor<int32_t> GaussianMixture::sample_posterior(const Tensor<float>& x, const Draws& draws, int64_t samples,
                                                  const Tensor<int64_t>* data) const {
  const auto [logits, mean, scale] = values(parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_sample_posterior, full_mixture_sample_posterior)(x, logits, mean, scale,
                                                                                               draws, samples, data);
}

MixtureSample GaussianMixture::sample(int64_t count, const Draws& draws) const {
  const auto [logits, mean, scale] = values(parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_sample, full_mixture_sample)(count, logits, mean, scale, draws);
}

MixtureStatistics GaussianMixture::statistics(const Tensor<float>& x) const {
  const auto [logits, mean, scale] = values(parameters_, covariance_);
  return op_for(covariance_, diagonal_mixture_statistics, full_mixture_statistics)(x, logits, mean, scale, nullptr);
}

std::vector<double> GaussianMixture::weights() const {
  const std::vector<float> logits = parameters_["logits"].value.to_host();
  double max = -INFINITY;
  for (const float logit : logits) max = std::max(max, double{logit});
  std::vector<double> weights;
  double sum = 0;
  for (const float logit : logits) sum += weights.emplace_back(std::exp(logit - max));
  for (double& weight : weights) weight /= sum;
  return weights;
}

std::vector<double> GaussianMixture::means() const {
  const std::vector<float> means = parameters_["mean"].value.to_host();
  return {means.begin(), means.end()};
}

std::vector<double> GaussianMixture::covariances() const {
  const std::vector<float> scale = parameters_[scale_name(covariance_)].value.to_host();
  std::vector<double> covariances;
  if (covariance_ == Covariance::diagonal) {
    for (const float log_scale : scale) covariances.push_back(std::exp(2 * double{log_scale}));
    return covariances;
  }
  const auto d = static_cast<std::size_t>(dims_);
  for (std::size_t k = 0; k < static_cast<std::size_t>(components_); ++k) {
    SmallMatrix lower(d);
    for (std::size_t i = 0; i < d; ++i) {
      for (std::size_t j = 0; j < i; ++j) lower(i, j) = scale[(k * d + i) * d + j];
      lower(i, i) = std::exp(double{scale[(k * d + i) * d + i]});
    }
    const SmallMatrix covariance = times_transposed(lower, lower);
    covariances.insert(covariances.end(), covariance.values().begin(), covariance.values().end());
  }
  return covariances;
}

void GaussianMixture::set(const std::vector<double>& weights, const std::vector<double>& means,
                          const std::vector<double>& covariances) {
  constexpr const char* kName = "GaussianMixture::set";
  const auto count = static_cast<std::size_t>(components_);
  const auto d = static_cast<std::size_t>(dims_);
  check<ShapeError>(weights.size() == count, kName, ": weights has ", weights.size(), " values; ", count,
                    " are needed");
  check<ShapeError>(means.size() == count * d, kName, ": means has ", means.size(), " values; ", count * d,
                    " are needed");
  const std::size_t each = covariance_ == Covariance::full ? d * d : d;
  check<ShapeError>(covariances.size() == count * each, kName, ": covariances has ", covariances.size(), " values; ",
                    count * each, " are needed");
  double total = 0;
  for (std::size_t k = 0; k < count; ++k) {
    check<ArgumentError>(weights[k] >= 0, kName, ": weights[", k, "] is ", weights[k], "; at least 0 is needed");
    total += weights[k];
  }
  check<ArgumentError>(total > 0 && std::isfinite(total), kName, ": the weights sum to ", total,
                       "; a positive number is needed");

  std::vector<float> logits;
  std::vector<float> scale;
  for (std::size_t k = 0; k < count; ++k) {
    logits.push_back(static_cast<float>(std::log(weights[k] / total)));
    const double* const covariance = covariances.data() + k * each;
    const auto refuse = [&] {
      throw NumericalError(text(kName, ": the covariance of component ", k, " is not positive definite"));
    };
    if (covariance_ == Covariance::full) {
      const std::optional<SmallMatrix> lower = cholesky(SmallMatrix(d, covariance));
      if (!lower) refuse();
      for (std::size_t i = 0; i < d; ++i) {
        for (std::size_t j = 0; j < d; ++j) {
          scale.push_back(static_cast<float>(j < i ? (*lower)(i, j) : j == i ? std::log((*lower)(i, i)) : 0.0));
        }
      }
    } else {
      for (std::size_t i = 0; i < d; ++i) {
        if (!(covariance[i] > 0) || std::isinf(covariance[i])) refuse();
        scale.push_back(static_cast<float>(0.5 * std::log(covariance[i])));
      }
    }
  }
  const std::vector<float> mean(means.begin(), means.end());
  parameters_["logits"].value.copy_from(Tensor<float>::from(logits, {components_}, stream()));
  parameters_["mean"].value.copy_from(Tensor<float>::from(mean, {components_, dims_}, stream()));
  Parameter& last = parameters_[scale_name(covariance_)];
  last.value.copy_from(Tensor<float>::from(scale, last.value.shape(), stream()));
}

MixtureJoint::MixtureJoint(GaussianMixture& model, Tensor<float> x, const Tensor<int64_t>* data)
    : model_(model), x_(std::move(x)) {
  if (data != nullptr) data_ = *data;
}

Variable MixtureJoint::log_joint(Tape& tape, const Tensor<int32_t>& z) const { return model_.log_joint(tape, x_, z); }

Variable MixtureJoint::log_marginal(Tape& tape) const { return model_.log_marginal(tape, x_); }

Tensor<int32_t> MixtureJoint::sample_posterior(const Draws& draws, int64_t samples) const {
  return model_.sample_posterior(x_, draws, samples, data_ ? &*data_ : nullptr);
}

}  // namespace dgm
