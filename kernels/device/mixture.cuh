// SPDX-License-Identifier: Apache-2.0
// What the mixture kernels share: exponentials and log-sums in base 2, reductions, scratch memory.
#pragma once

#include "kernels/device/fast_math.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"
#include "kernels/device/warp.cuh"
#include "kernels/draws.hpp"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace dgm::cuda {

inline constexpr double kHalfLog2Pi = 0.91893853320467274178;
/// Where a running maximum starts. Finite, so that a difference of two of them is never inf - inf.
inline constexpr float kLowest = -3e38f;

/// sum of 2^term = sum * 2^max. A NaN term is in sum only: max stays a number.
struct Peak {
  float max = kLowest;
  float sum = 0.0f;

  /// Natural logarithm of the sum; -inf for none.
  __device__ float log() const { return fmaf(max, kLn2, logf(sum)); }
};

__device__ __forceinline__ Peak merge(Peak a, Peak b) {
  const float max = fmaxf(a.max, b.max);
  return {max, fmaf(a.sum, exp2_fast(a.max - max), b.sum * exp2_fast(b.max - max))};
}

/// Merges eight peaks over each group of eight consecutive lanes; lane l is left with peak l % 8.
/// Halving what travels at each step costs 7 merges instead of the 24 of eight butterflies.
__device__ __forceinline__ Peak merge_eight(const float (&max)[8], const float (&sum)[8], int lane) {
  Peak peak[8];
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) peak[i] = {max[i], sum[i]};
  DGM_UNROLL
  for (int half = 4; half > 0; half /= 2) {
    const bool upper = (lane & half) != 0;
    DGM_UNROLL
    for (int i = 0; i < half; ++i) {
      const Peak mine = upper ? peak[i + half] : peak[i];
      const Peak yours = upper ? peak[i] : peak[i + half];
      peak[i] = merge(mine, {__shfl_xor_sync(kAllLanes, yours.max, half), __shfl_xor_sync(kAllLanes, yours.sum, half)});
    }
  }
  return peak[0];
}

/// Sum over the block, in the same order in every thread. `room` holds a double a warp; all threads
/// must call, and room may be used again after the call.
__device__ inline double block_sum(double value, double* room) {
  value = warp_sum(value);
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = value;
  __syncthreads();
  double sum = 0;
  for (unsigned w = 0; w < blockDim.x / kWarp; ++w) sum += room[w];
  __syncthreads();
  return sum;
}

__device__ inline float block_max(float value, float* room) {
  value = warp_max(value);
  if (threadIdx.x % kWarp == 0) room[threadIdx.x / kWarp] = value;
  __syncthreads();
  float max = room[0];
  for (unsigned w = 1; w < blockDim.x / kWarp; ++w) max = fmaxf(max, room[w]);
  __syncthreads();
  return max;
}

/// log sum exp of the mixing logits, by the whole block. -inf where all are; NaN where one is.
__device__ inline double block_log_normaliser(const float* logits, int64_t components, double* room) {
  float max = -INFINITY;
  for (int64_t k = threadIdx.x; k < components; k += blockDim.x) max = fmaxf(max, logits[k]);
  max = block_max(max, reinterpret_cast<float*>(room));
  if (max == -INFINITY) max = 0.0f;  // all -inf, or NaN: the sum tells them apart
  double sum = 0;
  for (int64_t k = threadIdx.x; k < components; k += blockDim.x) sum += static_cast<double>(expf(logits[k] - max));
  sum = block_sum(sum, room);
  return static_cast<double>(max) + log(sum);
}

// ---------------------------------------------------------------- draws

/// Uniform number `index` of a datum: word index % 4 of block index / 4.
__device__ inline float draw_uniform(const kernels::DrawArgs& draws, uint64_t datum, int64_t index) {
  const PhiloxWords words =
      draw_words(draws.seed, {draws.site, datum, static_cast<uint64_t>(*draws.step), static_cast<uint32_t>(index / 4)});
  // No indexing: that would put the words into memory.
  const uint32_t low = index % 2 == 0 ? words.w[0] : words.w[1];
  const uint32_t high = index % 2 == 0 ? words.w[2] : words.w[3];
  return uniform_from_word(index % 4 < 2 ? low : high);
}

/// The four normals of one block of a datum's words.
__device__ inline void draw_normals(const kernels::DrawArgs& draws, uint64_t datum, uint32_t block,
                                    float (&normals)[4]) {
  const PhiloxWords words = draw_words(draws.seed, {draws.site, datum, static_cast<uint64_t>(*draws.step), block});
  const NormalPair a = normals_from_words(words.w[0], words.w[1]);
  const NormalPair b = normals_from_words(words.w[2], words.w[3]);
  normals[0] = a.first;
  normals[1] = a.second;
  normals[2] = b.first;
  normals[3] = b.second;
}

/// Draws from an unnormalised distribution by a warp that is given its masses 32 at a time: lane s
/// looks for the first index whose cumulative sum reaches the target of sample s.
class Inversion {
 public:
  __device__ Inversion(float target, bool active) : target_(target), found_(!active) {}
  /// Whether any lane still needs masses; by the whole warp.
  __device__ bool searching() const { return !__all_sync(kAllLanes, found_); }
  /// Lane l gives the mass of index base + l; samples of lanes 0..count-1.
  __device__ void add(float mass, int64_t base, int count) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
    float running = mass;
    DGM_UNROLL
    for (int shift = 1; shift < kWarp; shift *= 2) {
      const float other = __shfl_up_sync(kAllLanes, running, static_cast<unsigned>(shift));
      if (lane >= shift) running += other;
    }
    running += below_;
    const unsigned positive = __ballot_sync(kAllLanes, mass > 0.0f);
    for (int s = 0; s < count; ++s) {
      const float wanted = __shfl_sync(kAllLanes, target_, s);
      const unsigned reached = __ballot_sync(kAllLanes, running >= wanted) & positive;
      if (lane != s || found_) continue;
      if (reached != 0) {
        index_ = base + __ffs(static_cast<int>(reached)) - 1;
        found_ = true;
      } else if (positive != 0) {
        index_ = base + 31 - __clz(static_cast<int>(positive));  // stands if rounding keeps the target out of reach
      }
    }
    below_ = __shfl_sync(kAllLanes, running, kWarp - 1);
  }
  /// -1 if there was nothing to draw from.
  __device__ int32_t index() const { return static_cast<int32_t>(index_); }

 private:
  float target_;
  float below_ = 0.0f;
  int64_t index_ = -1;
  bool found_;
};

// ---------------------------------------------------------------- kernels of one block

inline constexpr int kTotalThreads = 256;
inline constexpr std::size_t kTotalBytes = SharedMemory::bytes<double>(kTotalThreads / kWarp);
inline constexpr std::size_t kCumulativeBytes = kTotalBytes + SharedMemory::bytes<double>(kTotalThreads);

/// *total = *exact_total = sum of totals; either may be null.
[[maybe_unused]] static __global__ void __launch_bounds__(kTotalThreads)
    total_kernel(const double* totals, int count, float* total, double* exact_total) {
  SharedMemory smem;
  double* const room = smem.take<double>(kTotalThreads / kWarp);
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < count; i += kTotalThreads) sum += totals[i];
  sum = block_sum(sum, room);
  if (threadIdx.x == 0 && total != nullptr) *total = static_cast<float>(sum);
  if (threadIdx.x == 0 && exact_total != nullptr) *exact_total = sum;
}

/// d_logits = upstream (s0 - softmax(logits) sum s0).
[[maybe_unused]] static __global__ void __launch_bounds__(kTotalThreads)
    logit_gradient_kernel(const float* logits, const double* s0, int64_t components, const float* upstream,
                          float* d_logits) {
  SharedMemory smem;
  double* const room = smem.take<double>(kTotalThreads / kWarp);
  const double log_norm = block_log_normaliser(logits, components, room);
  double sum = 0;
  for (int64_t k = threadIdx.x; k < components; k += kTotalThreads) sum += s0[k];
  sum = block_sum(sum, room);
  const double factor = upstream == nullptr ? 1.0 : static_cast<double>(*upstream);
  for (int64_t k = threadIdx.x; k < components; k += kTotalThreads) {
    // Of no weight first: the normaliser may be -inf too.
    const double prior = logits[k] == -INFINITY ? 0.0 : exp(static_cast<double>(logits[k]) - log_norm);
    d_logits[k] = static_cast<float>(factor * (s0[k] - prior * sum));
  }
}

/// cumulative[k] = sum_{i <= k} exp(logits[i] - max).
[[maybe_unused]] static __global__ void __launch_bounds__(kTotalThreads)
    cumulative_kernel(const float* logits, int64_t components, double* cumulative) {
  SharedMemory smem;
  double* const room = smem.take<double>(kTotalThreads / kWarp);
  double* const sums = smem.take<double>(kTotalThreads);
  float max = -INFINITY;
  for (int64_t k = threadIdx.x; k < components; k += kTotalThreads) max = fmaxf(max, logits[k]);
  max = block_max(max, reinterpret_cast<float*>(room));
  if (max == -INFINITY) max = 0.0f;
  const int64_t share = (components + kTotalThreads - 1) / kTotalThreads;
  const int64_t begin = threadIdx.x * share;
  const int64_t end = begin + share < components ? begin + share : components;
  double sum = 0;
  for (int64_t k = begin; k < end; ++k) sum += static_cast<double>(expf(logits[k] - max));
  sums[threadIdx.x] = sum;
  __syncthreads();
  sum = 0;
  for (unsigned i = 0; i < threadIdx.x; ++i) sum += sums[i];
  for (int64_t k = begin; k < end; ++k) {
    sum += static_cast<double>(expf(logits[k] - max));
    cumulative[k] = sum;
  }
}

/// The first index whose cumulative sum reaches uniform * total; -1 if there is no mass, or NaN.
__device__ inline int64_t invert(const double* cumulative, int64_t components, float uniform) {
  const double total = cumulative[components - 1];
  if (!(total > 0) || total == static_cast<double>(INFINITY)) return -1;
  const double target = static_cast<double>(uniform) * total;
  int64_t low = 0;
  int64_t high = components - 1;
  while (low < high) {
    const int64_t middle = (low + high) / 2;
    if (cumulative[middle] >= target) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

// ---------------------------------------------------------------- scratch

/// Parts of a launch's scratch memory, each 256-byte aligned; with base null only the size counts.
class Carver {
 public:
  explicit Carver(void* base) : base_(static_cast<unsigned char*>(base)) {}
  template <class T>
  T* take(int64_t count) {
    T* const part = base_ == nullptr ? nullptr : reinterpret_cast<T*>(base_ + bytes_);
    bytes_ += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    return part;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  unsigned char* base_;
  std::size_t bytes_ = 0;
};

}  // namespace dgm::cuda
