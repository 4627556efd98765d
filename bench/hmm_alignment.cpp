// SPDX-License-Identifier: Apache-2.0
// Ceiling: 3 FMA a step and pair of states (forward, backward) over the FMA rate.
#include <dgm/ops/hmm_alignment.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <random>

namespace {

using dgm::Tensor;

// Pairs of N words a side.
void hmm_alignment_posteriors(benchmark::State& state) {
  const int64_t pairs = state.range(0);
  const int64_t words = state.range(1);
  constexpr int32_t kVocabulary = 5000;
  std::mt19937 generator(1);
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> source, target;
  for (int64_t p = 0; p < pairs; ++p) {
    for (int64_t i = 0; i < words; ++i) {
      source.push_back(static_cast<int32_t>(generator() % kVocabulary));
      target.push_back(static_cast<int32_t>(generator() % kVocabulary));
    }
    offsets.push_back(static_cast<int64_t>(source.size()));
  }
  const dgm::Cooccurrence pattern({offsets, offsets, source, target, kVocabulary, kVocabulary},
                                  {.block_words = pairs * words + 1});
  const dgm::Stream stream(dgm::bench::device());
  const dgm::HmmBatch batch(pattern, 0, stream);
  const auto table = Tensor<float>::full({batch.entries()}, -5.0f, stream);
  const auto jump = Tensor<float>::zeros({2, 19}, stream);
  const auto move = Tensor<float>::from({std::log(0.2f), std::log(0.8f)}, {2}, stream);
  dgm::bench::repeat(
      state, [&] { benchmark::DoNotOptimize(dgm::hmm_alignment_posteriors(table, jump, move, batch).link.data()); });
  const double steps = static_cast<double>(pairs * words) * static_cast<double>(state.iterations());
  const double fma = 2.0 * steps * static_cast<double>(words * words);
  state.counters["cells/s"] = benchmark::Counter(steps * static_cast<double>(words), benchmark::Counter::kIsRate);
  state.counters["share_of_fma"] =
      benchmark::Counter(2 * fma / dgm::bench::ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(hmm_alignment_posteriors)
    ->ArgNames({"B", "N"})
    ->Args({20000, 11})
    ->Args({4000, 30})
    ->Args({500, 90})
    ->UseRealTime()
    ->Unit(benchmark::kMillisecond);
