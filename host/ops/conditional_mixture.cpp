// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/conditional_mixture.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/conditional_mixture.hpp"

#include <optional>

namespace dgm {

namespace {

struct Parameters {
  Tensor<float> logits;
  Tensor<float> mean;
  Tensor<float> log_scale;

  int64_t rows() const { return mean.shape()[0]; }
  int64_t dims() const { return mean.shape()[2]; }
  kernels::ConditionalMixture args() const {
    return {logits.data(), mean.data(), log_scale.data(), rows(), mean.shape()[1], dims()};
  }
};

Parameters check_parameters(const char* function, const Tensor<float>& logits, const Tensor<float>& mean,
                            const Tensor<float>& log_scale) {
  check<ShapeError>(mean.shape().rank() == 3 && mean.shape()[1] >= 1 && mean.shape()[2] >= 1, function,
                    ": mean has shape ", mean.shape().str(), "; (N, K, D) with K >= 1 and D >= 1 is needed");
  check_shape(function, "logits", logits, {mean.shape()[0], mean.shape()[1]}, "(N, K)");
  check_shape(function, "log_scale", log_scale, mean.shape(), "(N, K, D)");
  check_same_stream(function, "mean", mean, "logits", logits);
  check_same_stream(function, "mean", mean, "log_scale", log_scale);
  return {logits, mean, log_scale};
}

void check_data(const char* function, const Parameters& p, const Tensor<float>& x) {
  check_shape(function, "x", x, {p.rows(), p.dims()}, "(N, D)");
  check_same_stream(function, "mean", p.mean, "x", x);
}

const int64_t* check_draws(const char* function, const Parameters& p, const Draws& draws, const Tensor<int64_t>* data) {
  check_same_stream(function, "mean", p.mean, "draws.step()", draws.step());
  if (data == nullptr) return nullptr;
  check_shape(function, "data", *data, {p.rows()}, "(N)");
  check_same_stream(function, "mean", p.mean, "data", *data);
  return data->data();
}

}  // namespace

Variable conditional_mixture_log_marginal(const Variable& x, const Variable& logits, const Variable& mean,
                                          const Variable& log_scale) {
  constexpr const char* kName = "conditional_mixture_log_marginal";
  const Parameters p = check_parameters(kName, logits.value(), mean.value(), log_scale.value());
  check_data(kName, p, x.value());
  auto y = Tensor<float>::empty({p.rows()}, x.stream());
  run(x.stream(), kernels::ConditionalMixtureMarginal{p.args(), x.value().data(), y.data()});

  return Tape::record(
      y, {x, logits, mean, log_scale}, [p, x = x.value(), y](const Tensor<float>& g, Gradients& inputs) {
        const Tensor<float>* const values[4] = {&x, &p.logits, &p.mean, &p.log_scale};
        std::optional<Tensor<float>> gradients[4];
        float* to[4] = {};
        for (int i = 0; i < 4; ++i) {
          // The gradient by the data is summed from that by the means.
          if (!inputs.wanted(i) && !(i == 2 && inputs.wanted(0))) continue;
          gradients[i] = Tensor<float>::empty(values[i]->shape(), x.stream());
          to[i] = gradients[i]->data();
        }
        run(x.stream(),
            kernels::ConditionalMixtureBackward{p.args(), x.data(), y.data(), g.data(), to[0], to[1], to[2], to[3]});
        for (int i = 0; i < 4; ++i) {
          if (gradients[i]) inputs.add(i, *gradients[i]);
        }
      });
}

Tensor<int32_t> conditional_mixture_sample_posterior(const Tensor<float>& x, const Tensor<float>& logits,
                                                     const Tensor<float>& mean, const Tensor<float>& log_scale,
                                                     const Draws& draws, int64_t samples, const Tensor<int64_t>* data) {
  constexpr const char* kName = "conditional_mixture_sample_posterior";
  const Parameters p = check_parameters(kName, logits, mean, log_scale);
  check_data(kName, p, x);
  check<ArgumentError>(samples >= 1, kName, ": samples is ", samples, "; at least 1 is needed");
  const int64_t* const datum = check_draws(kName, p, draws, data);
  auto z = Tensor<int32_t>::empty({p.rows(), samples}, x.stream());
  run(x.stream(),
      kernels::ConditionalMixturePosteriorSample{p.args(), x.data(), datum, samples, draw_args(draws), z.data()});
  return z;
}

MixtureSample conditional_mixture_sample(const Tensor<float>& logits, const Tensor<float>& mean,
                                         const Tensor<float>& log_scale, const Draws& draws,
                                         const Tensor<int64_t>* data) {
  constexpr const char* kName = "conditional_mixture_sample";
  const Parameters p = check_parameters(kName, logits, mean, log_scale);
  const int64_t* const datum = check_draws(kName, p, draws, data);
  MixtureSample sample = {Tensor<int32_t>::empty({p.rows()}, mean.stream()),
                          Tensor<float>::empty({p.rows(), p.dims()}, mean.stream())};
  run(mean.stream(),
      kernels::ConditionalMixtureAncestral{p.args(), datum, draw_args(draws), sample.z.data(), sample.x.data()});
  return sample;
}

}  // namespace dgm
