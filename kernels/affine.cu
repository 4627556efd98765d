// SPDX-License-Identifier: Apache-2.0
// y[r,c] = bias[c].
//
// Mapping    one thread an element, threads stride over the rest.
// Traffic    writes 4 bytes an element; the bias stays in cache. HBM-bound.
// Order      elementwise: no order to fix.
#include "kernels/affine.hpp"

#include "kernels/device/launch.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

__global__ void bias_rows_kernel(BiasRows args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const int64_t size = args.rows * args.cols;
  // The column moves on by the stride's remainder: one division a thread, not one an element.
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t step = stride % args.cols;
  int64_t c = first % args.cols;
  for (int64_t i = first; i < size; i += stride) {
    args.y[i] = args.bias[c];
    c += step;
    if (c >= args.cols) c -= args.cols;
  }
}

}  // namespace

void run_cuda(const BiasRows& args, void* stream) {
  if (args.rows * args.cols == 0) return;
  cuda::launch(bias_rows_kernel, cuda::blocks_for(args.rows * args.cols, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
