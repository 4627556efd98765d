// SPDX-License-Identifier: Apache-2.0
// Ceiling: one exp a logit.
#include <dgm/ops/categorical_sample.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

void categorical_sample(benchmark::State& state) {
  const auto device = dgm::bench::device();
  const auto logits = dgm::Tensor<float>::zeros({state.range(0), state.range(1)}, device);
  const dgm::Draws draws(1, device);
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::categorical_sample(logits, draws).data()); });
  const double terms = static_cast<double>(logits.size()) * static_cast<double>(state.iterations());
  state.counters["share_of_exp"] =
      benchmark::Counter(terms / dgm::bench::ceilings().exp_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(categorical_sample)->ArgNames({"B", "K"})->Args({1 << 14, 256})->UseRealTime()->Unit(benchmark::kMillisecond);
