// SPDX-License-Identifier: Apache-2.0
// Ceiling: FMA. 2 G H^2 operations a step and sequence forward, the product with the state; 6 with the gradients.
#include <dgm/ops/recurrent.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace {

using namespace dgm;

Tensor<float> normals(Shape shape, unsigned seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<std::size_t>(shape.size()));
  for (float& value : values) value = normal(generator);
  return Tensor<float>::from(values, shape, bench::device());
}

struct Case {
  SequenceLayout layout;
  int64_t width;
  Tensor<float> input, weight, bias, g;

  Case(const benchmark::State& state, int64_t parts)
      : layout(SequenceLayout::uniform(state.range(0), state.range(1), bench::device())),
        width(parts * state.range(2)),
        input(normals({layout.total(), width}, 1, 1.0f)),
        weight(normals({width, state.range(2)}, 2, 0.05f)),
        bias(Tensor<float>::zeros({width}, bench::device())),
        g(normals({layout.total(), state.range(2)}, 3, 1.0f)) {}

  void report(benchmark::State& state, double products) const {
    const double flops = products * 2.0 * static_cast<double>(layout.total()) * static_cast<double>(weight.size()) *
                         static_cast<double>(state.iterations());
    state.counters["share_of_fma"] =
        benchmark::Counter(flops / bench::ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
  }
};

void lstm_forward(benchmark::State& state) {
  const Case c(state, 4);
  bench::repeat(state, [&] { benchmark::DoNotOptimize(lstm(c.layout, c.input, c.weight).h.value().data()); });
  c.report(state, 1);
}

void lstm_forward_and_gradients(benchmark::State& state) {
  const Case c(state, 4);
  bench::repeat(state, [&] {
    Tape tape;
    const Variable input = tape.watch(c.input);
    const Variable weight = tape.watch(c.weight);
    tape.backward(lstm(c.layout, input, weight).h, c.g);
    benchmark::DoNotOptimize(tape.grad(weight).data());
  });
  c.report(state, 3);
}

void gru_forward_and_gradients(benchmark::State& state) {
  const Case c(state, 3);
  bench::repeat(state, [&] {
    Tape tape;
    const Variable input = tape.watch(c.input);
    const Variable weight = tape.watch(c.weight);
    tape.backward(gru(c.layout, input, weight, c.bias), c.g);
    benchmark::DoNotOptimize(tape.grad(weight).data());
  });
  c.report(state, 3);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"B", "T", "H"})
      ->Args({32, 35, 256})
      ->Args({64, 12, 64})
      ->Args({4096, 12, 64})
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

BENCHMARK(lstm_forward)->Apply(sizes);
BENCHMARK(lstm_forward_and_gradients)->Apply(sizes);
BENCHMARK(gru_forward_and_gradients)->Apply(sizes);
