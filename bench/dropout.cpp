// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the copy rate.
#include <dgm/ops/dropout.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

void dropout_forward(benchmark::State& state) {
  const auto x = dgm::Tensor<float>::full({state.range(0), state.range(1)}, 0.5f, dgm::bench::device());
  const dgm::Draws draws(1, x.stream());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::dropout(x, 0.25f, draws).value().data()); });
  const double bytes = 8.0 * static_cast<double>(x.size()) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(dropout_forward)
    ->ArgNames({"R", "C"})
    ->Args({1 << 15, 1024})
    ->Args({1 << 20, 31})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
