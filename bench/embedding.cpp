// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the copy rate; for the gradient with the zeros of rows that are not used.
#include <dgm/ops/embedding.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <vector>

namespace {

using dgm::Tensor;

Tensor<int32_t> ids(int64_t count, int64_t vocabulary) {
  std::vector<int32_t> values;
  for (int64_t n = 0; n < count; ++n) values.push_back(static_cast<int32_t>(n * 7919 % vocabulary));
  return Tensor<int32_t>::from(values, {count}, dgm::bench::device());
}

void report(benchmark::State& state, double bytes) {
  bytes *= static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

void embedding_forward(benchmark::State& state) {
  const auto table = Tensor<float>::full({state.range(1), state.range(2)}, 0.5f, dgm::bench::device());
  const auto places = ids(state.range(0), state.range(1));
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::embedding(table, places).value().data()); });
  report(state, 8.0 * static_cast<double>(state.range(0)) * static_cast<double>(state.range(2)));
}

void embedding_and_gradient(benchmark::State& state) {
  const auto table = Tensor<float>::full({state.range(1), state.range(2)}, 0.5f, dgm::bench::device());
  const auto places = ids(state.range(0), state.range(1));
  const auto g = Tensor<float>::full({state.range(0), state.range(2)}, 0.5f, dgm::bench::device());
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const dgm::Variable leaf = tape.watch(table);
    tape.backward(dgm::embedding(leaf, places), g);
    benchmark::DoNotOptimize(tape.grad(leaf).data());
  });
  report(state, 4.0 * static_cast<double>(state.range(2)) * static_cast<double>(3 * state.range(0) + state.range(1)));
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"N", "V", "D"})
      ->Args({1 << 18, 10000, 64})
      ->Args({1 << 14, 50000, 256})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(embedding_forward)->Apply(sizes);
BENCHMARK(embedding_and_gradient)->Apply(sizes);
