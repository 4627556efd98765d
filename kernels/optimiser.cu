// SPDX-License-Identifier: Apache-2.0
// One update of all parameters at once: SGD, Adam, AdamW, and the norm of the gradient.
//
// Mapping    updates: one element a thread, blocks stride over the rest. Norm: one block a chunk of
//            4096 elements. Scalars: one block sums the chunks, its first thread does the rest.
// Traffic    an element: norm reads 4 bytes; SGD reads 8 and writes 4, with momentum 12 and 8;
//            Adam and AdamW read 16 and write 12. HBM-bound: the floor is those bytes over the copy
//            rate.
// Order      a thread sums every 256th element of a chunk, a tree joins the threads, chunks are
//            summed likewise: the same norm run to run. Updates are elementwise.
#include "kernels/optimiser.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/math/update_scalars.hpp"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

// Sum over the block, for its first thread only; smem holds kThreads doubles.
__device__ double block_sum(double value, double* smem) {
  const unsigned thread = threadIdx.x;
  smem[thread] = value;
  __syncthreads();
  for (unsigned half = kThreads / 2; half > 0; half /= 2) {
    if (thread < half) smem[thread] += smem[thread + half];
    __syncthreads();
  }
  const double sum = smem[0];
  __syncthreads();  // smem is free again
  return sum;
}

__global__ void __launch_bounds__(kThreads) norm_kernel(GradientNorm args) {
  cuda::SharedMemory smem;
  double* const sums = smem.take<double>(kThreads);
  const int64_t chunks = (args.size + kNormChunk - 1) / kNormChunk;
  for (int64_t chunk = blockIdx.x; chunk < chunks; chunk += gridDim.x) {
    const int64_t begin = chunk * kNormChunk;
    const int64_t end = begin + kNormChunk < args.size ? begin + kNormChunk : args.size;
    double sum = 0;
    for (int64_t i = begin + threadIdx.x; i < end; i += kThreads) {
      const double g = args.grad[i];
      sum += g * g;
    }
    sum = block_sum(sum, sums);
    if (threadIdx.x == 0) args.partial[chunk] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) scalars_kernel(UpdateScalars args) {
  cuda::SharedMemory smem;
  double* const sums = smem.take<double>(kThreads);
  double sum = 0;
  if (args.partial != nullptr) {
    for (int64_t i = threadIdx.x; i < args.partials; i += kThreads) sum += args.partial[i];
  }
  sum = block_sum(sum, sums);
  if (threadIdx.x == 0) finish_update_scalars(args, sum);
}

__device__ float gradient_at(const GradientArgs& args, float scale, int64_t i) {
  float g = args.grad[i] * scale;
  // Comparisons that are false for NaN, so that clipping does not hide one.
  g = g > args.clip_value ? args.clip_value : g;
  g = g < -args.clip_value ? -args.clip_value : g;
  return args.maximise ? -g : g;
}

__global__ void __launch_bounds__(kThreads) sgd_kernel(SgdUpdate args) {
  const StepScalars scalars = *args.scalars;
  if (scalars.skip != 0) return;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.size; i += stride) {
    const float w = args.value[i];
    float g = gradient_at(args.gradient, scalars.scale, i);
    g = fmaf(args.weight_decay, w, g);
    if (args.velocity != nullptr) {
      const float v = fmaf(args.momentum, args.velocity[i], g);
      args.velocity[i] = v;
      g = args.nesterov ? fmaf(args.momentum, v, g) : v;
    }
    args.value[i] = fmaf(-scalars.rate, g, w);
  }
}

__global__ void __launch_bounds__(kThreads) adam_kernel(AdamUpdate args) {
  const StepScalars scalars = *args.scalars;
  if (scalars.skip != 0) return;
  const float coupled = args.decoupled ? 0.0f : args.weight_decay;
  const float shrink = args.decoupled ? scalars.rate * args.weight_decay : 0.0f;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.size; i += stride) {
    const float w = args.value[i];
    const float g = fmaf(coupled, w, gradient_at(args.gradient, scalars.scale, i));
    float m = args.first[i];
    float v = args.second[i];
    // beta v + (1 - beta) g^2 with both factors rounded would converge to (1 + 1e-5) g^2.
    m = fmaf(args.one_minus_beta1, g - m, m);
    v = fmaf(args.one_minus_beta2, fmaf(g, g, -v), v);
    args.first[i] = m;
    args.second[i] = v;
    const float shrunk = fmaf(-shrink, w, w);
    args.value[i] = shrunk - scalars.step_size * m / fmaf(sqrtf(v), scalars.root, args.epsilon);
  }
}

}  // namespace

void run_cuda(const GradientNorm& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(norm_kernel, cuda::blocks_for(args.size, kNormChunk), kThreads,
               cuda::SharedMemory::bytes<double>(kThreads), stream, args);
}

void run_cuda(const UpdateScalars& args, void* stream) {
  cuda::launch(scalars_kernel, 1, kThreads, cuda::SharedMemory::bytes<double>(kThreads), stream, args);
}

void run_cuda(const SgdUpdate& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(sgd_kernel, cuda::blocks_for(args.size, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const AdamUpdate& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(adam_kernel, cuda::blocks_for(args.size, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
