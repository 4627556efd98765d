// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the read rate; over the rate of a fill for the gradient, given as share of copy.
#include <dgm/ops/reductions.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;

void report(benchmark::State& state, double bytes) {
  bytes *= static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_read"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().read_bytes_per_second, benchmark::Counter::kIsRate);
}

void sum_over_axis(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
  const auto axis = static_cast<int>(state.range(2));
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::sum(x, axis).value().data()); });
  report(state, 4.0 * static_cast<double>(x.size()));
}

void sum_of_all(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0)}, -1.0f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::sum(x).value().data()); });
  report(state, 4.0 * static_cast<double>(x.size()));
}

void row_max(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::row_max(x).value().data()); });
  report(state, 4.0 * static_cast<double>(x.size()));
}

}  // namespace

BENCHMARK(row_max)
    ->ArgNames({"R", "C"})
    ->Args({1 << 20, 8})
    ->Args({1 << 20, 64})
    ->Args({1 << 14, 4096})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
BENCHMARK(sum_of_all)->ArgName("N")->Arg(1 << 26)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(sum_over_axis)
    ->ArgNames({"R", "C", "axis"})
    ->ArgsProduct({{1 << 20}, {8, 64}, {0, 1}})
    ->ArgsProduct({{1 << 14}, {4096}, {0, 1}})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
