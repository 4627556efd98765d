// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the copy rate; the functions' own arithmetic is to disappear behind it.
#include <dgm/ops/activations.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;

constexpr dgm::Variable (*kFunctions[])(const dgm::Variable&) = {
    dgm::relu, dgm::gelu, dgm::gelu_tanh, dgm::silu, dgm::sigmoid, dgm::log_sigmoid, dgm::tanh, dgm::softplus};
constexpr const char* kNames[] = {"relu", "gelu", "gelu_tanh", "silu", "sigmoid", "log_sigmoid", "tanh", "softplus"};

void report(benchmark::State& state, double bytes) {
  bytes *= static_cast<double>(state.range(0)) * static_cast<double>(state.iterations());
  state.SetLabel(kNames[state.range(1)]);
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

void activation(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0)}, -0.5f, dgm::bench::device());
  const auto function = kFunctions[state.range(1)];
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(function(x).value().data()); });
  report(state, 8);
}

void activation_and_gradient(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0)}, -0.5f, dgm::bench::device());
  const auto g = Tensor<float>::full({state.range(0)}, 0.5f, dgm::bench::device());
  const auto function = kFunctions[state.range(1)];
  // With the function itself, which the recording needs.
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const dgm::Variable leaf = tape.watch(x);
    tape.backward(function(leaf), g);
    benchmark::DoNotOptimize(tape.grad(leaf).data());
  });
  report(state, 20);
}

}  // namespace

BENCHMARK(activation)
    ->ArgNames({"N", "f"})
    ->ArgsProduct({{1 << 25}, benchmark::CreateDenseRange(0, 7, 1)})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(activation_and_gradient)
    ->ArgNames({"N", "f"})
    ->ArgsProduct({{1 << 25}, benchmark::CreateDenseRange(0, 7, 1)})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
