// SPDX-License-Identifier: Apache-2.0
// Elementwise kernels for any function over lanes.
//
// Mapping    a block takes 1024 elements at a time, a thread four of them, 256 apart: their loads are in
//            flight together, and no alignment is asked of a tensor's rows.
// Traffic    forward reads 4 bytes an element and writes 4; the gradient reads 8 (4 where the function
//            keeps nothing) and writes 4. HBM-bound.
// Order      elementwise: no order to fix.
#pragma once

#include "kernels/device/launch.cuh"
#include "kernels/map.hpp"
#include "kernels/math/scalar_lanes.hpp"

namespace dgm::cuda {

inline constexpr int kMapThreads = 256;
inline constexpr int kMapEach = 4;

/// to[i] = body(i) for all i < size. A thread stores after all its loads: in between, a store might for
/// all the compiler knows change what is loaded next.
template <class Body>
__device__ void for_each(int64_t size, float* to, const Body& body) {
  constexpr int64_t kTile = kMapThreads * kMapEach;
  for (int64_t tile = int64_t{blockIdx.x} * kTile; tile < size; tile += int64_t{gridDim.x} * kTile) {
    const int64_t first = tile + threadIdx.x;
    if (tile + kTile <= size) {
      float results[kMapEach];
#pragma unroll
      for (int j = 0; j < kMapEach; ++j) results[j] = body(first + j * kMapThreads);
#pragma unroll
      for (int j = 0; j < kMapEach; ++j) to[first + j * kMapThreads] = results[j];
    } else {
      for (int64_t i = first; i < size; i += kMapThreads) to[i] = body(i);
    }
  }
}

inline unsigned map_blocks(int64_t size) { return blocks_for(size, kMapThreads * kMapEach, INT32_MAX); }

template <class F, class Function>
__global__ void __launch_bounds__(kMapThreads, 6) map_kernel(kernels::Map<Function> args) {
  for_each(args.size, args.y, [&](int64_t i) {
    return F::template value<kernels::scalar::Lanes>(args.x[i], args.constants.a, args.constants.b);
  });
}

template <class F, class Function>
__global__ void __launch_bounds__(kMapThreads, 6) map_gradient_kernel(kernels::MapGradient<Function> args) {
  for_each(args.size, args.dx, [&](int64_t i) {
    const float g = args.g[i];
    const float kept = F::kKeeps == kernels::Keeps::kNothing ? g : args.kept[i];
    return F::template gradient<kernels::scalar::Lanes>(kept, g, args.constants.a, args.constants.b);
  });
}

}  // namespace dgm::cuda
