// SPDX-License-Identifier: Apache-2.0
// Ceiling: FMA. A row and component take D(D+1)/2 FMA to whiten and one each for t^2 (forward), as many
// again for the second moments, D for w r t, and D(D+1)/2 for the gradient by the data.
#include <dgm/ops/full_mixture.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <random>

namespace {

using dgm::Tensor;
using dgm::Variable;

struct Inputs {
  Tensor<float> x, logits, mean, factor;
};

Tensor<float> normals(dgm::Shape shape, double scale, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<float> normal(0.0f, static_cast<float>(scale));
  std::vector<float> values(static_cast<std::size_t>(shape.size()));
  for (float& value : values) value = normal(generator);
  return Tensor<float>::from(values, shape, dgm::bench::device());
}

Inputs inputs(const benchmark::State& state) {
  const int64_t n = state.range(0);
  const int64_t k = state.range(1);
  const int64_t d = state.range(2);
  return {normals({n, d}, 1.5, 1), normals({k}, 0.3, 2), normals({k, d}, 1.0, 3), normals({k, d, d}, 0.1, 4)};
}

// What a case's FMAs would take at the measured rate, over what it took.
void report(benchmark::State& state, double halves_of_d_squared) {
  const auto d = static_cast<double>(state.range(2));
  const double pairs = static_cast<double>(state.range(0)) * static_cast<double>(state.range(1));
  const double fma = pairs * (halves_of_d_squared * d * (d + 1) / 2 + 2 * d) * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(2 * fma / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_fma"] =
      benchmark::Counter(2 * fma / dgm::bench::ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
}

void full_mixture_log_marginal(benchmark::State& state) {
  const Inputs in = inputs(state);
  dgm::bench::repeat(state, [&] {
    benchmark::DoNotOptimize(dgm::full_mixture_log_marginal(in.x, in.logits, in.mean, in.factor).value().data());
  });
  report(state, 1);
}

void full_mixture_em_statistics(benchmark::State& state) {
  const Inputs in = inputs(state);
  dgm::bench::repeat(state, [&] {
    benchmark::DoNotOptimize(dgm::full_mixture_statistics(in.x, in.logits, in.mean, in.factor).s2.data());
  });
  report(state, 2);
}

void full_mixture_likelihood_and_gradients(benchmark::State& state) {
  const Inputs in = inputs(state);
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const Variable x = tape.watch(in.x);
    const Variable logits = tape.watch(in.logits);
    const Variable mean = tape.watch(in.mean);
    const Variable factor = tape.watch(in.factor);
    tape.backward(dgm::full_mixture_log_likelihood(x, logits, mean, factor));
    benchmark::DoNotOptimize(tape.grad(factor).data());
  });
  report(state, 3);
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"N", "K", "D"})
      ->Args({100'000, 64, 16})
      ->Args({6809, 4, 5})
      ->Args({1'000'000, 8, 8})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(full_mixture_log_marginal)->Apply(cases);
BENCHMARK(full_mixture_em_statistics)->Apply(cases);
BENCHMARK(full_mixture_likelihood_and_gradients)->Apply(cases);
