// SPDX-License-Identifier: Apache-2.0
// A step of an autoencoder 784-200-200-50 on a batch of 100 by the IWAE bound of K draws: forward, backward and Adam,
// on a GPU one graph. Ceiling: FMA. 6 operations for each weight and row: 100 rows of the encoder, 100 K of the
// decoder.
#include <dgm/core/graph.hpp>
#include <dgm/inference/importance.hpp>
#include <dgm/models/variational_autoencoder.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/train/optimiser.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace {

using namespace dgm;

constexpr int64_t kBatch = 100;
constexpr int64_t kPixels = 784;
constexpr int64_t kHidden = 200;
constexpr int64_t kLatent = 50;

void iwae_step(benchmark::State& state) {
  const int64_t draws_per_image = state.range(0);
  const Stream stream = bench::device();
  VariationalAutoencoder model(kPixels, kLatent, {kHidden, kHidden}, 1, stream);
  std::mt19937 generator(2);
  std::vector<float> pixels(kBatch * kPixels);
  for (float& pixel : pixels) pixel = generator() % 4 == 0 ? 1.0f : 0.0f;
  const auto x = Tensor<float>::from(pixels, {kBatch, kPixels}, stream);
  Optimiser optimiser = adam(model.parameters(), {.rate = 1e-3, .goal = Goal::maximise});
  const Draws draws(3, stream);

  const auto step = [&] {
    model.parameters().zero_grad();
    Tape tape;
    const AutoencoderBatch batch(model, x);
    const ImportanceSampling iwae(batch, batch.proposal(), draws_per_image, ImportanceGradient::iwae);
    tape.backward(iwae(tape, draws).objective / static_cast<float>(kBatch));
    optimiser.step();
  };
  step();
  const Graph graph = Graph::capture(stream, step);
  bench::repeat(state, [&] { graph.launch(); });

  constexpr double kEncoder = kPixels * kHidden + kHidden * kHidden + kHidden * 2 * kLatent;
  constexpr double kDecoder = kLatent * kHidden + kHidden * kHidden + kHidden * kPixels;
  const double flops = 6 * kBatch * (kEncoder + static_cast<double>(draws_per_image) * kDecoder) *
                       static_cast<double>(state.iterations());
  state.counters["share_of_fma"] =
      benchmark::Counter(flops / bench::ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
}

}  // namespace

BENCHMARK(iwae_step)->ArgName("K")->Arg(1)->Arg(5)->Arg(50)->UseRealTime()->Unit(benchmark::kMillisecond);
