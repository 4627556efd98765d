// SPDX-License-Identifier: Apache-2.0
// Ceiling: the copy rate; packing reads and writes 4 T C bytes.
#include <dgm/ops/sequences.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <random>

namespace {

using dgm::SequenceLayout;
using dgm::Tensor;

SequenceLayout layout_of(int64_t batch) {
  std::mt19937 generator(1);
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < batch; ++b) lengths.push_back(1 + static_cast<int64_t>(generator() % 40));
  return {lengths, dgm::bench::device()};
}

void report(benchmark::State& state, double bytes) {
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes * static_cast<double>(state.iterations()) / dgm::bench::ceilings().copy_bytes_per_second,
                         benchmark::Counter::kIsRate);
}

void sequence_pack(benchmark::State& state) {
  const SequenceLayout layout = layout_of(state.range(0));
  const auto x = Tensor<float>::full({layout.total(), state.range(1)}, 0.5f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::pack(x, layout).value().data()); });
  report(state, 8.0 * static_cast<double>(x.size()));
}

void sequence_sum(benchmark::State& state) {
  const SequenceLayout layout = layout_of(state.range(0));
  const auto x = Tensor<float>::full({layout.total(), state.range(1)}, 0.5f, dgm::bench::device());
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::sequence_sum(x, layout).value().data()); });
  report(state, 4.0 * static_cast<double>(x.size()));
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"B", "C"})->Args({1024, 256})->Args({16384, 1})->UseRealTime()->Unit(benchmark::kMicrosecond);
}

}  // namespace

BENCHMARK(sequence_pack)->Apply(sizes);
BENCHMARK(sequence_sum)->Apply(sizes);
