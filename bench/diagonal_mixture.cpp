// SPDX-License-Identifier: Apache-2.0
// Ceiling: FMA, and exp. A row, component and dimension costs 2 FMA forward and 2 for the statistics; a row
// and component costs an exponential. share_of_fma counts the FMAs alone; share_of_both is the time of FMAs
// and exponentials, each at its measured rate, over the time taken. On the CPU scratch_KiB is what one call
// allocates for a thread, beside tensors.
#include <dgm/models/fit_mixture.hpp>
#include <dgm/ops/diagonal_mixture.hpp>

#include "bench/support/allocations.hpp"
#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <chrono>
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

Tensor<float> data(const benchmark::State& state) { return normals({state.range(0), state.range(2)}, 1, 1.5f); }

struct Inputs {
  Tensor<float> x, logits, mean, log_scale;

  explicit Inputs(const benchmark::State& state)
      : x(data(state)),
        logits(normals({state.range(1)}, 2, 0.1f)),
        mean(normals({state.range(1), state.range(2)}, 3, 1.0f)),
        log_scale(normals({state.range(1), state.range(2)}, 4, 0.1f)) {}
};

void count_work(benchmark::State& state, double fma_per_term) {
  const dgm::bench::Ceilings& ceilings = dgm::bench::ceilings();
  const double pairs = static_cast<double>(state.range(0)) * static_cast<double>(state.range(1)) *
                       static_cast<double>(state.iterations());
  const double flops = 2.0 * fma_per_term * pairs * static_cast<double>(state.range(2));
  const double fma_seconds = flops / ceilings.fma_flops_per_second;
  const auto rate = [](double value) { return benchmark::Counter(value, benchmark::Counter::kIsRate); };
  state.counters["GFLOP/s"] = rate(flops / 1e9);
  state.counters["share_of_fma"] = rate(fma_seconds);
  state.counters["share_of_both"] = rate(fma_seconds + pairs / ceilings.exp_per_second);
}

template <class Body>
void measure(benchmark::State& state, double fma_per_term, const Body& body) {
  const double scratch = dgm::bench::peak_allocation(body);
  dgm::bench::repeat(state, body);
  count_work(state, fma_per_term);
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

// An iteration of a fit; its start, the first expectation and the likelihood at its end are not timed.
void diagonal_mixture_em(benchmark::State& state) {
  using Clock = std::chrono::steady_clock;
  constexpr int kIterations = 5;
  const Tensor<float> x = data(state);
  while (state.KeepRunningBatch(kIterations)) {
    Clock::time_point first, last;
    int64_t seen = 0;
    const auto progress = [&](int, int iteration, double) {
      last = Clock::now();
      if (iteration == 0) first = last;
      seen = iteration;
    };
    benchmark::DoNotOptimize(
        dgm::fit_mixture_em(x, state.range(1), dgm::Covariance::diagonal,
                            {.restarts = 1, .max_iterations = kIterations + 1, .tolerance = 0, .progress = progress})
            .log_likelihood);
    if (seen != kIterations) state.SkipWithError("the fit ended early");
    state.SetIterationTime(std::chrono::duration<double>(last - first).count());
  }
  count_work(state, 4);
}

void cases(benchmark::internal::Benchmark* benchmark) {
  benchmark->ArgNames({"N", "K", "D"})
      ->Args({100'000, 64, 16})
      ->Args({1'000'000, 256, 2})
      ->Args({20'000, 1024, 64})
      ->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(diagonal_mixture_forward)->Apply(cases)->UseRealTime();
BENCHMARK(diagonal_mixture_gradients)->Apply(cases)->UseRealTime();
BENCHMARK(diagonal_mixture_em)->Apply(cases)->UseManualTime();
