// SPDX-License-Identifier: Apache-2.0
// Ceiling: FMA. A row, component and dimension costs 2 forward and 2 for the statistics.
#include <dgm/ops/diagonal_mixture.hpp>

#include "bench/support/ceilings.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace {

using dgm::Tensor;

Tensor<float> normals(dgm::Shape shape, unsigned seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<std::size_t>(shape.size()));
  for (float& value : values) value = normal(generator);
  return Tensor<float>::from(values, shape, dgm::Device::cpu());
}

struct Case {
  Tensor<float> x, logits, mean, log_scale;

  explicit Case(const benchmark::State& state)
      : x(normals({state.range(0), state.range(2)}, 1, 1.5f)),
        logits(normals({state.range(1)}, 2, 0.1f)),
        mean(normals({state.range(1), state.range(2)}, 3, 1.0f)),
        log_scale(normals({state.range(1), state.range(2)}, 4, 0.1f)) {}
};

void report(benchmark::State& state, int fma_per_term) {
  const double flops = 2.0 * fma_per_term * static_cast<double>(state.range(0)) * static_cast<double>(state.range(1)) *
                       static_cast<double>(state.range(2)) * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_fma"] =
      benchmark::Counter(flops / dgm::bench::cpu_ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
}

void diagonal_mixture_forward(benchmark::State& state) {
  const Case c(state);
  for (auto _ : state) {
    benchmark::DoNotOptimize(dgm::diagonal_mixture_log_likelihood(c.x, c.logits, c.mean, c.log_scale).value().data());
  }
  report(state, 2);
}

void diagonal_mixture_gradients(benchmark::State& state) {
  const Case c(state);
  for (auto _ : state) {
    dgm::Tape tape;
    const dgm::Variable logits = tape.watch(c.logits);
    tape.backward(dgm::diagonal_mixture_log_likelihood(c.x, logits, tape.watch(c.mean), tape.watch(c.log_scale)));
    benchmark::DoNotOptimize(tape.grad(logits).data());
  }
  report(state, 4);
}

}  // namespace

#define DGM_MIXTURE_CASES         \
  ArgNames({"N", "K", "D"})       \
      ->Args({100'000, 64, 16})   \
      ->Args({1'000'000, 256, 2}) \
      ->Args({20'000, 1024, 64})  \
      ->UseRealTime()             \
      ->Unit(benchmark::kMillisecond)

BENCHMARK(diagonal_mixture_forward)->DGM_MIXTURE_CASES;
BENCHMARK(diagonal_mixture_gradients)->DGM_MIXTURE_CASES;
