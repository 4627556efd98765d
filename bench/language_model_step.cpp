// SPDX-License-Identifier: Apache-2.0
// A step of a word language model: 32 sequences of 35 words, an LSTM of 256 units, embeddings of as many, 10,000 words;
// forward, backward and SGD, on a GPU one graph. Ceiling: FMA. 6 operations for each entry of the three weights and
// each word (products in bfloat16 can pass it).
#include <dgm/core/graph.hpp>
#include <dgm/nn/recurrent.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/embedding.hpp>
#include <dgm/ops/linear_categorical.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/train/optimiser.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace {

using namespace dgm;

constexpr int64_t kBatch = 32;
constexpr int64_t kSteps = 35;
constexpr int64_t kHidden = 256;
constexpr int64_t kWords = 10'000;

Tensor<int32_t> words(unsigned seed, const Stream& stream) {
  std::mt19937 generator(seed);
  std::vector<int32_t> ids(kBatch * kSteps);
  for (int32_t& id : ids) id = static_cast<int32_t>(generator() % kWords);
  return Tensor<int32_t>::from(ids, {kBatch * kSteps}, stream);
}

void language_model_step(benchmark::State& state, Products products) {
  const Stream stream = bench::device();
  Parameters parameters;
  const auto add = [&](const char* name, Shape shape, const Initialiser& values) -> Parameter& {
    return parameters.add(name, values(shape, 1, parameters.size(), stream));
  };
  Parameter& table = add("embedding", {kWords, kHidden}, Initialiser::uniform(0.1f));
  const Lstm layer(parameters, "lstm", kHidden, kHidden, stream);
  Parameter& weight = add("output.weight", {kWords, kHidden}, Initialiser::uniform(0.1f));
  Parameter& bias = add("output.bias", {kWords}, Initialiser::zeros());
  const SequenceLayout layout = SequenceLayout::uniform(kBatch, kSteps, stream);
  const auto in = words(1, stream);
  const auto out = words(2, stream);
  Optimiser optimiser = sgd(parameters, {.rate = 0.1, .clip_norm = 5});
  parameters.zero_grad();

  const auto step = [&] {
    parameters.zero_grad();
    Tape tape;
    const Variable h = layer(&tape, layout, embedding(tape.watch(table), in)).h;
    tape.backward(mean(linear_categorical(h, tape.watch(weight), tape.watch(bias), out, products)) * -1.0f);
    optimiser.step();
  };
  step();
  const Graph graph = Graph::capture(stream, step);
  bench::repeat(state, [&] { graph.launch(); });

  constexpr double kWeights = 2.0 * 4 * kHidden * kHidden + 1.0 * kWords * kHidden;
  const double flops = 6 * kBatch * kSteps * kWeights * static_cast<double>(state.iterations());
  state.counters["share_of_fma"] =
      benchmark::Counter(flops / bench::ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK_CAPTURE(language_model_step, fp32, Products::kFloat32)->UseRealTime()->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(language_model_step, bf16, Products::kBfloat16IfFaster)->UseRealTime()->Unit(benchmark::kMillisecond);
