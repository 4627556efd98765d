// SPDX-License-Identifier: Apache-2.0
// Rates of one GPU: copying and reading 1 GiB of HBM, fp32 FMA, __expf.
//
// Mapping    a thread runs 8 independent chains, or strides over 16-byte loads.
// Traffic    read 1 GiB; copy 2 GiB; the others none.
#include <dgm/core/tensor.hpp>

#include "bench/support/ceilings.hpp"
#include "kernels/device/launch.cuh"

#include <algorithm>
#include <chrono>
#include <limits>

namespace dgm::bench {

namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kBlocks = 132 * 32;  // some waves on any GPU
constexpr int kChains = 8;

__global__ void __launch_bounds__(kThreads) fma_kernel(float* sink, int rounds) {
  float x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = static_cast<float>(threadIdx.x + c);
  for (int i = 0; i < rounds; ++i) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) x[c] = fmaf(x[c], 0.999f, 1e-3f);
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += x[c];
  if (sum == 12345.0f) *sink = sum;
}

__global__ void __launch_bounds__(kThreads) exp_kernel(float* sink, int rounds) {
  float x[kChains];
  for (int c = 0; c < kChains; ++c) x[c] = -1e-3f * static_cast<float>(threadIdx.x + c);
  for (int i = 0; i < rounds; ++i) {
#pragma unroll
    for (int c = 0; c < kChains; ++c) x[c] = __expf(x[c]);
  }
  float sum = 0;
  for (int c = 0; c < kChains; ++c) sum += x[c];
  if (sum == 12345.0f) *sink = sum;
}

__global__ void __launch_bounds__(kThreads) read_kernel(const float4* x, int64_t count, float* sink) {
  float sum = 0;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    const float4 v = x[i];
    sum += (v.x + v.y) + (v.z + v.w);
  }
  if (sum == 12345.0f) *sink = sum;
}

template <class Body>
double fastest_of(int runs, const Stream& stream, const Body& body) {
  body();
  stream.synchronize();
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < runs; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    stream.synchronize();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

Ceilings measure_cuda_ceilings(const Stream& stream) {
  constexpr int64_t kCount = int64_t{1} << 28;
  constexpr int kRounds = 20'000;
  constexpr double kBytes = 4.0 * kCount;
  constexpr double kOperations = double{kBlocks} * kThreads * kChains * kRounds;
  const auto from = Tensor<float>::zeros({kCount}, stream);
  auto to = Tensor<float>::zeros({kCount}, stream);
  Ceilings result = {};
  result.copy_bytes_per_second = 2 * kBytes / fastest_of(10, stream, [&] { to.copy_from(from); });
  result.read_bytes_per_second = kBytes / fastest_of(10, stream, [&] {
                                   cuda::launch(read_kernel, kBlocks, kThreads, 0, stream.native(),
                                                reinterpret_cast<const float4*>(from.data()), kCount / 4, to.data());
                                 });
  result.fma_flops_per_second =
      2 * kOperations / fastest_of(5, stream, [&] {
        cuda::launch(fma_kernel, kBlocks, kThreads, 0, stream.native(), to.data(), int{kRounds});
      });
  result.exp_per_second = kOperations / fastest_of(5, stream, [&] {
                            cuda::launch(exp_kernel, kBlocks, kThreads, 0, stream.native(), to.data(), int{kRounds});
                          });
  return result;
}

}  // namespace dgm::bench
