// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/diagonal_mixture.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/accumulate.hpp"
#include "kernels/diagonal_mixture.hpp"

#include <optional>

namespace dgm {

namespace {

using kernels::DiagonalMixture;

/// The parameters as the launches take them, checked against each other.
DiagonalMixture checked(const char* function, const Tensor<float>& logits, const Tensor<float>& mean,
                        const Tensor<float>& log_scale) {
  check<ShapeError>(logits.shape().rank() == 1 && logits.size() >= 1, function, ": logits has shape ",
                    logits.shape().str(), "; (K) with K >= 1 is needed");
  const int64_t components = logits.size();
  check<ShapeError>(mean.shape().rank() == 2 && mean.shape()[0] == components && mean.shape()[1] >= 1, function,
                    ": mean has shape ", mean.shape().str(), "; (K, D) with K = ", components, " and D >= 1 is needed");
  check_shape(function, "log_scale", log_scale, mean.shape(), "(K, D)");
  check_same_stream(function, "logits", logits, "mean", mean);
  check_same_stream(function, "logits", logits, "log_scale", log_scale);
  return {logits.data(), mean.data(), log_scale.data(), components, mean.shape()[1]};
}

void check_data(const char* function, const Tensor<float>& x, const DiagonalMixture& mixture,
                const Tensor<float>& mean) {
  check<ShapeError>(x.shape().rank() == 2 && x.shape()[1] == mixture.dims, function, ": x has shape ", x.shape().str(),
                    "; (N, D) with D = ", mixture.dims, " is needed");
  check_same_stream(function, "mean", mean, "x", x);
}

/// Null for no weights.
const float* checked_weights(const char* function, const Tensor<float>* weights, const Tensor<float>& x) {
  if (weights == nullptr) return nullptr;
  check_shape(function, "weights", *weights, {x.shape()[0]}, "(N)");
  check_same_stream(function, "x", x, "weights", *weights);
  return weights->data();
}

/// The tensors that a backward pass needs.
struct Parameters {
  Tensor<float> logits;
  Tensor<float> mean;
  Tensor<float> log_scale;

  DiagonalMixture launch() const {
    return {logits.data(), mean.data(), log_scale.data(), logits.size(), mean.shape()[1]};
  }
};

struct Sums {
  Tensor<double> s0;
  Tensor<double> s1;
  Tensor<double> s2;

  static Sums empty(const Tensor<float>& mean) {
    return {Tensor<double>::empty({mean.shape()[0]}, mean.stream()), Tensor<double>::empty(mean.shape(), mean.stream()),
            Tensor<double>::empty(mean.shape(), mean.stream())};
  }
};

/// Adds the parameters' gradients, inputs 1, 2 and 3, from statistics.
void add_parameter_gradients(const Parameters& parameters, const Sums& sums, const float* upstream, Gradients& inputs) {
  const auto wanted = [&](int input, const Tensor<float>& like) {
    return inputs.wanted(input) ? std::optional(Tensor<float>::empty(like.shape(), like.stream())) : std::nullopt;
  };
  auto d_logits = wanted(1, parameters.logits);
  auto d_mean = wanted(2, parameters.mean);
  auto d_log_scale = wanted(3, parameters.log_scale);
  const auto data = [](std::optional<Tensor<float>>& tensor) { return tensor ? tensor->data() : nullptr; };
  run(parameters.mean.stream(),
      kernels::DiagonalMixtureGradients{parameters.launch(), sums.s0.data(), sums.s1.data(), sums.s2.data(), upstream,
                                        data(d_logits), data(d_mean), data(d_log_scale)});
  if (d_logits) inputs.add(1, *d_logits);
  if (d_mean) inputs.add(2, *d_mean);
  if (d_log_scale) inputs.add(3, *d_log_scale);
}

}  // namespace

Variable diagonal_mixture_log_marginal(const Variable& x, const Variable& logits, const Variable& mean,
                                       const Variable& log_scale) {
  constexpr const char* kName = "diagonal_mixture_log_marginal";
  const DiagonalMixture mixture = checked(kName, logits.value(), mean.value(), log_scale.value());
  check_data(kName, x.value(), mixture, mean.value());
  const int64_t rows = x.shape()[0];

  auto y = Tensor<float>::empty({rows}, x.stream());
  run(x.stream(), kernels::DiagonalMixtureMarginal{mixture, x.value().data(), rows, y.data()});

  const Parameters parameters = {logits.value(), mean.value(), log_scale.value()};
  return Tape::record(
      y, {x, logits, mean, log_scale}, [parameters, x = x.value(), y](const Tensor<float>& g, Gradients& inputs) {
        Sums sums = Sums::empty(parameters.mean);
        std::optional<Tensor<float>> dx;
        if (inputs.wanted(0)) dx = Tensor<float>::empty(x.shape(), x.stream());
        run(x.stream(), kernels::DiagonalMixtureStatistics{parameters.launch(), x.data(), x.shape()[0], g.data(),
                                                           y.data(), nullptr, dx ? dx->data() : nullptr, sums.s0.data(),
                                                           sums.s1.data(), sums.s2.data()});
        add_parameter_gradients(parameters, sums, nullptr, inputs);
        if (dx) inputs.add(0, *dx);
      });
}

Variable diagonal_mixture_log_likelihood(const Variable& x, const Variable& logits, const Variable& mean,
                                         const Variable& log_scale, const Tensor<float>* weights) {
  constexpr const char* kName = "diagonal_mixture_log_likelihood";
  const DiagonalMixture mixture = checked(kName, logits.value(), mean.value(), log_scale.value());
  check_data(kName, x.value(), mixture, mean.value());
  const float* const w = checked_weights(kName, weights, x.value());
  const int64_t rows = x.shape()[0];

  auto total = Tensor<float>::empty({}, x.stream());
  if (!x.requires_grad() && !logits.requires_grad() && !mean.requires_grad() && !log_scale.requires_grad()) {
    run(x.stream(), kernels::DiagonalMixtureMarginal{mixture, x.value().data(), rows, nullptr, w, total.data()});
    return total;
  }

  Sums sums = Sums::empty(mean.value());
  std::optional<Tensor<float>> dx;
  if (x.requires_grad()) dx = Tensor<float>::empty(x.shape(), x.stream());
  run(x.stream(), kernels::DiagonalMixtureStatistics{mixture, x.value().data(), rows, w, nullptr, nullptr,
                                                     dx ? dx->data() : nullptr, sums.s0.data(), sums.s1.data(),
                                                     sums.s2.data(), total.data()});
  const Parameters parameters = {logits.value(), mean.value(), log_scale.value()};
  return Tape::record(total, {x, logits, mean, log_scale},
                      [parameters, sums, dx](const Tensor<float>& g, Gradients& inputs) mutable {
                        add_parameter_gradients(parameters, sums, g.data(), inputs);
                        if (!dx) return;
                        run(dx->stream(), kernels::ScaleBy{g.data(), dx->size(), dx->data()});
                        inputs.add(0, *dx);
                      });
}

Tensor<float> diagonal_mixture_responsibilities(const Tensor<float>& x, const Tensor<float>& logits,
                                                const Tensor<float>& mean, const Tensor<float>& log_scale) {
  constexpr const char* kName = "diagonal_mixture_responsibilities";
  const DiagonalMixture mixture = checked(kName, logits, mean, log_scale);
  check_data(kName, x, mixture, mean);
  auto r = Tensor<float>::empty({x.shape()[0], mixture.components}, x.stream());
  run(x.stream(), kernels::DiagonalMixtureResponsibilities{mixture, x.data(), x.shape()[0], r.data()});
  return r;
}

MixtureStatistics diagonal_mixture_statistics(const Tensor<float>& x, const Tensor<float>& logits,
                                              const Tensor<float>& mean, const Tensor<float>& log_scale,
                                              const Tensor<float>* weights) {
  constexpr const char* kName = "diagonal_mixture_statistics";
  const DiagonalMixture mixture = checked(kName, logits, mean, log_scale);
  check_data(kName, x, mixture, mean);
  const float* const w = checked_weights(kName, weights, x);
  auto total = Tensor<double>::empty({}, x.stream());
  auto y = Tensor<float>::empty({x.shape()[0]}, x.stream());
  Sums sums = Sums::empty(mean);
  run(x.stream(),
      kernels::DiagonalMixtureStatistics{mixture, x.data(), x.shape()[0], w, nullptr, y.data(), nullptr, sums.s0.data(),
                                         sums.s1.data(), sums.s2.data(), nullptr, total.data()});
  return {y, sums.s0, sums.s1, sums.s2, total};
}

Tensor<int32_t> diagonal_mixture_sample_posterior(const Tensor<float>& x, const Tensor<float>& logits,
                                                  const Tensor<float>& mean, const Tensor<float>& log_scale,
                                                  const Draws& draws, int64_t samples, const Tensor<int64_t>* data) {
  constexpr const char* kName = "diagonal_mixture_sample_posterior";
  const DiagonalMixture mixture = checked(kName, logits, mean, log_scale);
  check_data(kName, x, mixture, mean);
  check<ArgumentError>(samples >= 1, kName, ": samples is ", samples, "; at least 1 is needed");
  check_same_stream(kName, "x", x, "draws.step()", draws.step());
  if (data != nullptr) {
    check_shape(kName, "data", *data, {x.shape()[0]}, "(N)");
    check_same_stream(kName, "x", x, "data", *data);
  }
  auto z = Tensor<int32_t>::empty({x.shape()[0], samples}, x.stream());
  run(x.stream(),
      kernels::DiagonalMixturePosteriorSample{mixture, x.data(), x.shape()[0], data != nullptr ? data->data() : nullptr,
                                              samples, draw_args(draws), z.data(), nullptr});
  return z;
}

Variable diagonal_mixture_log_joint(const Variable& x, const Tensor<int32_t>& z, const Variable& logits,
                                    const Variable& mean, const Variable& log_scale) {
  constexpr const char* kName = "diagonal_mixture_log_joint";
  const DiagonalMixture mixture = checked(kName, logits.value(), mean.value(), log_scale.value());
  check_data(kName, x.value(), mixture, mean.value());
  const int64_t rows = x.shape()[0];
  check<ShapeError>(z.shape().rank() == 2 && z.shape()[0] == rows && z.shape()[1] >= 1, kName, ": z has shape ",
                    z.shape().str(), "; (N, S) with N = ", rows, " and S >= 1 is needed");
  check_same_stream(kName, "x", x.value(), "z", z);

  auto y = Tensor<float>::empty(z.shape(), x.stream());
  run(x.stream(), kernels::DiagonalMixtureJoint{mixture, x.value().data(), z.data(), rows, z.shape()[1], y.data()});

  const Parameters parameters = {logits.value(), mean.value(), log_scale.value()};
  return Tape::record(
      y, {x, logits, mean, log_scale}, [parameters, x = x.value(), z](const Tensor<float>& g, Gradients& inputs) {
        Sums sums = Sums::empty(parameters.mean);
        std::optional<Tensor<float>> dx;
        if (inputs.wanted(0)) dx = Tensor<float>::empty(x.shape(), x.stream());
        run(x.stream(), kernels::DiagonalMixtureJointStatistics{parameters.launch(), x.data(), z.data(), g.data(),
                                                                x.shape()[0], z.shape()[1], dx ? dx->data() : nullptr,
                                                                sums.s0.data(), sums.s1.data(), sums.s2.data()});
        add_parameter_gradients(parameters, sums, nullptr, inputs);
        if (dx) inputs.add(0, *dx);
      });
}

MixtureSample diagonal_mixture_sample(int64_t count, const Tensor<float>& logits, const Tensor<float>& mean,
                                      const Tensor<float>& log_scale, const Draws& draws) {
  constexpr const char* kName = "diagonal_mixture_sample";
  check<ArgumentError>(count >= 0, kName, ": count is ", count, "; at least 0 is needed");
  const DiagonalMixture mixture = checked(kName, logits, mean, log_scale);
  check_same_stream(kName, "logits", logits, "draws.step()", draws.step());
  MixtureSample sample = {Tensor<int32_t>::empty({count}, mean.stream()),
                          Tensor<float>::empty({count, mixture.dims}, mean.stream())};
  run(mean.stream(),
      kernels::DiagonalMixtureAncestral{mixture, count, draw_args(draws), sample.z.data(), sample.x.data()});
  return sample;
}

}  // namespace dgm
