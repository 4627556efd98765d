// SPDX-License-Identifier: Apache-2.0
// z[b,s] ~ Cat(softmax(logits[b])) by inversion.
//
// Mapping    one warp a row; each group of four draws makes one pass of running sums over the row.
// Algorithm  one pass for the largest logit, one for the total, one a group of draws: 32 weights at a
//            time, a warp scan on top of the sum so far; a lane that crosses a target votes.
// Traffic    reads 4BK bytes once from HBM and (1 + ceil(S/4)) times from cache; writes 4BS.
// Order      fixed by lane and group: equal input gives equal bits on one device.
#include "kernels/categorical_sample.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"
#include "kernels/device/warp.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 128;
constexpr int64_t kRowsPerBlock = kThreads / cuda::kWarp;

// Sum of this lane's value and those of all lanes below.
__device__ float warp_running_sum(float value, int lane) {
  for (int step = 1; step < cuda::kWarp; step *= 2) {
    const float below = __shfl_up_sync(cuda::kAllLanes, value, static_cast<unsigned>(step));
    if (lane >= step) value += below;
  }
  return value;
}

__global__ void __launch_bounds__(kThreads) sample_kernel(CategoricalSample args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kRowsPerBlock;
  for (int64_t b = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / cuda::kWarp; b < args.rows; b += stride) {
    const float* const logits = args.logits + b * args.cols;
    int32_t* const z = args.z + b * args.samples;

    float max = -INFINITY;
    bool finite = true;
    for (int64_t k = lane; k < args.cols; k += cuda::kWarp) {
      finite = finite && logits[k] < INFINITY;
      max = fmaxf(max, logits[k]);
    }
    max = cuda::warp_max(max);
    if (!__all_sync(cuda::kAllLanes, finite) || max == -INFINITY) {
      for (int64_t s = lane; s < args.samples; s += cuda::kWarp) z[s] = -1;
      continue;  // the whole warp: the conditions are the same in every lane
    }

    // The running sum of group j of 32 weights starts where that of group j-1 ended, here as in the
    // passes below: the last running sum is the total, bit for bit.
    float total = 0.0f;
    for (int64_t first = 0; first < args.cols; first += cuda::kWarp) {
      const int64_t k = first + lane;
      const float weight = k < args.cols ? expf(logits[k] - max) : 0.0f;
      total = __shfl_sync(cuda::kAllLanes, total + warp_running_sum(weight, lane), cuda::kWarp - 1);
    }

    const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[b] : b);
    for (int64_t s = 0; s < args.samples; s += 4) {
      const PhiloxWords words = cuda::draw_words(
          args.draws.seed,
          {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step), static_cast<uint32_t>(s / 4)});
      const int wanted = static_cast<int>(args.samples - s < 4 ? args.samples - s : 4);
      int64_t found[4] = {-1, -1, -1, -1};
      float before = 0.0f;
      for (int64_t first = 0; first < args.cols; first += cuda::kWarp) {
        const int64_t k = first + lane;
        const float weight = k < args.cols ? expf(logits[k] - max) : 0.0f;
        const float sum = before + warp_running_sum(weight, lane);
        for (int i = 0; i < 4; ++i) {
          const float target = uniform_from_word(words.w[i]) * total;
          const unsigned reached = __ballot_sync(cuda::kAllLanes, k < args.cols && weight > 0.0f && sum >= target);
          if (found[i] < 0 && reached != 0) found[i] = first + __ffs(static_cast<int>(reached)) - 1;
        }
        before = __shfl_sync(cuda::kAllLanes, sum, cuda::kWarp - 1);
      }
      if (lane < wanted) {
        z[s + lane] = static_cast<int32_t>(lane == 0   ? found[0]
                                           : lane == 1 ? found[1]
                                           : lane == 2 ? found[2]
                                                       : found[3]);
      }
    }
  }
}

}  // namespace

void run_cuda(const CategoricalSample& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(sample_kernel, cuda::blocks_for(args.rows, kRowsPerBlock), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
