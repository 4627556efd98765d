// SPDX-License-Identifier: Apache-2.0
// The moves of Hamiltonian Monte Carlo, between which the model evaluates its log density and gradient.
//
// Mapping    start: one warp a chain, lane l at blocks of four coordinates l, l + 32, ... Leapfrog: one thread a
//            coordinate. End: one block a datum, its warps at chains, so that the adaptation of the datum's step
//            sees all of them; a datum's acceptances are summed by one thread.
// Traffic    start reads 8BCD bytes and writes 8BCD; leapfrog reads 12BCD and writes 8BCD; the end reads 12BCD and
//            writes up to 8BCD. Latency-bound at the sizes of a training step: a move is 2 launches and one for each
//            leap, beside the model's own.
// Order      draws by counter, sums by lane and by chain: equal input gives equal bits on one device.
#include "kernels/hamiltonian.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"
#include "kernels/device/warp.cuh"

namespace dgm::kernels {

namespace {

using cuda::kWarp;

constexpr int kThreads = 128;
constexpr int kWarps = kThreads / kWarp;

__device__ PhiloxWords words_of(const ChainDraws& of, int64_t row, int64_t chain, int64_t block) {
  const int64_t datum = of.data != nullptr ? of.data[row] : row;
  const auto at = static_cast<uint32_t>(chain * (((of.dims + 3) / 4) + 1) + block);
  return cuda::draw_words(of.draws.seed, {of.draws.site, static_cast<uint64_t>(datum),
                                          static_cast<uint64_t>(*of.draws.step), of.first_block + at});
}

__global__ void __launch_bounds__(kThreads) start_kernel(TrajectoryStart args) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const ChainDraws& of = args.chains;
  const int64_t blocks = (of.dims + 3) / 4;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t at = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; at < of.rows * of.chains; at += stride) {
    const int64_t row = at / of.chains;
    const int64_t chain = at % of.chains;
    const StepSize size = args.steps[row];
    const float u = uniform_from_word(words_of(of, row, chain, blocks).w[1]);
    const float step = args.first_step * expf(args.averaged ? size.log_average : size.log_step) *
                       (1.0f + args.jitter * (2.0f * u - 1.0f));
    float squares = 0.0f;
    for (int64_t block = lane; block < blocks; block += kWarp) {
      const PhiloxWords words = words_of(of, row, chain, block);
      const NormalPair low = normals_from_words(words.w[0], words.w[1]);
      const NormalPair high = normals_from_words(words.w[2], words.w[3]);
      const float normals[4] = {low.first, low.second, high.first, high.second};
      DGM_UNROLL
      for (int j = 0; j < 4; ++j) {
        if (4 * block + j < of.dims) {
          const int64_t i = at * of.dims + 4 * block + j;
          squares = fmaf(normals[j], normals[j], squares);
          const float momentum = fmaf(0.5f * step, args.gradient[i], normals[j]);
          args.momentum[i] = momentum;
          args.moved[i] = fmaf(step, momentum, args.z[i]);
        }
      }
    }
    squares = cuda::warp_sum(squares);
    if (lane == 0) {
      args.kinetic[at] = 0.5f * squares;
      args.step[at] = step;
    }
  }
}

__global__ void __launch_bounds__(kThreads) leapfrog_kernel(Leapfrog args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.rows * args.dims; i += stride) {
    const float step = args.step[i / args.dims];
    const float momentum = fmaf(step, args.gradient[i], args.momentum[i]);
    args.momentum[i] = momentum;
    args.moved[i] = fmaf(step, momentum, args.moved[i]);
  }
}

__global__ void __launch_bounds__(kThreads) end_kernel(TrajectoryEnd args) {
  const ChainDraws& of = args.chains;
  const int64_t blocks = (of.dims + 3) / 4;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  for (int64_t row = blockIdx.x; row < of.rows; row += gridDim.x) {
    for (int64_t chain = threadIdx.x / kWarp; chain < of.chains; chain += kWarps) {
      const int64_t at = row * of.chains + chain;
      const int64_t first = at * of.dims;
      const float half = 0.5f * args.step[at];
      float squares = 0.0f;
      for (int64_t d = lane; d < of.dims; d += kWarp) {
        const float momentum = fmaf(half, args.moved_gradient[first + d], args.momentum[first + d]);
        squares = fmaf(momentum, momentum, squares);
      }
      const float kinetic = 0.5f * cuda::warp_sum(squares);
      const float moved_log_density = args.moved_log_density[at];
      const float p = acceptance_of(args.log_density[at], args.kinetic[at], moved_log_density, kinetic);
      // Every lane must have read the log density before one of them writes it.
      __syncwarp();
      const float u = uniform_from_word(words_of(of, row, chain, blocks).w[0]);
      if (lane == 0) args.acceptance[at] = p;
      if (p > 0.0f && u <= p) {
        for (int64_t d = lane; d < of.dims; d += kWarp) {
          args.z[first + d] = args.moved[first + d];
          args.gradient[first + d] = args.moved_gradient[first + d];
        }
        if (lane == 0) args.log_density[at] = moved_log_density;
      }
    }
    __syncthreads();
    if (threadIdx.x == 0 && args.steps != nullptr && of.chains > 0) {
      double sum = 0;
      for (int64_t chain = 0; chain < of.chains; ++chain) {
        sum += static_cast<double>(args.acceptance[row * of.chains + chain]);
      }
      args.steps[row] = adapted(args.steps[row], static_cast<float>(sum / static_cast<double>(of.chains)), args.target);
    }
  }
}

}  // namespace

void run_cuda(const TrajectoryStart& args, void* stream) {
  const int64_t chains = args.chains.rows * args.chains.chains;
  if (chains == 0) return;
  cuda::launch(start_kernel, cuda::blocks_for(chains, kWarps), kThreads, 0, stream, args);
}

void run_cuda(const Leapfrog& args, void* stream) {
  const int64_t size = args.rows * args.dims;
  if (size == 0) return;
  cuda::launch(leapfrog_kernel, cuda::blocks_for(size, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const TrajectoryEnd& args, void* stream) {
  if (args.chains.rows == 0) return;
  cuda::launch(end_kernel, cuda::blocks_for(args.chains.rows, 1), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
