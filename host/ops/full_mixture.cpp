// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/full_mixture.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/accumulate.hpp"
#include "kernels/full_mixture.hpp"

#include <optional>

namespace dgm {

namespace {

struct Parameters {
  Tensor<float> logits;
  Tensor<float> mean;
  Tensor<float> factor;

  kernels::FullMixture args() const {
    return {logits.data(), mean.data(), factor.data(), mean.shape()[0], mean.shape()[1]};
  }
};

Parameters check_parameters(const char* function, const Tensor<float>& logits, const Tensor<float>& mean,
                            const Tensor<float>& factor) {
  check<ShapeError>(mean.shape().rank() == 2 && mean.size() >= 1, function, ": mean has shape ", mean.shape().str(),
                    "; (K, D) with K >= 1 and D >= 1 is needed");
  const int64_t components = mean.shape()[0];
  const int64_t dims = mean.shape()[1];
  check_shape(function, "logits", logits, {components}, "(K)");
  check_shape(function, "factor", factor, {components, dims, dims}, "(K, D, D)");
  check_same_stream(function, "mean", mean, "logits", logits);
  check_same_stream(function, "mean", mean, "factor", factor);
  return {logits, mean, factor};
}

int64_t check_data(const char* function, const Parameters& p, const Tensor<float>& x) {
  check<ShapeError>(x.shape().rank() == 2 && x.shape()[1] == p.mean.shape()[1], function, ": x has shape ",
                    x.shape().str(), " and mean ", p.mean.shape().str(), "; (N, D) and (K, D) are needed");
  check_same_stream(function, "mean", p.mean, "x", x);
  return x.shape()[0];
}

void check_weights(const char* function, const Tensor<float>& x, const Tensor<float>* weights) {
  if (weights == nullptr) return;
  check_shape(function, "weights", *weights, {x.shape()[0]}, "(N)");
  check_same_stream(function, "x", x, "weights", *weights);
}

template <class T>
const T* data_or_null(const Tensor<T>* tensor) {
  return tensor != nullptr ? tensor->data() : nullptr;
}

// The sums that gradients are made of, on the device in double.
struct Sums {
  Tensor<double> s0;
  Tensor<double> s1;
  Tensor<double> s2;

  explicit Sums(const Parameters& p)
      : s0(Tensor<double>::empty(p.logits.shape(), p.mean.stream())),
        s1(Tensor<double>::empty(p.mean.shape(), p.mean.stream())),
        s2(Tensor<double>::empty(p.factor.shape(), p.mean.stream())) {}
};

// Adds the gradients of inputs 1, 2 and 3 (logits, mean, factor) that are wanted.
void add_gradients(const Parameters& p, const Sums& sums, const float* upstream, Gradients& inputs) {
  kernels::FullMixtureGradients args = {p.args(), sums.s0.data(), sums.s1.data(), sums.s2.data(),
                                        upstream, nullptr,        nullptr,        nullptr};
  std::optional<Tensor<float>> gradients[3];
  const Tensor<float>* const values[3] = {&p.logits, &p.mean, &p.factor};
  float** const to[3] = {&args.d_logits, &args.d_mean, &args.d_factor};
  for (int i = 0; i < 3; ++i) {
    if (!inputs.wanted(i + 1)) continue;
    gradients[i] = Tensor<float>::empty(values[i]->shape(), values[i]->stream());
    *to[i] = gradients[i]->data();
  }
  run(p.mean.stream(), args);
  for (int i = 0; i < 3; ++i) {
    if (gradients[i]) inputs.add(i + 1, *gradients[i]);
  }
}

}  // namespace

Variable full_mixture_log_marginal(const Variable& x, const Variable& logits, const Variable& mean,
                                   const Variable& factor) {
  constexpr const char* kName = "full_mixture_log_marginal";
  const Parameters p = check_parameters(kName, logits.value(), mean.value(), factor.value());
  const int64_t rows = check_data(kName, p, x.value());
  auto y = Tensor<float>::empty({rows}, x.stream());
  run(x.stream(), kernels::FullMixtureMarginal{p.args(), x.value().data(), rows, y.data()});

  return Tape::record(
      y, {x, logits, mean, factor}, [p, x = x.value(), y, rows](const Tensor<float>& g, Gradients& inputs) {
        Sums sums(p);
        std::optional<Tensor<float>> dx;
        if (inputs.wanted(0)) dx = Tensor<float>::empty(x.shape(), x.stream());
        run(x.stream(),
            kernels::FullMixtureStatistics{p.args(), x.data(), rows, g.data(), y.data(), nullptr,
                                           dx ? dx->data() : nullptr, sums.s0.data(), sums.s1.data(), sums.s2.data()});
        if (dx) inputs.add(0, *dx);
        add_gradients(p, sums, nullptr, inputs);
      });
}

Variable full_mixture_log_likelihood(const Variable& x, const Variable& logits, const Variable& mean,
                                     const Variable& factor, const Tensor<float>* weights) {
  constexpr const char* kName = "full_mixture_log_likelihood";
  const Parameters p = check_parameters(kName, logits.value(), mean.value(), factor.value());
  const int64_t rows = check_data(kName, p, x.value());
  check_weights(kName, x.value(), weights);
  auto total = Tensor<float>::empty({}, x.stream());
  if (!x.requires_grad() && !logits.requires_grad() && !mean.requires_grad() && !factor.requires_grad()) {
    run(x.stream(),
        kernels::FullMixtureMarginal{p.args(), x.value().data(), rows, nullptr, data_or_null(weights), total.data()});
    return total;
  }
  Sums sums(p);
  std::optional<Tensor<float>> dx;
  if (x.requires_grad()) dx = Tensor<float>::empty(x.shape(), x.stream());
  run(x.stream(), kernels::FullMixtureStatistics{p.args(), x.value().data(), rows, data_or_null(weights), nullptr,
                                                 nullptr, dx ? dx->data() : nullptr, sums.s0.data(), sums.s1.data(),
                                                 sums.s2.data(), total.data()});

  return Tape::record(total, {x, logits, mean, factor}, [p, sums, dx](const Tensor<float>& g, Gradients& inputs) {
    if (dx) {
      Tensor<float> scaled = *dx;  // its own: a tape runs backward once
      run(g.stream(), kernels::ScaleBy{g.data(), scaled.size(), scaled.data()});
      inputs.add(0, scaled);
    }
    add_gradients(p, sums, g.data(), inputs);
  });
}

Tensor<float> full_mixture_responsibilities(const Tensor<float>& x, const Tensor<float>& logits,
                                            const Tensor<float>& mean, const Tensor<float>& factor) {
  constexpr const char* kName = "full_mixture_responsibilities";
  const Parameters p = check_parameters(kName, logits, mean, factor);
  const int64_t rows = check_data(kName, p, x);
  auto r = Tensor<float>::empty({rows, p.mean.shape()[0]}, x.stream());
  run(x.stream(), kernels::FullMixtureResponsibilities{p.args(), x.data(), rows, r.data()});
  return r;
}

MixtureStatistics full_mixture_statistics(const Tensor<float>& x, const Tensor<float>& logits,
                                          const Tensor<float>& mean, const Tensor<float>& factor,
                                          const Tensor<float>* weights) {
  constexpr const char* kName = "full_mixture_statistics";
  const Parameters p = check_parameters(kName, logits, mean, factor);
  const int64_t rows = check_data(kName, p, x);
  check_weights(kName, x, weights);
  Sums sums(p);
  auto total = Tensor<double>::empty({}, x.stream());
  auto y = Tensor<float>::empty({rows}, x.stream());
  run(x.stream(),
      kernels::FullMixtureStatistics{p.args(), x.data(), rows, data_or_null(weights), nullptr, y.data(), nullptr,
                                     sums.s0.data(), sums.s1.data(), sums.s2.data(), nullptr, total.data()});
  return {y, sums.s0, sums.s1, sums.s2, total};
}

Tensor<int32_t> full_mixture_sample_posterior(const Tensor<float>& x, const Tensor<float>& logits,
                                              const Tensor<float>& mean, const Tensor<float>& factor,
                                              const Draws& draws, int64_t samples, const Tensor<int64_t>* data) {
  constexpr const char* kName = "full_mixture_sample_posterior";
  const Parameters p = check_parameters(kName, logits, mean, factor);
  const int64_t rows = check_data(kName, p, x);
  check<ArgumentError>(samples >= 1, kName, ": samples is ", samples, "; at least 1 is needed");
  check_same_stream(kName, "x", x, "draws.step()", draws.step());
  if (data != nullptr) {
    check_shape(kName, "data", *data, {rows}, "(N)");
    check_same_stream(kName, "x", x, "data", *data);
  }
  auto z = Tensor<int32_t>::empty({rows, samples}, x.stream());
  run(x.stream(), kernels::FullMixturePosteriorSample{p.args(), x.data(), rows, data_or_null(data), samples,
                                                      draw_args(draws), z.data(), nullptr});
  return z;
}

Variable full_mixture_log_joint(const Variable& x, const Tensor<int32_t>& z, const Variable& logits,
                                const Variable& mean, const Variable& factor) {
  constexpr const char* kName = "full_mixture_log_joint";
  const Parameters p = check_parameters(kName, logits.value(), mean.value(), factor.value());
  const int64_t rows = check_data(kName, p, x.value());
  check<ShapeError>(z.shape().rank() == 2 && z.shape()[0] == rows && z.shape()[1] >= 1, kName, ": z has shape ",
                    z.shape().str(), " and x ", x.shape().str(), "; (N, S) with S >= 1 is needed");
  check_same_stream(kName, "x", x.value(), "z", z);
  const int64_t samples = z.shape()[1];
  auto y = Tensor<float>::empty(z.shape(), x.stream());
  run(x.stream(), kernels::FullMixtureJoint{p.args(), x.value().data(), z.data(), rows, samples, y.data()});

  return Tape::record(
      y, {x, logits, mean, factor}, [p, x = x.value(), z, rows, samples](const Tensor<float>& g, Gradients& inputs) {
        Sums sums(p);
        std::optional<Tensor<float>> dx;
        if (inputs.wanted(0)) dx = Tensor<float>::empty(x.shape(), x.stream());
        run(x.stream(), kernels::FullMixtureJointStatistics{p.args(), x.data(), z.data(), g.data(), rows, samples,
                                                            dx ? dx->data() : nullptr, sums.s0.data(), sums.s1.data(),
                                                            sums.s2.data()});
        if (dx) inputs.add(0, *dx);
        add_gradients(p, sums, nullptr, inputs);
      });
}

MixtureSample full_mixture_sample(int64_t count, const Tensor<float>& logits, const Tensor<float>& mean,
                                  const Tensor<float>& factor, const Draws& draws) {
  constexpr const char* kName = "full_mixture_sample";
  const Parameters p = check_parameters(kName, logits, mean, factor);
  check<ArgumentError>(count >= 0, kName, ": count is ", count, "; at least 0 is needed");
  check_same_stream(kName, "mean", mean, "draws.step()", draws.step());
  MixtureSample sample = {Tensor<int32_t>::empty({count}, mean.stream()),
                          Tensor<float>::empty({count, mean.shape()[1]}, mean.stream())};
  run(mean.stream(),
      kernels::FullMixtureAncestral{p.args(), count, draw_args(draws), sample.z.data(), sample.x.data()});
  return sample;
}

}  // namespace dgm
