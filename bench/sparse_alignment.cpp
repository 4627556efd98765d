// SPDX-License-Identifier: Apache-2.0
// An EM iteration on a text of the size of Multi30k, made up: words by Zipf's law, each target word drawn from its own
// few partners of a source word of the pair, lengths as there. DGM_BENCH_BITEXT=FILE (`source ||| target` lines) takes
// a text instead.
//
// Ceiling: the bytes that an iteration reads and writes, from host/cpu/sparse_alignment.cpp, over the read rate.
#include <dgm/data/bitext.hpp>
#include <dgm/ops/sparse_alignment.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdlib>
#include <random>

namespace {

using dgm::Cooccurrence;
using dgm::Tensor;

struct Text {
  std::vector<int64_t> source_offsets = {0}, target_offsets = {0};
  std::vector<int32_t> source_words, target_words;
  int32_t sources = 10000, targets = 18000;
};

Text made_up(int64_t pairs) {
  Text text;
  std::mt19937_64 generator(1);
  std::vector<double> weights;
  for (int32_t word = 0; word < text.sources; ++word) weights.push_back(1.0 / (word + 2.7));
  std::discrete_distribution<int32_t> zipf(weights.begin(), weights.end());
  std::lognormal_distribution<double> length(std::log(12.2), 0.3);
  for (int64_t p = 0; p < pairs; ++p) {
    const auto first = static_cast<int64_t>(text.source_words.size());
    const auto source = std::max<int64_t>(3, std::lround(length(generator)));
    for (int64_t j = 0; j < source; ++j) text.source_words.push_back(zipf(generator));
    const auto target = std::max<int64_t>(3, std::lround(static_cast<double>(source) * 0.96));
    for (int64_t i = 0; i < target; ++i) {
      const uint64_t word =
          static_cast<uint64_t>(text.source_words[first + static_cast<int64_t>(generator() % source)]);
      // One of a handful of partners; frequent words have frequent ones.
      text.target_words.push_back(
          static_cast<int32_t>((word * 9 / 5 + (generator() % 5) * (word % 97)) % text.targets));
    }
    text.source_offsets.push_back(static_cast<int64_t>(text.source_words.size()));
    text.target_offsets.push_back(static_cast<int64_t>(text.target_words.size()));
  }
  return text;
}

std::shared_ptr<const Cooccurrence> pattern() {
  static const std::shared_ptr<const Cooccurrence> compiled = [] {
    if (const char* const path = std::getenv("DGM_BENCH_BITEXT")) {
      return std::make_shared<const Cooccurrence>(dgm::BitextView::of(dgm::read_joined_bitext({path})));
    }
    const Text text = made_up(29000);
    return std::make_shared<const Cooccurrence>(dgm::BitextView{
        text.source_offsets, text.target_offsets, text.source_words, text.target_words, text.sources, text.targets});
  }();
  return compiled;
}

void report(benchmark::State& state, double bytes) {
  const Cooccurrence& of = *pattern();
  const double cells = static_cast<double>(of.cells() + of.target_tokens());
  state.counters["cells/s"] =
      benchmark::Counter(cells * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
  state.counters["share_of_read"] =
      benchmark::Counter(bytes * static_cast<double>(state.iterations()) / dgm::bench::ceilings().read_bytes_per_second,
                         benchmark::Counter::kIsRate);
}

void iteration(benchmark::State& state, bool diagonal) {
  const dgm::AlignmentCells cells(pattern(), dgm::bench::device());
  const Cooccurrence& of = *pattern();
  auto table = Tensor<float>::full({of.entries()}, 1.0f / static_cast<float>(of.target_vocabulary()), cells.stream());
  const auto prior = Tensor<float>::from({0.08f, 4.0f}, {2}, cells.stream());
  dgm::bench::repeat(state, [&] {
    const auto counts = dgm::sparse_alignment_counts(cells, table, diagonal ? &prior : nullptr);
    dgm::sparse_alignment_normalise(cells, counts.counts, diagonal ? 0.01f : 0.0f, table);
    benchmark::DoNotOptimize(table.data());
  });
  report(state, 4.0 * static_cast<double>(of.cells()) + 8.0 * static_cast<double>(of.source_tokens()) +
                    16.0 * static_cast<double>(of.target_tokens()) + 12.0 * static_cast<double>(of.entries()));
}

void ibm1_iteration(benchmark::State& state) { iteration(state, false); }
void diagonal_iteration(benchmark::State& state) { iteration(state, true); }

void sparse_alignment_gradient(benchmark::State& state) {
  const dgm::AlignmentCells cells(pattern(), dgm::bench::device());
  const auto log_table = Tensor<float>::full({pattern()->entries()}, -9.0f, cells.stream());
  const auto g = Tensor<float>::full({pattern()->pairs()}, 1.0f, cells.stream());
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const dgm::Variable leaf = tape.watch(log_table);
    tape.backward(dgm::sparse_alignment_log_marginal(cells, leaf), g);
    benchmark::DoNotOptimize(tape.grad(leaf).data());
  });
  report(state, 6.0 * static_cast<double>(pattern()->cells()));
}

}  // namespace

BENCHMARK(ibm1_iteration)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(diagonal_iteration)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK(sparse_alignment_gradient)->UseRealTime()->Unit(benchmark::kMillisecond);
