// SPDX-License-Identifier: Apache-2.0
// A move without the model's own work. Ceiling: the bytes of the Traffic line over the copy rate.
#include <dgm/ops/hamiltonian.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;

void hamiltonian_move(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const dgm::Shape shape = {state.range(0), state.range(1), state.range(2)};
  const auto constant = [&](float value) { return Tensor<float>::full(shape, value, device); };
  dgm::Chains chains = {constant(0.1f), Tensor<float>::zeros({shape[0], shape[1]}, device), constant(0.2f)};
  dgm::StepSizes steps = {Tensor<float>::zeros({shape[0], 4}, device), 0.1f};
  const dgm::Draws draws(1, device);
  const int64_t leaps = state.range(3);
  dgm::bench::repeat(state, [&] {
    dgm::Trajectory path = dgm::begin_trajectory(chains, steps, draws, 0);
    for (int64_t i = 1; i < leaps; ++i) dgm::leapfrog(path, chains.gradient);
    const dgm::Chains end = {path.moved, chains.log_density, constant(0.2f)};
    benchmark::DoNotOptimize(dgm::end_trajectory(chains, path, end, steps, draws, 0).data());
  });
  const double bytes = (36.0 + 20.0 * static_cast<double>(leaps - 1)) * static_cast<double>(shape.size());
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes * static_cast<double>(state.iterations()) / dgm::bench::ceilings().copy_bytes_per_second,
                         benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(hamiltonian_move)
    ->ArgNames({"B", "C", "D", "L"})
    ->Args({100, 10, 50, 10})
    ->Args({10'000, 16, 50, 10})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
