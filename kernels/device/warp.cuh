// SPDX-License-Identifier: Apache-2.0
// Reductions over the lanes of a warp. Butterflies: every lane ends with the same bits.
#pragma once

#include "kernels/math/log_sum.hpp"

#include <cuda_runtime.h>

namespace dgm::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xFFFFFFFFu;

__device__ inline float warp_sum(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

__device__ inline double warp_sum(double value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value += __shfl_xor_sync(kAllLanes, value, step);
  return value;
}

__device__ inline float warp_max(float value) {
  for (int step = kWarp / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(kAllLanes, value, step));
  return value;
}

__device__ inline LogSum warp_merge(LogSum value) {
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const LogSum other = {__shfl_xor_sync(kAllLanes, value.max, step), __shfl_xor_sync(kAllLanes, value.sum, step)};
    value = merge(value, other);
  }
  return value;
}

}  // namespace dgm::cuda
