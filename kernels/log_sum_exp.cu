// SPDX-License-Identifier: Apache-2.0
// y[b] = shift + log sum_k exp x[b,k], and its gradient.
//
// Mapping    `group` threads a row: the fewest, up to a warp, that take it at 16 terms each; a block where
//            rows have 4096 terms or more, since few long rows would leave a warp each too few loads in flight.
// Algorithm  a thread loads 16 terms at a time, four vectors of four where every row is aligned for them,
//            finds their largest, and adds the exponentials of what they lie below it: one exponential a
//            term, and one more for each 16 to bring the sum so far to the new maximum.
// Traffic    forward reads 4BK bytes, writes 4B; backward reads 4BK + 8B, writes 4BK. HBM-bound: about 6
//            (forward) and 4 (backward) instructions a term, where an H200 has 31 in the time that 4 bytes
//            take at 4.3 TB/s. In flight: 64 bytes a thread, 2 KB a warp, 128 KB a multiprocessor at full
//            occupancy; 4.3 TB/s at 700 ns of latency needs 23 KB. Floor on an H200, forward:
//            B x K = 1M x 64 in 62 us, 65k x 1024 in 62 us, 1k x 65k in 62 us. Not measured.
// Order      fixed by thread: equal input gives equal bits on one device.
#include "kernels/log_sum_exp.hpp"

#include "kernels/device/fast_math.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"

#include <cfloat>
#include <cmath>

namespace dgm::kernels {

namespace {

using cuda::exp2_fast;
using cuda::kAllLanes;
using cuda::kLog2E;
using cuda::kWarp;
using cuda::SharedMemory;

constexpr int kThreads = 256;
constexpr int kEach = 16;
constexpr int64_t kBlockCols = 4096;

// sum of exp(term) = sum * exp(max). Of the maximum's range the infinities are cut off, so that no
// difference is inf - inf: a term of +inf makes the sum infinite, a NaN makes it NaN.
struct Part {
  float max = -FLT_MAX;
  float sum = 0.0f;
};

__device__ __forceinline__ float exp_of(float below) { return exp2_fast(below * kLog2E); }

__device__ __forceinline__ Part merge(Part a, Part b) {
  const float max = fmaxf(a.max, b.max);
  return {max, fmaf(a.sum, exp_of(a.max - max), b.sum * exp_of(b.max - max))};
}

// Terms first + (thread + i group) 4 + {0..3} of a row (vectors) or first + thread + i group; what lies
// past the end is `beyond`.
template <bool kVectors>
__device__ __forceinline__ void load_terms(float (&terms)[kEach], const float* row, int64_t first, int64_t cols,
                                           int thread, int group, float beyond) {
  if constexpr (kVectors) {
    DGM_UNROLL
    for (int i = 0; i < kEach / 4; ++i) {
      const int64_t k = first + (thread + i * group) * 4;
      float4 v = make_float4(beyond, beyond, beyond, beyond);
      if (k < cols) v = *reinterpret_cast<const float4*>(row + k);
      terms[4 * i] = v.x;
      terms[4 * i + 1] = v.y;
      terms[4 * i + 2] = v.z;
      terms[4 * i + 3] = v.w;
    }
  } else {
    DGM_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const int64_t k = first + thread + i * group;
      terms[i] = k < cols ? row[k] : beyond;
    }
  }
}

template <bool kVectors>
__global__ void __launch_bounds__(kThreads) forward_kernel(LogSumExpForward args, int group) {
  SharedMemory smem;
  float* const maxima = smem.take<float>(kThreads / kWarp);
  float* const sums = smem.take<float>(kThreads / kWarp);
  const int thread = static_cast<int>(threadIdx.x) % group;
  const int per_block = kThreads / group;
  for (int64_t first_row = int64_t{blockIdx.x} * per_block; first_row < args.rows;
       first_row += int64_t{gridDim.x} * per_block) {
    const int64_t b = first_row + static_cast<int>(threadIdx.x) / group;
    Part part;
    if (b < args.rows) {
      for (int64_t first = 0; first < args.cols; first += int64_t{kEach} * group) {
        float terms[kEach];
        load_terms<kVectors>(terms, args.x + b * args.cols, first, args.cols, thread, group, -INFINITY);
        float max = part.max;
        DGM_UNROLL
        for (int i = 0; i < kEach; ++i) max = fmaxf(max, terms[i]);
        max = fminf(max, FLT_MAX);
        float sum = part.sum * exp_of(part.max - max);
        DGM_UNROLL
        for (int i = 0; i < kEach; ++i) sum += exp_of(terms[i] - max);
        part = {max, sum};
      }
    }
    for (int step = (group < kWarp ? group : kWarp) / 2; step > 0; step /= 2) {
      part = merge(part, {__shfl_xor_sync(kAllLanes, part.max, step), __shfl_xor_sync(kAllLanes, part.sum, step)});
    }
    if (group > kWarp) {
      if (thread % kWarp == 0) {
        maxima[thread / kWarp] = part.max;
        sums[thread / kWarp] = part.sum;
      }
      __syncthreads();
      part = {maxima[0], sums[0]};
      for (int w = 1; w < group / kWarp; ++w) part = merge(part, {maxima[w], sums[w]});
      __syncthreads();
    }
    if (thread == 0 && b < args.rows) args.y[b] = part.max + logf(part.sum) + args.shift;
  }
}

template <bool kVectors>
__global__ void __launch_bounds__(kThreads) backward_kernel(LogSumExpBackward args, int group) {
  const int thread = static_cast<int>(threadIdx.x) % group;
  const int per_block = kThreads / group;
  for (int64_t b = int64_t{blockIdx.x} * per_block + static_cast<int>(threadIdx.x) / group; b < args.rows;
       b += int64_t{gridDim.x} * per_block) {
    const float y = args.y[b];
    const float log_norm = y - args.shift;
    const float g = args.g[b];
    float* const dx = args.dx + b * args.cols;
    for (int64_t first = 0; first < args.cols; first += int64_t{kEach} * group) {
      float terms[kEach];
      load_terms<kVectors>(terms, args.x + b * args.cols, first, args.cols, thread, group, 0.0f);
      DGM_UNROLL
      for (int i = 0; i < kEach; ++i) {
        // -inf - -inf would be NaN: a row without mass has no gradient.
        terms[i] = y == -INFINITY ? 0.0f : g * exp_of(terms[i] - log_norm);
      }
      if constexpr (kVectors) {
        DGM_UNROLL
        for (int i = 0; i < kEach / 4; ++i) {
          const int64_t k = first + (thread + i * group) * 4;
          if (k < args.cols) {
            *reinterpret_cast<float4*>(dx + k) =
                make_float4(terms[4 * i], terms[4 * i + 1], terms[4 * i + 2], terms[4 * i + 3]);
          }
        }
      } else {
        DGM_UNROLL
        for (int i = 0; i < kEach; ++i) {
          const int64_t k = first + thread + i * group;
          if (k < args.cols) dx[k] = terms[i];
        }
      }
    }
  }
}

int group_for(int64_t cols) {
  if (cols >= kBlockCols) return kThreads;
  int group = 1;
  while (group < kWarp && group * kEach < cols) group *= 2;
  return group;
}

// A tensor may be part of another: its first element is aligned as a float only.
bool aligned(const void* data, int64_t cols) { return cols % 4 == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0; }

}  // namespace

void run_cuda(const LogSumExpForward& args, void* stream) {
  if (args.rows == 0) return;
  const int group = group_for(args.cols);
  cuda::launch(aligned(args.x, args.cols) ? forward_kernel<true> : forward_kernel<false>,
               cuda::blocks_for(args.rows, kThreads / group), kThreads,
               2 * SharedMemory::bytes<float>(kThreads / kWarp), stream, args, group);
}

void run_cuda(const LogSumExpBackward& args, void* stream) {
  if (args.rows == 0) return;
  const int group = group_for(args.cols);
  const bool vectors = aligned(args.x, args.cols) && aligned(args.dx, args.cols);
  cuda::launch(vectors ? backward_kernel<true> : backward_kernel<false>, cuda::blocks_for(args.rows, kThreads / group),
               kThreads, 0, stream, args, group);
}

}  // namespace dgm::kernels
