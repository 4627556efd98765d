// SPDX-License-Identifier: Apache-2.0
// Ceiling: the bytes of the draws over the copy rate (written, and for gradients read).
#include <dgm/ops/vector_sample.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;
using dgm::Variable;

void share_of_copy(benchmark::State& state, double bytes) {
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes * static_cast<double>(state.iterations()) / dgm::bench::ceilings().copy_bytes_per_second,
                         benchmark::Counter::kIsRate);
}

double elements(const benchmark::State& state) {
  return static_cast<double>(state.range(0) * state.range(1) * state.range(2));
}

void gaussian_sample(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const auto mean = Tensor<float>::full({state.range(0), state.range(2)}, 0.3f, device);
  const dgm::Draws draws(1, device);
  dgm::bench::repeat(
      state, [&] { benchmark::DoNotOptimize(dgm::gaussian_sample(mean, mean, draws, state.range(1)).value().data()); });
  share_of_copy(state, 4 * elements(state));
}

void gaussian_sample_gradient(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const auto value = Tensor<float>::full({state.range(0), state.range(2)}, 0.3f, device);
  const auto g = Tensor<float>::full({state.range(0), state.range(1), state.range(2)}, 1.0f, device);
  const dgm::Draws draws(1, device);
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const Variable mean = tape.watch(value);
    const Variable log_scale = tape.watch(value);
    tape.backward(dgm::gaussian_sample(mean, log_scale, draws, state.range(1)), g);
    benchmark::DoNotOptimize(tape.grad(mean).data());
  });
  share_of_copy(state, 12 * elements(state));
}

void bernoulli_sample(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const auto logits = Tensor<float>::full({state.range(0), state.range(2)}, 0.3f, device);
  const dgm::Draws draws(1, device);
  dgm::bench::repeat(state,
                     [&] { benchmark::DoNotOptimize(dgm::bernoulli_sample(logits, draws, state.range(1)).data()); });
  share_of_copy(state, 4 * elements(state));
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"B", "S", "D"})
      ->Args({100, 50, 50})
      ->Args({1000, 64, 50})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(gaussian_sample)->Apply(cases);
BENCHMARK(gaussian_sample_gradient)->Apply(cases);
BENCHMARK(bernoulli_sample)->Apply(cases);
