// SPDX-License-Identifier: Apache-2.0
// Log joints of the diagonal mixture for given components, and their gradient by the data.
#pragma once

#include "kernels/diagonal_mixture/tile.cuh"

namespace dgm::kernels {

namespace {

// `lanes` threads, a power of 2, share an item.
__global__ void __launch_bounds__(kThreads) joint_kernel(DiagonalMixtureJoint args, Packed packed, int lanes) {
  const int64_t dims = args.mixture.dims;
  const int64_t items = args.rows * args.samples;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int per_block = kThreads / lanes;
  for (int64_t first = int64_t{blockIdx.x} * per_block; first < items; first += int64_t{gridDim.x} * per_block) {
    const int64_t item = first + static_cast<int>(threadIdx.x) / lanes;
    float squares = 0;
    int64_t k = -1;
    if (item < items) {
      k = args.z[item];
      if (k >= args.mixture.components) k = -1;
      if (k >= 0) {
        for (int64_t d = lane; d < dims; d += lanes) {
          const float inverse = expf(-args.mixture.log_scale[k * dims + d]);
          const float v = (args.x[item / args.samples * dims + d] - args.mixture.mean[k * dims + d]) * inverse;
          squares = fmaf(v, v, squares);
        }
      }
    }
    for (int shift = lanes / 2; shift > 0; shift /= 2) squares += __shfl_xor_sync(kAllLanes, squares, shift);
    if (item < items && lane == 0) {
      const float constant = k < 0 ? NAN : packed.constant[k];
      // Without weight the parameters may be NaN, and the density is 0 all the same.
      args.y[item] = constant == -INFINITY ? constant : fmaf(constant, kLn2, -0.5f * squares);
    }
  }
}

__global__ void __launch_bounds__(kThreads) joint_data_gradient_kernel(DiagonalMixtureJointStatistics args) {
  const int64_t dims = args.mixture.dims;
  const int64_t count = args.rows * dims;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    const int64_t row = i / dims;
    const int64_t d = i % dims;
    float sum = 0;
    for (int64_t s = 0; s < args.samples; ++s) {
      const float g = args.g[row * args.samples + s];
      const int64_t k = args.z[row * args.samples + s];
      if (g == 0.0f || k < 0 || k >= args.mixture.components || args.mixture.logits[k] == -INFINITY) continue;
      const float inverse = expf(-args.mixture.log_scale[k * dims + d]);
      sum = fmaf(g * inverse, (args.mixture.mean[k * dims + d] - args.x[i]) * inverse, sum);
    }
    args.dx[i] = sum;
  }
}

}  // namespace

}  // namespace dgm::kernels
