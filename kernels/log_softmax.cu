// SPDX-License-Identifier: Apache-2.0
// y[b,k] = x[b,k] - log sum_j exp x[b,j] or its exponential, and the gradients.
//
// Mapping    short rows: one warp a row; rows of more than kLongRow terms: one block a row. Lanes visit
//            neighbouring terms; warps or blocks stride over rows.
// Algorithm  one pass over (max, sum of exp(x - max)) pairs, merged across lanes by butterfly and across
//            warps in shared memory; a second pass writes. Backward: one pass for the sum, one to write.
// Traffic    forward reads 8BK bytes, of which 4BK from cache, writes 4BK; backward reads 16BK, half of it
//            from cache, writes 4BK. HBM-bound: the floor is 8BK and 12BK bytes over the copy rate.
// Order      fixed by lane and warp: equal input gives equal bits on one device.
#include "kernels/log_softmax.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;
constexpr int kWarps = kThreads / cuda::kWarp;
constexpr int64_t kLongRow = 2048;

// The threads that share a row: a warp, or the block.
template <bool kBlock>
struct Team {
  float* shared;  // (2, kWarps) where kBlock
  int warp = static_cast<int>(threadIdx.x) / cuda::kWarp;
  int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;

  __device__ int64_t first_row() const { return kBlock ? int64_t{blockIdx.x} : int64_t{blockIdx.x} * kWarps + warp; }
  __device__ int64_t row_stride() const { return int64_t{gridDim.x} * (kBlock ? 1 : kWarps); }
  __device__ int64_t first_term() const { return kBlock ? static_cast<int64_t>(threadIdx.x) : lane; }
  __device__ int64_t term_stride() const { return kBlock ? kThreads : cuda::kWarp; }

  __device__ LogSum merged(LogSum value) const {
    value = cuda::warp_merge(value);
    if constexpr (kBlock) {
      __syncthreads();  // the row before may still be read
      if (lane == 0) shared[warp] = value.max, shared[kWarps + warp] = value.sum;
      __syncthreads();
      value = {shared[0], shared[kWarps]};
      for (int w = 1; w < kWarps; ++w) value = merge(value, {shared[w], shared[kWarps + w]});
    }
    return value;
  }

  __device__ float summed(float value) const {
    value = cuda::warp_sum(value);
    if constexpr (kBlock) {
      __syncthreads();
      if (lane == 0) shared[warp] = value;
      __syncthreads();
      value = shared[0];
      for (int w = 1; w < kWarps; ++w) value += shared[w];
    }
    return value;
  }
};

template <bool kBlock>
__global__ void __launch_bounds__(kThreads) forward_kernel(LogSoftmaxForward args) {
  cuda::SharedMemory smem;
  const Team<kBlock> team{kBlock ? smem.take<float>(2 * kWarps) : nullptr};
  for (int64_t b = team.first_row(); b < args.rows; b += team.row_stride()) {
    const float* const x = args.x + b * args.cols;
    float* const y = args.y + b * args.cols;
    LogSum total;
    for (int64_t k = team.first_term(); k < args.cols; k += team.term_stride()) total = add(total, x[k]);
    total = team.merged(total);
    const bool none = total.sum == 0.0f;  // nothing but -inf
    const float shift = total.max;
    const float log_sum = logf(total.sum);
    const float factor = 1.0f / total.sum;
    for (int64_t k = team.first_term(); k < args.cols; k += team.term_stride()) {
      const float below = x[k] - shift;
      if (args.exponentiated) {
        y[k] = none ? 0.0f : expf(below) * factor;
      } else {
        y[k] = none ? -INFINITY : below - log_sum;
      }
    }
  }
}

template <bool kBlock>
__global__ void __launch_bounds__(kThreads) backward_kernel(LogSoftmaxBackward args) {
  cuda::SharedMemory smem;
  const Team<kBlock> team{kBlock ? smem.take<float>(2 * kWarps) : nullptr};
  const float nothing = args.exponentiated ? 0.0f : -INFINITY;
  for (int64_t b = team.first_row(); b < args.rows; b += team.row_stride()) {
    const float* const y = args.y + b * args.cols;
    const float* const g = args.g + b * args.cols;
    float* const dx = args.dx + b * args.cols;
    float sum = 0.0f;
    for (int64_t k = team.first_term(); k < args.cols; k += team.term_stride()) {
      if (y[k] != nothing) sum += args.exponentiated ? y[k] * g[k] : g[k];
    }
    sum = team.summed(sum);
    for (int64_t k = team.first_term(); k < args.cols; k += team.term_stride()) {
      const float d = args.exponentiated ? y[k] * (g[k] - sum) : g[k] - expf(y[k]) * sum;
      dx[k] = y[k] == nothing ? 0.0f : d;
    }
  }
}

constexpr std::size_t kSharedBytes = cuda::SharedMemory::bytes<float>(2 * kWarps);

}  // namespace

void run_cuda(const LogSoftmaxForward& args, void* stream) {
  if (args.rows == 0) return;
  if (args.cols > kLongRow) {
    cuda::launch(forward_kernel<true>, cuda::blocks_for(args.rows, 1), kThreads, kSharedBytes, stream, args);
  } else {
    cuda::launch(forward_kernel<false>, cuda::blocks_for(args.rows, kWarps), kThreads, 0, stream, args);
  }
}

void run_cuda(const LogSoftmaxBackward& args, void* stream) {
  if (args.rows == 0) return;
  if (args.cols > kLongRow) {
    cuda::launch(backward_kernel<true>, cuda::blocks_for(args.rows, 1), kThreads, kSharedBytes, stream, args);
  } else {
    cuda::launch(backward_kernel<false>, cuda::blocks_for(args.rows, kWarps), kThreads, 0, stream, args);
  }
}

}  // namespace dgm::kernels
