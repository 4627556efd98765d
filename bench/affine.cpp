// SPDX-License-Identifier: Apache-2.0
// Ceiling: 2 N I O operations (6 with the gradients) over the FMA rate.
#include <dgm/ops/affine.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

namespace {

using dgm::Tensor;

struct Case {
  explicit Case(const benchmark::State& state)
      : x(Tensor<float>::full({state.range(0), state.range(1)}, 0.5f, dgm::bench::device())),
        w(Tensor<float>::full({state.range(2), state.range(1)}, 0.25f, dgm::bench::device())),
        b(Tensor<float>::full({state.range(2)}, 1.0f, dgm::bench::device())),
        g(Tensor<float>::full({state.range(0), state.range(2)}, 0.125f, dgm::bench::device())) {}
  Tensor<float> x, w, b, g;
};

void report(benchmark::State& state, double products) {
  const double flops = products * 2.0 * static_cast<double>(state.range(0)) * static_cast<double>(state.range(1)) *
                       static_cast<double>(state.range(2)) * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_fma"] =
      benchmark::Counter(flops / dgm::bench::ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
}

void affine_forward(benchmark::State& state) {
  const Case c(state);
  dgm::bench::repeat(state, [&] { benchmark::DoNotOptimize(dgm::affine(c.x, c.w, c.b).value().data()); });
  report(state, 1);
}

void affine_forward_and_gradients(benchmark::State& state) {
  const Case c(state);
  dgm::bench::repeat(state, [&] {
    dgm::Tape tape;
    const dgm::Variable x = tape.watch(c.x);
    const dgm::Variable w = tape.watch(c.w);
    const dgm::Variable b = tape.watch(c.b);
    tape.backward(dgm::affine(x, w, b), c.g);
    benchmark::DoNotOptimize(tape.grad(w).data());
  });
  report(state, 3);
}

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"N", "I", "O"})
      ->Args({4096, 1024, 1024})
      ->Args({512, 256, 256})
      ->Args({100, 784, 200})
      ->Args({64, 32, 32})
      ->Args({1 << 16, 32, 32})
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
}

}  // namespace

BENCHMARK(affine_forward)->Apply(sizes);
BENCHMARK(affine_forward_and_gradients)->Apply(sizes);
