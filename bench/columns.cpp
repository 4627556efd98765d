// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the copy rate.
#include <dgm/ops/columns.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

void columns_of_the_last_axis(benchmark::State& state) {
  const auto x = dgm::Tensor<float>::full({state.range(0), state.range(1)}, 0.5f, dgm::bench::device());
  const int64_t width = state.range(1) / 3;
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::columns(x, width, 2 * width).value().data()); });
  const double bytes = 8.0 * static_cast<double>(state.range(0) * width) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(columns_of_the_last_axis)
    ->ArgNames({"R", "C"})
    ->Args({1 << 20, 30})
    ->Args({1 << 14, 3072})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
