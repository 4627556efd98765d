// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/densities.hpp>

#include "host/core/dispatch.hpp"
#include "host/ops/sum_axis.hpp"
#include "kernels/densities.hpp"

#include <optional>

namespace dgm {

namespace {

using kernels::Density;

struct Named {
  const char* name;
  Variable variable;
};

Variable density(Density function, const char* name, const std::vector<Named>& inputs) {
  const Named* longest = &inputs.front();
  for (const Named& input : inputs) {
    const Shape& shape = input.variable.shape();
    check<ShapeError>(shape.rank() >= 1 && shape.rank() <= 3, name, ": ", input.name, " has shape ", shape.str(),
                      "; (B, S, D), (B, D) or (D) is needed");
    check_same_stream(name, inputs.front().name, inputs.front().variable.value(), input.name, input.variable.value());
    if (shape.rank() > longest->variable.shape().rank()) longest = &input;
  }
  const Shape& whole = longest->variable.shape();
  const int64_t batch = whole.rank() >= 2 ? whole[0] : 1;
  const int64_t samples = whole.rank() == 3 ? whole[1] : 1;
  const int64_t dims = whole.cols();

  kernels::DensityInput in = {function, {}, batch, samples, dims};
  std::vector<Variable> variables;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Shape& shape = inputs[i].variable.shape();
    check<ShapeError>(
        shape.cols() == dims && (shape.rank() < 2 || shape[0] == batch) && (shape.rank() < 3 || shape[1] == samples),
        name, ": ", inputs[i].name, " has shape ", shape.str(), " but ", longest->name, " has ", whole.str(),
        "; the same, without the samples, or without both is needed");
    in.arguments[i] = {inputs[i].variable.value().data(),
                       shape.rank() == 1   ? 0
                       : shape.rank() == 2 ? dims
                                           : samples * dims,
                       shape.rank() == 3 ? dims : 0};
    variables.push_back(inputs[i].variable);
  }
  const Stream& stream = variables.front().stream();
  auto y = Tensor<float>::empty(whole.without_last(), stream);
  run(stream, kernels::DensitySum{in, y.data()});

  return Tape::record(y, variables, [in, variables](const Tensor<float>& g, Gradients& gradients) {
    kernels::DensityGradient args = {in, g.data(), {}};
    std::vector<std::optional<Tensor<float>>> to(variables.size());
    for (std::size_t i = 0; i < variables.size(); ++i) {
      if (!gradients.wanted(static_cast<int>(i))) continue;
      const Shape& shape = variables[i].shape();
      to[i] = Tensor<float>::empty(shape.rank() == 3 ? shape : Shape{in.batch, in.dims}, g.stream());
      args.gradients[i] = to[i]->data();
    }
    run(g.stream(), args);
    for (std::size_t i = 0; i < variables.size(); ++i) {
      if (!to[i]) continue;
      if (variables[i].shape().rank() == 1) {
        auto total = Tensor<float>::empty(variables[i].shape(), g.stream());
        sum_axis(*to[i], nullptr, 1, in.batch, in.dims, 1.0, total);
        to[i] = total;
      }
      gradients.add(static_cast<int>(i), *to[i]);
    }
  });
}

}  // namespace

Variable gaussian_log_density(const Variable& x, const Variable& mean, const Variable& log_scale) {
  return density(Density::kGaussian, "gaussian_log_density", {{"x", x}, {"mean", mean}, {"log_scale", log_scale}});
}

Variable standard_gaussian_log_density(const Variable& x) {
  return density(Density::kStandardGaussian, "standard_gaussian_log_density", {{"x", x}});
}

Variable gaussian_kl(const Variable& mean, const Variable& log_scale) {
  return density(Density::kStandardGaussianKl, "gaussian_kl", {{"mean", mean}, {"log_scale", log_scale}});
}

Variable gaussian_kl(const Variable& mean, const Variable& log_scale, const Variable& other_mean,
                     const Variable& other_log_scale) {
  return density(
      Density::kGaussianKl, "gaussian_kl",
      {{"mean", mean}, {"log_scale", log_scale}, {"other_mean", other_mean}, {"other_log_scale", other_log_scale}});
}

Variable bernoulli_log_density(const Variable& x, const Variable& logits) {
  return density(Density::kBernoulli, "bernoulli_log_density", {{"x", x}, {"logits", logits}});
}

Variable bernoulli_entropy(const Variable& logits) {
  return density(Density::kBernoulliEntropy, "bernoulli_entropy", {{"logits", logits}});
}

Variable bernoulli_kl(const Variable& logits, const Variable& other) {
  return density(Density::kBernoulliKl, "bernoulli_kl", {{"logits", logits}, {"other", other}});
}

Variable categorical_entropy(const Variable& log_probabilities) {
  return density(Density::kCategoricalEntropy, "categorical_entropy", {{"log_probabilities", log_probabilities}});
}

Variable categorical_kl(const Variable& log_probabilities, const Variable& other) {
  return density(Density::kCategoricalKl, "categorical_kl",
                 {{"log_probabilities", log_probabilities}, {"other", other}});
}

Variable gaussian_log_cdf(const Variable& x, const Variable& mean, const Variable& log_scale) {
  return density(Density::kGaussianCdf, "gaussian_log_cdf", {{"x", x}, {"mean", mean}, {"log_scale", log_scale}});
}

Variable bernoulli_log_cdf(const Variable& x, const Variable& logits) {
  return density(Density::kBernoulliCdf, "bernoulli_log_cdf", {{"x", x}, {"logits", logits}});
}

}  // namespace dgm
