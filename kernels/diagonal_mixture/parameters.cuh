// SPDX-License-Identifier: Apache-2.0
// What the diagonal mixture's kernels make of its parameters before they see data: scales inverted, means
// about a centre, constants in base 2, all in tiles of 64 components.
#pragma once

#include "kernels/device/mixture.cuh"
#include "kernels/diagonal_mixture.hpp"

#include <algorithm>
#include <cfloat>

namespace dgm::kernels {

namespace {

using cuda::Carver;
using cuda::exp2_fast;
using cuda::kAllLanes;
using cuda::kLn2;
using cuda::kLog2E;
using cuda::kWarp;
using cuda::Peak;
using cuda::SharedMemory;

constexpr int kComps = 64;  // components in a tile
constexpr int kPrepareThreads = 256;
constexpr int kMaxPrepareBlocks = 256;
constexpr float kScale2 = 0.849321800f;  // sqrt(log2(e) / 2): squares are then in base 2
constexpr float kMaxOffset = 5.0f;       // largest |mean - centre| / scale, times kScale2, for moments about the centre

__host__ __device__ inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// What prepare_kernel makes of the parameters. Tiles of 64 components, padded with components of no
// weight: entry (k, d) of a matrix is at ((k / 64) D + d) 64 + k % 64.
struct Packed {
  float* constant;  // (K'), log2 of pi_k / ((2 pi)^(D/2) prod_d scale_kd)
  float* inverse;   // (K', D), a = kScale2 / (unit scale)
  float* offset;    // (K', D), -a unit (mean - centre)
  float* mean;      // (K', D), unit mean
  float* centre;    // (D)
  float* unit;      // (D), a power of 2 near 1 / scale, in which data and means are measured: their squares
                    // would overflow otherwise
  float* worst;     // (prepare blocks), largest |offset|
  int64_t tiles;
  int prepare_blocks;
};

Packed pack(Carver& carver, const DiagonalMixture& mixture) {
  Packed packed = {};
  packed.tiles = ceil_div(mixture.components, kComps);
  const int64_t padded = packed.tiles * kComps;
  packed.prepare_blocks =
      static_cast<int>(std::min<int64_t>(ceil_div(padded, kPrepareThreads / kWarp), kMaxPrepareBlocks));
  packed.constant = carver.take<float>(padded);
  packed.inverse = carver.take<float>(padded * mixture.dims);
  packed.offset = carver.take<float>(padded * mixture.dims);
  packed.mean = carver.take<float>(padded * mixture.dims);
  packed.centre = carver.take<float>(mixture.dims);
  packed.unit = carver.take<float>(mixture.dims);
  packed.worst = carver.take<float>(packed.prepare_blocks);
  return packed;
}

// One warp a component.
__global__ void __launch_bounds__(kPrepareThreads) prepare_kernel(DiagonalMixture mixture, Packed packed) {
  SharedMemory smem;
  double* const room = smem.take<double>(kPrepareThreads / kWarp);
  float* const centre = smem.take<float>(static_cast<std::size_t>(mixture.dims));
  float* const unit = smem.take<float>(static_cast<std::size_t>(mixture.dims));
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const double log_norm = cuda::block_log_normaliser(mixture.logits, mixture.components, room);

  // Of at most 32 components: any point amid the means will do, and every block must find the same.
  const int64_t step = ceil_div(mixture.components, 32);
  for (int64_t d = threadIdx.x; d < mixture.dims; d += kPrepareThreads) {
    float sum = 0;
    float log_scales = 0;
    float count = 0;
    for (int64_t k = 0; k < mixture.components; k += step) {
      if (mixture.logits[k] == -INFINITY) continue;
      sum += mixture.mean[k * mixture.dims + d];
      log_scales += mixture.log_scale[k * mixture.dims + d];
      count += 1;
    }
    centre[d] = count > 0 ? sum / count : 0.0f;
    const float log_unit = count > 0 ? rintf(-kLog2E * log_scales / count) : 0.0f;
    unit[d] = fabsf(log_unit) <= 120.0f ? exp2f(log_unit) : 1.0f;
    if (blockIdx.x == 0) {
      packed.centre[d] = centre[d];
      packed.unit[d] = unit[d];
    }
  }
  __syncthreads();

  float worst = 0;
  const int64_t stride = int64_t{gridDim.x} * (kPrepareThreads / kWarp);
  for (int64_t k = int64_t{blockIdx.x} * (kPrepareThreads / kWarp) + threadIdx.x / kWarp; k < packed.tiles * kComps;
       k += stride) {
    const bool real = k < mixture.components;
    // The parameters of a component without weight may be anything, NaN too.
    const bool live = real && mixture.logits[k] != -INFINITY;
    double log_scales = 0;
    for (int64_t d = lane; d < mixture.dims; d += kWarp) {
      const float log_scale = live ? mixture.log_scale[k * mixture.dims + d] : 0.0f;
      const float mean = real ? mixture.mean[k * mixture.dims + d] : 0.0f;
      const float inverse = live ? kScale2 * expf(-log_scale) / unit[d] : 0.0f;
      const float offset = live ? -inverse * ((mean - centre[d]) * unit[d]) : 0.0f;
      const int64_t at = (k / kComps * mixture.dims + d) * kComps + k % kComps;
      packed.inverse[at] = inverse;
      packed.offset[at] = offset;
      packed.mean[at] = live || fabsf(mean) <= FLT_MAX ? mean * unit[d] : 0.0f;
      log_scales += static_cast<double>(log_scale);
      worst = fmaxf(worst, fabsf(offset));
    }
    log_scales = cuda::warp_sum(log_scales);
    if (lane == 0) {
      const double constant = live ? static_cast<double>(mixture.logits[k]) - log_norm - log_scales -
                                         static_cast<double>(mixture.dims) * cuda::kHalfLog2Pi
                                   : 0.0;
      packed.constant[k] = live ? static_cast<float>(constant * 1.4426950408889634) : -INFINITY;
    }
  }
  worst = cuda::block_max(worst, reinterpret_cast<float*>(room));
  if (threadIdx.x == 0) packed.worst[blockIdx.x] = worst;
}

void prepare(const DiagonalMixture& mixture, const Packed& packed, void* stream) {
  const std::size_t shared = SharedMemory::bytes<double>(kPrepareThreads / kWarp) +
                             2 * SharedMemory::bytes<float>(static_cast<std::size_t>(mixture.dims));
  cuda::launch(prepare_kernel, packed.prepare_blocks, kPrepareThreads, shared, stream, mixture, packed);
}

// Whether moments about the centre are accurate; by the whole block.
__device__ bool well_conditioned(const Packed& packed) {
  bool small = true;
  for (int i = static_cast<int>(threadIdx.x); i < packed.prepare_blocks; i += static_cast<int>(blockDim.x)) {
    small = small && packed.worst[i] <= kMaxOffset;
  }
  return __syncthreads_and(small) != 0;
}

}  // namespace

}  // namespace dgm::kernels
