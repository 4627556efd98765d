// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/diagonal_mixture.hpp>
#include <dgm/train/optimiser.hpp>

#include <cstdio>

int main() {
  using dgm::Tensor;
  const dgm::Stream stream = dgm::Device::parse("auto");  // the first GPU, or the CPU

  // 2000 points of two clusters. Draws depend on the seed and on nothing else.
  const Tensor<float> x = dgm::diagonal_mixture_sample(2000, Tensor<float>::zeros({2}, stream),
                                                       Tensor<float>::from({-2, 1, 3, -1}, {2, 2}, stream),
                                                       Tensor<float>::zeros({2, 2}, stream), dgm::Draws(2, stream))
                              .x;

  // p(x) = sum_k pi_k N(x; mean_k, scale_k^2): logits of pi, means, logarithms of the scales.
  dgm::Parameters model;
  dgm::Parameter& logits = model.add("logits", Tensor<float>::zeros({2}, stream));
  dgm::Parameter& mean = model.add("mean", Tensor<float>::from({-1, 0, 1, 0}, {2, 2}, stream));
  dgm::Parameter& log_scale = model.add("log_scale", Tensor<float>::zeros({2, 2}, stream));

  dgm::Optimiser optimiser = dgm::adam(model, {.rate = 0.05, .goal = dgm::Goal::maximise});
  for (int step = 0; step < 300; ++step) {
    dgm::Tape tape;
    const dgm::Variable log_likelihood =
        dgm::diagonal_mixture_log_likelihood(x, tape.watch(logits), tape.watch(mean), tape.watch(log_scale));
    model.zero_grad();
    tape.backward(log_likelihood);  // the sum over components and its gradient: one pass over x
    optimiser.step();
  }

  const std::vector<float> m = mean.value.to_host();
  std::printf("means (%.1f, %.1f) and (%.1f, %.1f)\n", m[0], m[1], m[2], m[3]);
}
