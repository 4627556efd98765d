// SPDX-License-Identifier: Apache-2.0
// Ceiling: backward writes 4 bytes an entry of x, at half the copy rate.
#include <dgm/ops/pick.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

void pick_forward_backward(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const int64_t rows = state.range(0);
  const int64_t cols = state.range(1);
  const auto x = dgm::Tensor<float>::zeros({rows, cols}, device);
  const auto index = dgm::Tensor<int32_t>::zeros({rows, 1}, device);
  const auto g = dgm::Tensor<float>::full({rows, 1}, 1.0f, device);
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const dgm::Variable leaf = tape.watch(x);
    tape.backward(dgm::pick(leaf, index), g);
    benchmark::DoNotOptimize(tape.grad(leaf).data());
  });
  const double bytes = 4.0 * static_cast<double>(x.size()) * static_cast<double>(state.iterations());
  state.counters["share_of_copy"] =
      benchmark::Counter(2 * bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(pick_forward_backward)
    ->ArgNames({"B", "K"})
    ->Args({1 << 16, 256})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
