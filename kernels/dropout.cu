// SPDX-License-Identifier: Apache-2.0
// y[r,c] = scale * x[r,c], or 0 where a word of the row's draw is below the threshold.
//
// Mapping    one thread a block of four words, so up to four neighbouring columns of a row; threads
//            stride over the rest.
// Traffic    reads 4 bytes an element and writes 4; the mask is drawn again by the gradient, never
//            stored. About 20 integer operations an element. HBM-bound.
// Order      elementwise: no order to fix.
#include "kernels/dropout.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

__global__ void __launch_bounds__(kThreads) dropout_kernel(Dropout args) {
  const int64_t blocks = (args.cols + 3) / 4;  // of words, a row
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const auto step = static_cast<uint64_t>(*args.draws.step);
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < args.rows * blocks; at += stride) {
    const int64_t row = at / blocks;
    const int64_t block = at % blocks;
    const int64_t datum = args.data != nullptr ? args.data[row] : row;
    const PhiloxWords words = cuda::draw_words(
        args.draws.seed, {args.draws.site, static_cast<uint64_t>(datum), step, static_cast<uint32_t>(block)});
    const float* const x = args.x + row * args.cols + block * 4;
    float* const y = args.y + row * args.cols + block * 4;
    const int64_t count = args.cols - block * 4;
    float results[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j < count) results[j] = words.w[j] < args.threshold ? 0.0f : args.scale * x[j];
    }
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j < count) y[j] = results[j];
    }
  }
}

}  // namespace

void run_cuda(const Dropout& args, void* stream) {
  const int64_t blocks = args.rows * ((args.cols + 3) / 4);
  if (blocks == 0) return;
  cuda::launch(dropout_kernel, cuda::blocks_for(blocks, kThreads, INT32_MAX), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
