// SPDX-License-Identifier: Apache-2.0
// y[b,s] = x[b, index[b,s]], and its gradient.
//
// Mapping    forward: one thread a pick. Backward: one thread an entry of dx, which looks through
//            the row's S indices; S is small, and no atomics means a fixed order.
// Traffic    forward reads one 32-byte sector and 4 bytes, writes 4, a pick. Backward writes 4BK
//            bytes and reads 8BS (each index K times from cache).
// Order      fixed: by s.
#include "kernels/pick.hpp"

#include "kernels/device/launch.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

__global__ void __launch_bounds__(kThreads) forward_kernel(PickForward args) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.rows * args.samples; i += stride) {
    const int64_t k = args.index[i];
    args.y[i] = 0 <= k && k < args.cols ? args.x[i / args.samples * args.cols + k] : NAN;
  }
}

__global__ void __launch_bounds__(kThreads) backward_kernel(PickBackward args) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.rows * args.cols; i += stride) {
    const int64_t b = i / args.cols;
    const int64_t k = i % args.cols;
    float sum = 0.0f;
    for (int64_t s = 0; s < args.samples; ++s) {
      if (args.index[b * args.samples + s] == k) sum += args.g[b * args.samples + s];
    }
    args.dx[i] = sum;
  }
}

}  // namespace

void run_cuda(const PickForward& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(forward_kernel, cuda::blocks_for(args.rows * args.samples, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const PickBackward& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(backward_kernel, cuda::blocks_for(args.rows * args.cols, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
