// SPDX-License-Identifier: Apache-2.0
// Ceiling: FMA. 2 B V H operations forward; 6 backward, where the logits are computed again. share_of_fma is of
// the rate in fp32, so that products in bfloat16 may pass 1. scratch_KiB is what all threads allocate beside
// tensors.
#include <dgm/ops/linear_categorical.hpp>

#include "bench/support/allocations.hpp"
#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

namespace {

using dgm::Products;
using dgm::Tensor;

Tensor<float> normals(dgm::Shape shape, unsigned seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<std::size_t>(shape.size()));
  for (float& value : values) value = normal(generator);
  return Tensor<float>::from(values, shape, dgm::bench::device());
}

struct Case {
  Tensor<float> hidden, weight, bias, g;
  Tensor<int32_t> labels;

  explicit Case(const benchmark::State& state)
      : hidden(normals({state.range(2), state.range(1)}, 1, 1.0f)),
        weight(normals({state.range(0), state.range(1)}, 2, 0.0625f)),
        bias(normals({state.range(0)}, 3, 0.1f)),
        g(Tensor<float>::full({state.range(2)}, 1.0f, dgm::bench::device())),
        labels(random_labels(state.range(2), state.range(0))) {}

  static Tensor<int32_t> random_labels(int64_t rows, int64_t words) {
    std::mt19937 generator(4);
    std::vector<int32_t> values;
    for (int64_t b = 0; b < rows; ++b)
      values.push_back(static_cast<int32_t>(generator() % static_cast<uint64_t>(words)));
    return Tensor<int32_t>::from(values, {rows}, dgm::bench::device());
  }
};

template <class Body>
void measure(benchmark::State& state, double products, const Body& body) {
  const double scratch = dgm::bench::peak_allocation(body);
  dgm::bench::repeat(state, body);
  const double flops = products * 2.0 * static_cast<double>(state.range(0)) * static_cast<double>(state.range(1)) *
                       static_cast<double>(state.range(2)) * static_cast<double>(state.iterations());
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, benchmark::Counter::kIsRate);
  state.counters["share_of_fma"] =
      benchmark::Counter(flops / dgm::bench::ceilings().fma_flops_per_second, benchmark::Counter::kIsRate);
  if (!dgm::bench::device().is_cuda()) state.counters["scratch_KiB"] = scratch / 1024;
}

template <Products products>
void forward(benchmark::State& state) {
  const Case c(state);
  measure(state, 1, [&] {
    benchmark::DoNotOptimize(dgm::linear_categorical(c.hidden, c.weight, c.bias, c.labels, products).value().data());
  });
}

template <Products products>
void gradients(benchmark::State& state) {
  const Case c(state);
  measure(state, 4, [&] {
    dgm::Tape tape;
    const dgm::Variable hidden = tape.watch(c.hidden);
    const dgm::Variable weight = tape.watch(c.weight);
    const dgm::Variable bias = tape.watch(c.bias);
    tape.backward(dgm::linear_categorical(hidden, weight, bias, c.labels, products), c.g);
    benchmark::DoNotOptimize(tape.grad(weight).data());
  });
}

void linear_categorical_forward(benchmark::State& state) { forward<Products::kFloat32>(state); }
void linear_categorical_gradients(benchmark::State& state) { gradients<Products::kFloat32>(state); }
void linear_categorical_forward_bfloat16(benchmark::State& state) { forward<Products::kBfloat16IfFaster>(state); }
void linear_categorical_gradients_bfloat16(benchmark::State& state) { gradients<Products::kBfloat16IfFaster>(state); }

void sizes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"V", "H", "B"})
      ->Args({50000, 256, 512})
      ->Args({18722, 256, 1024})
      ->Args({10000, 256, 32})
      ->Args({10000, 64, 1})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(linear_categorical_forward)->Apply(sizes);
BENCHMARK(linear_categorical_gradients)->Apply(sizes);
BENCHMARK(linear_categorical_forward_bfloat16)->Apply(sizes);
BENCHMARK(linear_categorical_gradients_bfloat16)->Apply(sizes);
