// SPDX-License-Identifier: Apache-2.0
// Ceiling: bytes over the read rate (values) or the copy rate (gradients).
#include <dgm/ops/densities.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;
using dgm::Variable;

// A decoder's logits for S samples of each of B images.
void bernoulli_log_density(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const auto x = Tensor<float>::full({state.range(0), state.range(2)}, 1.0f, device);
  const auto logits = Tensor<float>::full({state.range(0), state.range(1), state.range(2)}, 0.3f, device);
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::bernoulli_log_density(x, logits).value().data()); });
  state.counters["share_of_read"] =
      benchmark::Counter(4.0 * static_cast<double>(logits.size()) * static_cast<double>(state.iterations()) /
                             dgm::bench::ceilings().read_bytes_per_second,
                         benchmark::Counter::kIsRate);
}

void bernoulli_log_density_gradient(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const auto x = Tensor<float>::full({state.range(0), state.range(2)}, 1.0f, device);
  const auto logits = Tensor<float>::full({state.range(0), state.range(1), state.range(2)}, 0.3f, device);
  const auto g = Tensor<float>::full({state.range(0), state.range(1)}, 1.0f, device);
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const Variable watched = tape.watch(logits);
    tape.backward(dgm::bernoulli_log_density(x, watched), g);
    benchmark::DoNotOptimize(tape.grad(watched).data());
  });
  // Forward reads; backward reads and writes.
  state.counters["share_of_copy"] =
      benchmark::Counter(12.0 * static_cast<double>(logits.size()) * static_cast<double>(state.iterations()) /
                             dgm::bench::ceilings().copy_bytes_per_second,
                         benchmark::Counter::kIsRate);
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"B", "S", "D"})
      ->Args({100, 50, 784})
      ->Args({1000, 50, 784})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(bernoulli_log_density)->Apply(cases);
BENCHMARK(bernoulli_log_density_gradient)->Apply(cases);
