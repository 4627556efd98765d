// SPDX-License-Identifier: Apache-2.0
// Self-normalised importance weights, their evidence and effective sample size; gradients; the Pareto k-hat.
//
// Mapping    weights and gradients: one warp a row, lane l at samples l, l + 32, ... Leave-one-out gains: one thread a
//            draw, which goes through its row, S of order 10. k-hat: one block a row.
// Algorithm  weights: up to 128 samples wait in registers, four a lane, so that a row is read once; longer rows
//            are read three times, twice of it from cache. k-hat: a bitonic sort in shared memory, then one
//            thread a point of the grid of profile likelihoods.
// Traffic    weights read 4BS bytes, write 4BS + 8B; gradients read 8BS (4 for log_mean), write 4BS. HBM-bound:
//            B x S = 1M x 64 has a floor of 512 MB over the copy rate, 119 us on an H200 at 4.3 TB/s. Not
//            measured. k-hat is a diagnostic: S log^2 S compare-exchanges a row in shared memory.
// Order      fixed by lane: equal input gives equal bits on one device.
#include "kernels/importance_weights.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"
#include "kernels/math/leave_one_out.hpp"
#include "kernels/math/pareto.hpp"

namespace dgm::kernels {

namespace {

using cuda::kAllLanes;
using cuda::kWarp;
using cuda::SharedMemory;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int kEach = 4;  // samples a lane keeps

__device__ int lane_index() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ int64_t first_row() { return int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp; }

template <bool kInRegisters>
__global__ void __launch_bounds__(kThreads) weigh_kernel(ImportanceWeightsForward args) {
  const int lane = lane_index();
  for (int64_t b = first_row(); b < args.rows; b += int64_t{gridDim.x} * kWarps) {
    const float* const l = args.log_weights + b * args.samples;
    float* const w = args.weights + b * args.samples;
    float kept[kEach];
    float max = -INFINITY;
    bool good = true;
    const auto see = [&](float value) {
      good = good && value < INFINITY;
      max = fmaxf(max, value);
    };
    if constexpr (kInRegisters) {
      DGM_UNROLL
      for (int i = 0; i < kEach; ++i) {
        kept[i] = lane + i * kWarp < args.samples ? l[lane + i * kWarp] : -INFINITY;
      }
      DGM_UNROLL
      for (int i = 0; i < kEach; ++i) see(kept[i]);
    } else {
      for (int64_t s = lane; s < args.samples; s += kWarp) see(l[s]);
    }
    max = cuda::warp_max(max);
    good = __all_sync(kAllLanes, good) != 0;
    const bool none = !good || max == -INFINITY;
    float sum = 0.0f;
    float squares = 0.0f;
    const auto weigh = [&](float value) {
      const float e = none ? 0.0f : expf(value - max);
      sum += e;
      squares = fmaf(e, e, squares);
      return e;
    };
    if constexpr (kInRegisters) {
      DGM_UNROLL
      for (int i = 0; i < kEach; ++i) kept[i] = weigh(kept[i]);
    } else {
      for (int64_t s = lane; s < args.samples; s += kWarp) weigh(l[s]);
    }
    sum = cuda::warp_sum(sum);
    squares = cuda::warp_sum(squares);
    const float inverse = good ? (none ? 0.0f : 1.0f / sum) : NAN;
    if constexpr (kInRegisters) {
      DGM_UNROLL
      for (int i = 0; i < kEach; ++i) {
        if (lane + i * kWarp < args.samples) w[lane + i * kWarp] = kept[i] * inverse;
      }
    } else {
      for (int64_t s = lane; s < args.samples; s += kWarp) w[s] = none ? inverse : expf(l[s] - max) * inverse;
    }
    if (lane == 0) {
      args.log_mean[b] = good ? (none ? -INFINITY : max + logf(sum / static_cast<float>(args.samples))) : NAN;
      args.ess[b] = good ? (none ? 0.0f : sum * sum / squares) : NAN;
    }
  }
}

__global__ void __launch_bounds__(kThreads) gradient_kernel(ImportanceWeightsBackward args) {
  const int lane = lane_index();
  for (int64_t b = first_row(); b < args.rows; b += int64_t{gridDim.x} * kWarps) {
    const int64_t row = b * args.samples;
    float mean = 0.0f;
    if (args.g_weights != nullptr) {
      for (int64_t s = lane; s < args.samples; s += kWarp) {
        mean = fmaf(args.weights[row + s], args.g_weights[row + s], mean);
      }
      mean = cuda::warp_sum(mean);
    }
    for (int64_t s = lane; s < args.samples; s += kWarp) {
      const float g = args.g_weights != nullptr ? args.g_weights[row + s] - mean : args.g_log_mean[b];
      args.gradient[row + s] = args.weights[row + s] * g;
    }
  }
}

__device__ double mean_log(const double* x, int64_t n, double theta) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(log1pf(static_cast<float>(-theta * x[i])));
  return sum / static_cast<double>(n);
}

// padded: the power of two from `samples` on.
__global__ void __launch_bounds__(kThreads) shape_kernel(ParetoShape args, int64_t padded, int64_t tail) {
  SharedMemory smem;
  float* const sorted = smem.take<float>(static_cast<std::size_t>(padded));
  double* const x = smem.take<double>(static_cast<std::size_t>(tail));
  double* const thetas = smem.take<double>(kThreads);
  double* const likelihoods = smem.take<double>(kThreads);
  int* const good = smem.take<int>(1);
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t b = blockIdx.x; b < args.rows; b += gridDim.x) {
    if (thread == 0) *good = 1;
    __syncthreads();
    for (int64_t s = thread; s < padded; s += kThreads) {
      const float value = s < args.samples ? args.log_weights[b * args.samples + s] : -INFINITY;
      if (!(value < INFINITY)) atomicAnd(good, 0);
      sorted[s] = value;
    }
    __syncthreads();
    const bool is_good = *good != 0;
    // Bitonic, ascending; a NaN would only leave a row unsorted that is not used.
    for (int64_t size = 2; size <= padded; size *= 2) {
      for (int64_t step = size / 2; step > 0; step /= 2) {
        for (int64_t i = thread; i < padded; i += kThreads) {
          const int64_t other = i ^ step;
          if (other > i) {
            const float low = sorted[i];
            const float high = sorted[other];
            if ((low > high) == ((i & size) == 0)) {
              sorted[i] = high;
              sorted[other] = low;
            }
          }
        }
        __syncthreads();
      }
    }
    const double largest = sorted[padded - 1];
    const double cutoff = exp(sorted[padded - tail - 1] - largest);
    for (int64_t i = thread; i < tail; i += kThreads) x[i] = exp(sorted[padded - tail + i] - largest) - cutoff;
    __syncthreads();
    const double quartile = x[static_cast<int64_t>(floor(static_cast<double>(tail) / 4 + 0.5)) - 1];
    const bool fits = is_good && quartile > 0;
    const int grid = pareto_grid(tail);
    if (fits && thread < grid) {
      thetas[thread] = pareto_theta(thread, grid, quartile, x[tail - 1]);
      likelihoods[thread] = pareto_log_likelihood(tail, thetas[thread], mean_log(x, tail, thetas[thread]));
    }
    __syncthreads();
    if (thread == 0) {
      float result = is_good ? INFINITY : NAN;
      if (fits) {
        double best = -INFINITY;
        for (int j = 0; j < grid; ++j) best = fmax(best, likelihoods[j]);
        double weight = 0;
        double theta = 0;
        for (int j = 0; j < grid; ++j) {
          const double w = exp(likelihoods[j] - best);
          weight += w;
          theta += w * thetas[j];
        }
        result = static_cast<float>(pareto_with_prior(tail, mean_log(x, tail, theta / weight)));
      }
      args.shape[b] = result;
    }
    __syncthreads();  // the next row's samples go to the same place
  }
}

__global__ void __launch_bounds__(kThreads) gain_kernel(LeaveOneOutGain args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < args.rows * args.samples; at += stride) {
    const int64_t row = at / args.samples * args.samples;
    args.gain[at] = leave_one_out_gain_of(args.log_weights + row, args.samples, at - row);
  }
}

// Rows too short for a fit.
__global__ void __launch_bounds__(kThreads) no_shape_kernel(ParetoShape args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t b = int64_t{blockIdx.x} * kThreads + threadIdx.x; b < args.rows; b += stride) {
    bool good = true;
    for (int64_t s = 0; s < args.samples; ++s) good = good && args.log_weights[b * args.samples + s] < INFINITY;
    args.shape[b] = good ? INFINITY : NAN;
  }
}

}  // namespace

void run_cuda(const ImportanceWeightsForward& args, void* stream) {
  if (args.rows == 0) return;
  const auto kernel = args.samples <= kEach * kWarp ? weigh_kernel<true> : weigh_kernel<false>;
  cuda::launch(kernel, cuda::blocks_for(args.rows, kWarps, INT32_MAX), kThreads, 0, stream, args);
}

void run_cuda(const ImportanceWeightsBackward& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(gradient_kernel, cuda::blocks_for(args.rows, kWarps, INT32_MAX), kThreads, 0, stream, args);
}

void run_cuda(const LeaveOneOutGain& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(gain_kernel, cuda::blocks_for(args.rows * args.samples, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const ParetoShape& args, void* stream) {
  if (args.rows == 0) return;
  const int64_t tail = args.tail();
  if (tail < ParetoShape::kFewestTail || args.samples <= tail) {
    cuda::launch(no_shape_kernel, cuda::blocks_for(args.rows, kThreads), kThreads, 0, stream, args);
    return;
  }
  int64_t padded = 1;
  while (padded < args.samples) padded *= 2;
  const std::size_t shared = SharedMemory::bytes<float>(static_cast<std::size_t>(padded)) +
                             SharedMemory::bytes<double>(static_cast<std::size_t>(tail)) +
                             2 * SharedMemory::bytes<double>(kThreads) + SharedMemory::bytes<int>(1);
  cuda::launch(shape_kernel, cuda::blocks_for(args.rows, 1), kThreads, shared, stream, args, padded, tail);
}

}  // namespace dgm::kernels
