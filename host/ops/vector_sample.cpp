// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/vector_sample.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/vector_sample.hpp"

#include <optional>

namespace dgm {

namespace {

using kernels::Noise;

Tensor<float> sample(const char* function, Noise noise, const char* name, const Tensor<float>& location,
                     const Tensor<float>* log_scale, const Draws& draws, int64_t samples, const Tensor<int64_t>* data) {
  const Shape& shape = location.shape();
  check<ShapeError>(shape.rank() == 2, function, ": ", name, " has shape ", shape.str(), "; (B, D) is needed");
  check<ArgumentError>(samples >= 1, function, ": samples is ", samples, "; at least 1 is needed");
  check_same_stream(function, name, location, "draws.step()", draws.step());
  if (log_scale != nullptr) {
    check_shape(function, "log_scale", *log_scale, shape, "(B, D)");
    check_same_stream(function, name, location, "log_scale", *log_scale);
  }
  if (data != nullptr) {
    check_shape(function, "data", *data, {shape[0]}, "(B)");
    check_same_stream(function, name, location, "data", *data);
  }
  auto z = Tensor<float>::empty({shape[0], samples, shape[1]}, location.stream());
  const kernels::VectorSample args = {
      noise,   location.data(), log_scale != nullptr ? log_scale->data() : nullptr, shape[0],
      samples, shape[1],        data != nullptr ? data->data() : nullptr,           draw_args(draws),
      z.data()};
  constexpr int64_t kMostBlocks = int64_t{1} << 32;
  check<ArgumentError>(args.blocks_per_sample() == 0 || samples <= kMostBlocks / args.blocks_per_sample(), function,
                       ": ", samples, " samples of ", shape[1], " coordinates need more than 2^32 blocks of draws");
  run(location.stream(), args);
  return z;
}

}  // namespace

Variable gaussian_sample(const Variable& mean, const Variable& log_scale, const Draws& draws, int64_t samples,
                         const Tensor<int64_t>* data) {
  const Tensor<float> z =
      sample("gaussian_sample", Noise::kGaussian, "mean", mean.value(), &log_scale.value(), draws, samples, data);
  return Tape::record(
      z, {mean, log_scale}, [z, mean = mean.value(), samples](const Tensor<float>& g, Gradients& inputs) {
        const Shape& shape = mean.shape();
        std::optional<Tensor<float>> to[2];
        for (int i = 0; i < 2; ++i) {
          if (inputs.wanted(i)) to[i] = Tensor<float>::empty(shape, g.stream());
        }
        run(g.stream(),
            kernels::VectorSampleGradient{g.data(), z.data(), mean.data(), shape[0], samples, shape[1],
                                          to[0] ? to[0]->data() : nullptr, to[1] ? to[1]->data() : nullptr});
        for (int i = 0; i < 2; ++i) {
          if (to[i]) inputs.add(i, *to[i]);
        }
      });
}

Variable gumbel_sample(const Variable& location, const Draws& draws, int64_t samples, const Tensor<int64_t>* data) {
  const Tensor<float> y =
      sample("gumbel_sample", Noise::kGumbel, "location", location.value(), nullptr, draws, samples, data);
  return Tape::record(y, {location}, [shape = location.shape(), samples](const Tensor<float>& g, Gradients& inputs) {
    auto to = Tensor<float>::empty(shape, g.stream());
    run(g.stream(),
        kernels::VectorSampleGradient{g.data(), nullptr, nullptr, shape[0], samples, shape[1], to.data(), nullptr});
    inputs.add(0, to);
  });
}

Tensor<float> bernoulli_sample(const Tensor<float>& logits, const Draws& draws, int64_t samples,
                               const Tensor<int64_t>* data) {
  return sample("bernoulli_sample", Noise::kBernoulli, "logits", logits, nullptr, draws, samples, data);
}

}  // namespace dgm
