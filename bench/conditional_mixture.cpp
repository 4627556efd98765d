// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the read rate (forward: the parameters once) or the copy rate (with gradients: the
// parameters twice, their gradients once); beside it one exp for each of the K x D scales.
#include <dgm/ops/conditional_mixture.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;
using dgm::Variable;

struct Inputs {
  Tensor<float> x, logits, mean, log_scale;

  explicit Inputs(const benchmark::State& state)
      : x(filled({state.range(0), state.range(2)}, 0.3f)),
        logits(filled({state.range(0), state.range(1)}, 0.1f)),
        mean(filled({state.range(0), state.range(1), state.range(2)}, 0.2f)),
        log_scale(filled({state.range(0), state.range(1), state.range(2)}, -0.1f)) {}

  static Tensor<float> filled(dgm::Shape shape, float value) {
    return Tensor<float>::full(std::move(shape), value, dgm::bench::device());
  }
};

double parameters(const benchmark::State& state) {
  return static_cast<double>(state.range(0)) * static_cast<double>(state.range(1)) *
         (2 * static_cast<double>(state.range(2)) + 1) * static_cast<double>(state.iterations());
}

void report_exp(benchmark::State& state, double passes) {
  const double scales =
      static_cast<double>(state.range(0) * state.range(1) * state.range(2)) * static_cast<double>(state.iterations());
  state.counters["share_of_exp"] =
      benchmark::Counter(passes * scales / dgm::bench::ceilings().exp_per_second, benchmark::Counter::kIsRate);
}

void conditional_mixture_log_marginal(benchmark::State& state) {
  const Inputs in(state);
  dgm::bench::repeat(state, [&] {
    benchmark::DoNotOptimize(
        dgm::conditional_mixture_log_marginal(in.x, in.logits, in.mean, in.log_scale).value().data());
  });
  state.counters["share_of_read"] = benchmark::Counter(
      4 * parameters(state) / dgm::bench::ceilings().read_bytes_per_second, benchmark::Counter::kIsRate);
  report_exp(state, 1);
}

void conditional_mixture_gradients(benchmark::State& state) {
  const Inputs in(state);
  const auto g = Inputs::filled({state.range(0)}, 1.0f);
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const Variable logits = tape.watch(in.logits);
    const Variable mean = tape.watch(in.mean);
    const Variable log_scale = tape.watch(in.log_scale);
    tape.backward(dgm::conditional_mixture_log_marginal(in.x, logits, mean, log_scale), g);
    benchmark::DoNotOptimize(tape.grad(mean).data());
  });
  state.counters["share_of_copy"] = benchmark::Counter(
      12 * parameters(state) / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
  report_exp(state, 2);
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"N", "K", "D"})
      ->Args({1'000'000, 5, 1})
      ->Args({100'000, 20, 4})
      ->Args({10'000, 10, 64})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(conditional_mixture_log_marginal)->Apply(cases);
BENCHMARK(conditional_mixture_gradients)->Apply(cases);
