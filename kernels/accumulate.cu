// SPDX-License-Identifier: Apache-2.0
// to += from, fill, and x *= factor.
//
// Mapping    one thread an element, threads stride over the rest.
// Traffic    accumulate reads 8 bytes and writes 4 an element; fill writes 4; scaling reads 4 and writes 4. HBM-bound.
// Order      elementwise: no order to fix.
#include "kernels/accumulate.hpp"

#include "kernels/device/launch.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

__global__ void accumulate_kernel(Accumulate args) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.size; i += stride) {
    args.to[i] += args.from[i];
  }
}

__global__ void fill_kernel(Fill args) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.size; i += stride) {
    args.to[i] = args.value;
  }
}

__global__ void scale_by_kernel(ScaleBy args) {
  const float factor = *args.factor;
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < args.size; i += stride) {
    args.x[i] *= factor;
  }
}

}  // namespace

void run_cuda(const Accumulate& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(accumulate_kernel, cuda::blocks_for(args.size, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const Fill& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(fill_kernel, cuda::blocks_for(args.size, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const ScaleBy& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(scale_by_kernel, cuda::blocks_for(args.size, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
