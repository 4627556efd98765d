// SPDX-License-Identifier: Apache-2.0
// Sums over the steps of each sequence of a packed batch.
//
// Mapping    a thread a rank and column; neighbours read neighbours at every step. Threads stride over the rest.
// Traffic    reads 4 bytes an element and writes 4 a sequence and column. HBM-bound; of short batches latency, a
//            dependent addition a step.
// Order      of the steps, in double: equal bits whatever the grid.
#include "kernels/sequences.hpp"

#include "kernels/device/launch.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

__global__ void __launch_bounds__(kThreads) sequence_sum_kernel(SequenceSum args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.batch * args.cols; i += stride) {
    const int64_t rank = i / args.cols;
    double sum = 0;
    for (int64_t t = 0; t < args.steps; ++t) {
      const int64_t begin = args.step_begin[t];
      if (args.step_begin[t + 1] - begin <= rank) break;
      sum += args.x[begin * args.cols + i];
    }
    args.y[args.sequence_of_rank[rank] * args.cols + i % args.cols] = static_cast<float>(sum);
  }
}

}  // namespace

void run_cuda(const SequenceSum& args, void* stream) {
  if (args.batch * args.cols == 0) return;
  cuda::launch(sequence_sum_kernel, cuda::blocks_for(args.batch * args.cols, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
