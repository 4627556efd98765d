// SPDX-License-Identifier: Apache-2.0
// One update of P parameters, and the indices of a minibatch of M out of N data.
// Ceiling: bytes over the copy rate. An element: the norm reads 4; SGD with momentum reads 12 and
// writes 8; Adam and AdamW read 16 and write 12.
#include <dgm/train/minibatch.hpp>
#include <dgm/train/optimiser.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <functional>

namespace {

using dgm::Parameters;

void update(benchmark::State& state, const std::function<dgm::Optimiser(Parameters&)>& optimiser_of,
            double bytes_per_element) {
  Parameters parameters;
  const int64_t count = state.range(0);
  // Ten tensors, as a small network has: their number should not matter.
  for (int i = 0; i < 10; ++i) {
    auto& parameter =
        parameters.add(std::to_string(i), dgm::Tensor<float>::full({count / 10}, 1.0f, dgm::bench::device()));
    parameter.grad.copy_from(dgm::Tensor<float>::full({count / 10}, 0.5f, dgm::bench::device()));
  }
  dgm::Optimiser optimiser = optimiser_of(parameters);
  dgm::bench::repeat(state, [&] { optimiser.step(); });
  const double bytes = bytes_per_element * static_cast<double>(count) * static_cast<double>(state.iterations());
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_copy"] =
      benchmark::Counter(bytes / dgm::bench::ceilings().copy_bytes_per_second, benchmark::Counter::kIsRate);
}

void sgd_momentum(benchmark::State& state) {
  update(
      state, [](Parameters& p) { return dgm::sgd(p, {.momentum = 0.9, .skip_non_finite = false}); }, 20);
}

void adam(benchmark::State& state) {
  update(
      state, [](Parameters& p) { return dgm::adam(p, {.skip_non_finite = false}); }, 28);
}

void adamw_clipped(benchmark::State& state) {
  update(
      state, [](Parameters& p) { return dgm::adamw(p, {.clip_norm = 1}); }, 32);
}

void minibatch(benchmark::State& state, const dgm::MinibatchOptions& options) {
  const dgm::Draws draws(1, dgm::bench::device());
  const dgm::MinibatchSampler sampler(state.range(0), state.range(1), draws, options);
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(sampler.draw().indices.data()); });
  state.counters["indices/s"] = benchmark::Counter(
      static_cast<double>(state.range(1)) * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void minibatch_by_epochs(benchmark::State& state) { minibatch(state, {.sampling = dgm::Sampling::epochs}); }
void minibatch_with_replacement(benchmark::State& state) {
  minibatch(state, {.sampling = dgm::Sampling::with_replacement});
}

}  // namespace

#define DGM_UPDATE_CASES \
  ArgName("P")->Arg(10000)->Arg(1000000)->Arg(32000000)->UseRealTime()->Unit(benchmark::kMicrosecond)
BENCHMARK(sgd_momentum)->DGM_UPDATE_CASES;
BENCHMARK(adam)->DGM_UPDATE_CASES;
BENCHMARK(adamw_clipped)->DGM_UPDATE_CASES;
#define DGM_BATCH_CASES \
  ArgNames({"N", "M"})->Args({1000000, 128})->Args({1000000, 100000})->UseRealTime()->Unit(benchmark::kMicrosecond)
BENCHMARK(minibatch_by_epochs)->DGM_BATCH_CASES;
BENCHMARK(minibatch_with_replacement)->DGM_BATCH_CASES;
