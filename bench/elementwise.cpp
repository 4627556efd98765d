// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the copy rate.
#include <dgm/ops/elementwise.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;

void report(benchmark::State& state, double bytes) {
  bytes *= static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

constexpr dgm::Variable (*kFunctions[])(const dgm::Variable&) = {dgm::exp, dgm::log, dgm::sqrt, dgm::square};
constexpr const char* kNames[] = {"exp", "log", "sqrt", "square"};

void elementwise_unary(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0)}, 0.5f, dgm::bench::device());
  const auto function = kFunctions[state.range(1)];
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(function(x).value().data()); });
  state.SetLabel(kNames[state.range(1)]);
  report(state, 8.0 * static_cast<double>(x.size()));
}

void elementwise_add(benchmark::State& state) {
  const auto a = Tensor<float>::full({state.range(0), state.range(1)}, 0.5f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::add(a, a).value().data()); });
  report(state, 8.0 * static_cast<double>(a.size()));  // one operand, read twice at once
}

void elementwise_add_row(benchmark::State& state) {
  const auto a = Tensor<float>::full({state.range(0), state.range(1)}, 0.5f, dgm::bench::device());
  const auto b = Tensor<float>::full({state.range(1)}, 0.5f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::add(a, b).value().data()); });
  report(state, 8.0 * static_cast<double>(a.size()));
}

void elementwise_multiply_column(benchmark::State& state) {
  const auto a = Tensor<float>::full({state.range(0), state.range(1)}, 0.5f, dgm::bench::device());
  const auto b = Tensor<float>::full({state.range(0), 1}, 0.5f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::multiply(a, b).value().data()); });
  report(state, 8.0 * static_cast<double>(a.size()));
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"R", "C"})
      ->Args({1 << 20, 3})
      ->Args({1 << 20, 32})
      ->Args({1 << 14, 2048})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(elementwise_unary)
    ->ArgNames({"N", "f"})
    ->ArgsProduct({{1 << 25}, benchmark::CreateDenseRange(0, 3, 1)})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(elementwise_add)->Apply(sizes);
BENCHMARK(elementwise_add_row)->Apply(sizes);
BENCHMARK(elementwise_multiply_column)->Apply(sizes);
