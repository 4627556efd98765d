// SPDX-License-Identifier: Apache-2.0
// y[b] = shift + log sum_k exp x[b,k], and its gradient.
//
// Mapping    one warp a row; lane l visits k = l, l+32, ...; warps stride over rows.
// Algorithm  one pass over (max, sum of exp(x - max)) pairs, merged across lanes by butterfly.
// Traffic    forward reads 4BK bytes, writes 4B; backward reads 4BK + 8B, writes 4BK. HBM-bound:
//            the floor is those bytes over the copy rate.
// Order      fixed by lane: equal input gives equal bits on one device.
#include "kernels/log_sum_exp.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;
constexpr int64_t kRowsPerBlock = kThreads / cuda::kWarp;

__global__ void __launch_bounds__(kThreads) forward_kernel(LogSumExpForward args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kRowsPerBlock;
  for (int64_t b = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / cuda::kWarp; b < args.rows; b += stride) {
    const float* const row = args.x + b * args.cols;
    LogSum sum;
    for (int64_t k = lane; k < args.cols; k += cuda::kWarp) sum = add(sum, row[k]);
    sum = cuda::warp_merge(sum);
    if (lane == 0) args.y[b] = sum.log() + args.shift;
  }
}

__global__ void __launch_bounds__(kThreads) backward_kernel(LogSumExpBackward args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kRowsPerBlock;
  for (int64_t b = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / cuda::kWarp; b < args.rows; b += stride) {
    const float y = args.y[b];
    const float log_norm = y - args.shift;
    const float g = args.g[b];
    for (int64_t k = lane; k < args.cols; k += cuda::kWarp) {
      // -inf - -inf would be NaN: a row without mass has no gradient.
      args.dx[b * args.cols + k] = y == -INFINITY ? 0.0f : g * expf(args.x[b * args.cols + k] - log_norm);
    }
  }
}

}  // namespace

void run_cuda(const LogSumExpForward& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(forward_kernel, cuda::blocks_for(args.rows, kRowsPerBlock), kThreads, 0, stream, args);
}

void run_cuda(const LogSumExpBackward& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(backward_kernel, cuda::blocks_for(args.rows, kRowsPerBlock), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
