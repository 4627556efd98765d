// SPDX-License-Identifier: Apache-2.0
// Columns from one array into another.
//
// Mapping    one thread an element that is written, threads stride over the rest.
// Traffic    reads 4 bytes an element and writes 4. HBM-bound.
// Order      elementwise: no order to fix.
#include "kernels/columns.hpp"

#include "kernels/device/launch.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

struct Place {
  int64_t row;
  int64_t col;
};

__device__ Place place_of(int64_t i, int64_t size, int64_t cols) {
  // Divisions of 32 bits cost a quarter of those of 64.
  if (size <= INT32_MAX) {
    const auto index = static_cast<uint32_t>(i);
    const auto width = static_cast<uint32_t>(cols);
    return {static_cast<int64_t>(index / width), static_cast<int64_t>(index % width)};
  }
  return {i / cols, i % cols};
}

__global__ void __launch_bounds__(kThreads) copy_kernel(CopyColumns args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const int64_t size = args.rows * args.cols;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += stride) {
    const Place at = place_of(i, size, args.cols);
    args.to[at.row * args.to_cols + args.to_begin + at.col] =
        args.from[at.row * args.from_cols + args.from_begin + at.col];
  }
}

__global__ void __launch_bounds__(kThreads) pad_kernel(PadColumns args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const int64_t size = args.rows * args.to_cols;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += stride) {
    const Place at = place_of(i, size, args.to_cols);
    const int64_t c = at.col - args.begin;
    args.to[i] = c >= 0 && c < args.cols ? args.from[at.row * args.cols + c] : 0.0f;
  }
}

}  // namespace

void run_cuda(const CopyColumns& args, void* stream) {
  const int64_t size = args.rows * args.cols;
  if (size == 0) return;
  cuda::launch(copy_kernel, cuda::blocks_for(size, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const PadColumns& args, void* stream) {
  const int64_t size = args.rows * args.to_cols;
  if (size == 0) return;
  cuda::launch(pad_kernel, cuda::blocks_for(size, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
