// SPDX-License-Identifier: Apache-2.0
// Ceiling: 4 bytes a sample read and 4 written over the copy rate; gradients read 8.
#include <dgm/ops/importance_weights.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;
using dgm::Variable;

void share_of_copy(benchmark::State& state, double bytes) {
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes * static_cast<double>(state.range(0) * state.range(1)) *
                             static_cast<double>(state.iterations()) / dgm::bench::ceilings().copy_bytes_per_second,
                         benchmark::Counter::kIsRate);
}

void importance_weights(benchmark::State& state) {
  const auto l = Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::importance_weights(l).weights.value().data()); });
  share_of_copy(state, 8);
}

void importance_weights_gradient(benchmark::State& state) {
  const auto l = Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
  const auto g = Tensor<float>::full(l.shape(), 0.5f, dgm::bench::device());
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const Variable watched = tape.watch(l);
    tape.backward(dgm::importance_weights(watched).weights, g);
    benchmark::DoNotOptimize(tape.grad(watched).data());
  });
  share_of_copy(state, 20);
}

void pareto_shape(benchmark::State& state) {
  const auto l = Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::pareto_shape(l).data()); });
}

}  // namespace

BENCHMARK(importance_weights)
    ->ArgNames({"B", "S"})
    ->Args({1'000'000, 64})
    ->Args({100, 5000})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(importance_weights_gradient)
    ->ArgNames({"B", "S"})
    ->Args({1'000'000, 64})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(pareto_shape)->ArgNames({"B", "S"})->Args({100, 1000})->UseRealTime()->Unit(benchmark::kMillisecond);
