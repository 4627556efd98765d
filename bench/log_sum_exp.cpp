// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the read rate; and over the copy rate, whose bytes are those read and those written.
#include <dgm/ops/log_sum_exp.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;

Tensor<float> rows(benchmark::State& state) {
  return Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
}

void log_sum_exp_forward(benchmark::State& state) {
  const auto x = rows(state);
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::log_sum_exp(x).value().data()); });
  const double bytes = 4.0 * static_cast<double>(x.size()) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_read"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().read_bytes_per_second, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(log_sum_exp_forward)
    ->ArgNames({"B", "K"})
    ->Args({5 << 20, 10})
    ->Args({1 << 20, 64})
    ->Args({1 << 18, 250})
    ->Args({1 << 16, 1024})
    ->Args({1 << 10, 1 << 16})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
