// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the copy rate, forward 8 a term, backward 12.
#include <dgm/ops/log_softmax.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;

void report(benchmark::State& state, double bytes_per_term) {
  const double bytes = bytes_per_term * static_cast<double>(state.range(0)) * static_cast<double>(state.range(1)) *
                       static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

void log_softmax_forward(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::log_softmax(x).value().data()); });
  report(state, 8);
}

void log_softmax_forward_backward(benchmark::State& state) {
  const auto x = Tensor<float>::full({state.range(0), state.range(1)}, -1.0f, dgm::bench::device());
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const dgm::Variable leaf = tape.watch(x);
    tape.backward(dgm::log_softmax(leaf), x);
    benchmark::DoNotOptimize(tape.grad(leaf).data());
  });
  report(state, 20);
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"B", "K"})
      ->Args({1 << 20, 10})
      ->Args({1 << 16, 256})
      ->Args({512, 50'000})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(log_softmax_forward)->Apply(cases);
BENCHMARK(log_softmax_forward_backward)->Apply(cases);
