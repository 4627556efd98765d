// SPDX-License-Identifier: Apache-2.0
#include "bench/support/ceilings.hpp"

#include <dgm/core/tensor.hpp>

#include "host/cpu/parallel.hpp"

#include <chrono>
#include <cstring>
#include <functional>
#include <limits>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/support/ceilings.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"

#include <hwy/cache_control.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// 12 independent chains hide an FMA's latency on every core so far.
double FmaFlops(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  using V = hn::Vec<decltype(d)>;
  const V a = hn::Set(d, 0.999f);
  const V b = hn::Set(d, 1e-3f);
  // Each its own start: equal chains would be computed once.
  V x0 = hn::Iota(d, 0), x1 = hn::Iota(d, 1), x2 = hn::Iota(d, 2), x3 = hn::Iota(d, 3), x4 = hn::Iota(d, 4),
    x5 = hn::Iota(d, 5), x6 = hn::Iota(d, 6), x7 = hn::Iota(d, 7), x8 = hn::Iota(d, 8), x9 = hn::Iota(d, 9),
    x10 = hn::Iota(d, 10), x11 = hn::Iota(d, 11);
  for (int64_t i = 0; i < rounds; ++i) {
    x0 = hn::MulAdd(x0, a, b), x1 = hn::MulAdd(x1, a, b), x2 = hn::MulAdd(x2, a, b), x3 = hn::MulAdd(x3, a, b);
    x4 = hn::MulAdd(x4, a, b), x5 = hn::MulAdd(x5, a, b), x6 = hn::MulAdd(x6, a, b), x7 = hn::MulAdd(x7, a, b);
    x8 = hn::MulAdd(x8, a, b), x9 = hn::MulAdd(x9, a, b), x10 = hn::MulAdd(x10, a, b), x11 = hn::MulAdd(x11, a, b);
  }
  const V sum =
      hn::Add(hn::Add(hn::Add(x0, x1), hn::Add(x2, x3)),
              hn::Add(hn::Add(hn::Add(x4, x5), hn::Add(x6, x7)), hn::Add(hn::Add(x8, x9), hn::Add(x10, x11))));
  *sink += hn::GetLane(hn::SumOfLanes(d, sum));
  return 24.0 * static_cast<double>(rounds) * static_cast<double>(hn::Lanes(d));
}

float ReadSum(const float* x, int64_t begin, int64_t end) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  for (int64_t i = begin; i + 4 * lanes <= end; i += 4 * lanes) {
    for (int64_t j = 0; j < 4; ++j) hwy::Prefetch(x + i + j * lanes + 1024);  // more than what loads alone ask for
    s0 = hn::Add(s0, hn::LoadU(d, x + i)), s1 = hn::Add(s1, hn::LoadU(d, x + i + lanes));
    s2 = hn::Add(s2, hn::LoadU(d, x + i + 2 * lanes)), s3 = hn::Add(s3, hn::LoadU(d, x + i + 3 * lanes));
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

float ExpSum(const float* x, int64_t count, int64_t rounds) {
  const hn::ScalableTag<float> d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0;
  for (int64_t r = 0; r < rounds; ++r) {
    for (int64_t i = 0; i + 2 * lanes <= count; i += 2 * lanes) {
      s0 = hn::Add(s0, cpu::HWY_NAMESPACE::ExpBelow88(d, hn::LoadU(d, x + i)));
      s1 = hn::Add(s1, cpu::HWY_NAMESPACE::ExpBelow88(d, hn::LoadU(d, x + i + lanes)));
    }
  }
  return hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, s1)));
}

}  // namespace dgm::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::bench {

HWY_EXPORT(FmaFlops);
HWY_EXPORT(ReadSum);
HWY_EXPORT(ExpSum);

namespace {

double fastest_of(int runs, const std::function<void()>& body) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

Ceilings measure() {
  Ceilings result = {};
  volatile float sink = 0;
  constexpr int64_t kCount = int64_t{1} << 26;  // 256 MiB: far beyond any cache here
  // Tensors, as what is measured reads them.
  auto from_tensor = Tensor<float>::empty({kCount}, Device::cpu());
  auto to_tensor = Tensor<float>::empty({kCount}, Device::cpu());
  float* const from = from_tensor.data();
  float* const to = to_tensor.data();
  cpu::parallel_ranges(kCount, 1 << 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) from[i] = -1e-3f * static_cast<float>(i % 4096), to[i] = 0;
  });
  const double bytes = 4.0 * kCount;
  result.copy_bytes_per_second =
      2 * bytes / fastest_of(5, [&] {
        cpu::parallel_ranges(kCount, 1 << 16, [&](int64_t begin, int64_t end, int) {
          std::memcpy(&to[begin], &from[begin], static_cast<std::size_t>(end - begin) * sizeof(float));
        });
      });
  const auto read_sum = HWY_DYNAMIC_DISPATCH(ReadSum);
  result.read_bytes_per_second = bytes / fastest_of(5, [&] {
                                   cpu::parallel_ranges(kCount, 1 << 16, [&](int64_t begin, int64_t end, int) {
                                     const float sum = read_sum(from, begin, end);
                                     if (sum == 12345.0f) sink = sum;
                                   });
                                 });
  const auto fma = HWY_DYNAMIC_DISPATCH(FmaFlops);
  constexpr int64_t kRounds = 20'000'000;
  double flops = 0;
  const int threads = cpu_threads();
  const double seconds = fastest_of(5, [&] {
    cpu::parallel_ranges(threads, 1, [&](int64_t, int64_t, int thread) {
      float out = 0;
      const double done = fma(kRounds, &out);
      if (thread == 0) flops = done * threads;
      if (out == 12345.0f) sink = out;
    });
  });
  result.fma_flops_per_second = flops / seconds;
  const auto exp_sum = HWY_DYNAMIC_DISPATCH(ExpSum);
  result.exp_per_second = 4096.0 * 20000 * threads / fastest_of(5, [&] {
                            cpu::parallel_ranges(threads, 1, [&](int64_t, int64_t, int) {
                              const float sum = exp_sum(from, 4096, 20000);
                              if (sum == 12345.0f) sink = sum;
                            });
                          });
  return result;
}

}  // namespace

const Ceilings& cpu_ceilings() {
  static const Ceilings ceilings = measure();
  return ceilings;
}

}  // namespace dgm::bench
#endif  // HWY_ONCE
