// SPDX-License-Identifier: Apache-2.0
// Which data a training step sees, their rows, and the end of the step.
//
// Mapping    draws: one entry a thread. Gather and scatter: one element a thread, consecutive threads
//            along a row. The step's end: one thread.
// Traffic    draws write 12 bytes an entry and spend 1 Philox block (with replacement), 8 or 20 (by
//            epochs, from 4096 data on or below) times the walk, 1.0 to 1.6 on average. Gather
//            reads and writes 4 bytes an element and reads 8 a row; HBM-bound, rows of less than 32
//            bytes cost a sector each.
// Order      every entry from (seed, step, its place): the same on any device.
#include "kernels/minibatch.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"
#include "kernels/math/permutation.hpp"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

// A functor: nvcc would want a flag for a device lambda.
struct EpochWords {
  uint64_t seed;
  uint64_t site;
  uint64_t epoch;
  __device__ PhiloxWords operator()(uint64_t half, uint32_t round) const {
    return cuda::draw_words(seed, {site, half, epoch, round});
  }
};

__global__ void __launch_bounds__(kThreads) draw_kernel(DrawMinibatch args) {
  const int64_t step = *args.draws.step;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.batch; i += stride) {
    int64_t index = i;
    double weight = 1;
    if (args.kind == BatchKind::replacement) {
      const PhiloxWords words = cuda::draw_words(
          args.draws.seed, {args.draws.site, static_cast<uint64_t>(i), static_cast<uint64_t>(step), 0});
      index = index_from_words(words.w[0], words.w[1], args.data);
      weight = static_cast<double>(args.data) / static_cast<double>(args.batch);
    } else if (args.kind != BatchKind::all) {
      const BatchEntry entry = batch_entry(args, step, i);
      index = permuted(entry.position, args.data, EpochWords{args.draws.seed, args.draws.site, entry.epoch});
      weight = entry.weight;
    }
    args.indices[i] = index;
    args.weights[i] = static_cast<float>(weight);
  }
}

template <class T>
__global__ void __launch_bounds__(kThreads) gather_kernel(GatherRows<T> args) {
  const int64_t size = args.count * args.cols;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += stride) {
    const int64_t row = i / args.cols;
    const int64_t from = args.indices[row];
    args.y[i] = from >= 0 && from < args.rows ? args.x[from * args.cols + (i - row * args.cols)] : args.missing;
  }
}

__global__ void __launch_bounds__(kThreads) scatter_kernel(ScatterRows args) {
  const int64_t size = args.count * args.cols;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += stride) {
    const int64_t row = i / args.cols;
    const int64_t to = args.indices[row];
    if (to >= 0 && to < args.rows) args.y[to * args.cols + (i - row * args.cols)] = args.x[i];
  }
}

__global__ void record_kernel(RecordStep args) {
  const int64_t slot = *args.step % args.capacity;
  args.ring[2 * slot] = *args.loss;
  args.ring[2 * slot + 1] = *args.norm;
  *args.step += 1;
}

template <class T>
void gather(const GatherRows<T>& args, void* stream) {
  if (args.count * args.cols == 0) return;
  cuda::launch(gather_kernel<T>, cuda::blocks_for(args.count * args.cols, kThreads), kThreads, 0, stream, args);
}

}  // namespace

void run_cuda(const DrawMinibatch& args, void* stream) {
  if (args.batch == 0) return;
  cuda::launch(draw_kernel, cuda::blocks_for(args.batch, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const GatherRows<float>& args, void* stream) { gather(args, stream); }
void run_cuda(const GatherRows<int32_t>& args, void* stream) { gather(args, stream); }

void run_cuda(const ScatterRows& args, void* stream) {
  if (args.count * args.cols == 0) return;
  cuda::launch(scatter_kernel, cuda::blocks_for(args.count * args.cols, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const RecordStep& args, void* stream) { cuda::launch(record_kernel, 1, 1, 0, stream, args); }

}  // namespace dgm::kernels
