// SPDX-License-Identifier: Apache-2.0
// Ceiling: FMA, and exp. A row, component and dimension costs 2 FMA forward and 2 for the statistics; a row
// and component costs an exponential. share_of_fma counts the FMAs alone; share_of_both is the time of FMAs
// and exponentials, each at its measured rate, over the time taken. On the CPU scratch_KiB is what one call
// allocates for a thread, beside tensors.
#include <dgm/ops/diagonal_mixture.hpp>

#include "bench/support/allocations.hpp"
#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

namespace {

using dgm::Tensor;

Tensor<float> normals(dgm::Shape shape, unsigned seed, float scale) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, scale);
  std::vector<float> values(static_cast<std::size_t>(shape.size()));
  for (float& value : values) value = normal(generator);
  return Tensor<float>::from(values, shape, dgm::bench::device());
}

struct Inputs {
  Tensor<float> x, logits, mean, log_scale;

  explicit Inputs(const benchmark::State& state)
      : x(normals({state.range(0), state.range(2)}, 1, 1.5f)),
        logits(normals({state.range(1)}, 2, 0.1f)),
        mean(normals({state.range(1), state.range(2)}, 3, 1.0f)),
        log_scale(normals({state.range(1), state.range(2)}, 4, 0.1f)) {}
};

template <class Body>
void measure(benchmark::State& state, double fma_per_term, const Body& body) {
  const double scratch = dgm::bench::peak_allocation(body);
  dgm::bench::repeat(state, body);

  const dgm::bench::Ceilings& ceilings = dgm::bench::ceilings();
  const double pairs = static_cast<double>(state.range(0)) * static_cast<double>(state.range(1)) *
                       static_cast<double>(state.iterations());
  const double flops = 2.0 * fma_per_term * pairs * static_cast<double>(state.range(2));
  const double fma_seconds = flops / ceilings.fma_flops_per_second;
  const auto rate = [](double value) { return benchmark::Counter(value, benchmark::Counter::kIsRate); };
  state.counters["GFLOP/s"] = rate(flops / 1e9);
  state.counters["share_of_fma"] = rate(fma_seconds);
  state.counters["share_of_both"] = rate(fma_seconds + pairs / ceilings.exp_per_second);
  if (!dgm::bench::device().is_cuda()) state.counters["scratch_KiB"] = scratch / 1024 / dgm::cpu_threads();
}

void diagonal_mixture_forward(benchmark::State& state) {
  const Inputs in(state);
  measure(state, 2, [&] {
    benchmark::DoNotOptimize(
        dgm::diagonal_mixture_log_likelihood(in.x, in.logits, in.mean, in.log_scale).value().data());
  });
}

void diagonal_mixture_gradients(benchmark::State& state) {
  const Inputs in(state);
  measure(state, 4, [&] {
    dgm::Tape tape;
    const dgm::Variable logits = tape.watch(in.logits);
    tape.backward(dgm::diagonal_mixture_log_likelihood(in.x, logits, tape.watch(in.mean), tape.watch(in.log_scale)));
    benchmark::DoNotOptimize(tape.grad(logits).data());
  });
}

// Statistics and, on the host, the step to new parameters.
void diagonal_mixture_em(benchmark::State& state) {
  const Inputs in(state);
  const auto mean = in.mean.to_host();
  const auto log_scale = in.log_scale.to_host();
  const auto components = static_cast<std::size_t>(state.range(1));
  const auto dims = static_cast<std::size_t>(state.range(2));
  std::vector<float> new_logits(components), new_mean(components * dims), new_log_scale(components * dims);
  measure(state, 4, [&] {
    const auto statistics = dgm::diagonal_mixture_statistics(in.x, in.logits, in.mean, in.log_scale);
    const auto s0 = statistics.s0.to_host();
    const auto s1 = statistics.s1.to_host();
    const auto s2 = statistics.s2.to_host();
    for (std::size_t k = 0; k < components; ++k) {
      const double weight = std::max(s0[k], 1e-30);
      new_logits[k] = static_cast<float>(std::log(weight));
      for (std::size_t i = k * dims; i < (k + 1) * dims; ++i) {
        const double shift = s1[i] / weight;
        const double ratio = std::max(s2[i] / weight - shift * shift, 1e-12);
        new_mean[i] = mean[i] + std::exp(log_scale[i]) * static_cast<float>(shift);
        new_log_scale[i] = log_scale[i] + 0.5f * std::log(static_cast<float>(ratio));
      }
    }
    const dgm::Device on = dgm::bench::device();
    benchmark::DoNotOptimize(Tensor<float>::from(new_logits, in.logits.shape(), on).data());
    benchmark::DoNotOptimize(Tensor<float>::from(new_mean, in.mean.shape(), on).data());
    benchmark::DoNotOptimize(Tensor<float>::from(new_log_scale, in.mean.shape(), on).data());
  });
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"N", "K", "D"})
      ->Args({100'000, 64, 16})
      ->Args({1'000'000, 256, 2})
      ->Args({20'000, 1024, 64})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(diagonal_mixture_forward)->Apply(cases);
BENCHMARK(diagonal_mixture_gradients)->Apply(cases);
BENCHMARK(diagonal_mixture_em)->Apply(cases);
