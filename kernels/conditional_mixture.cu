// SPDX-License-Identifier: Apache-2.0
// Log marginal of a mixture whose parameters differ by row, its gradients, and draws.
//
// Mapping    a team of G lanes a row, G the power of two from 4 to 32 that covers K: lane l of the team
//            has components l, l + G, ... and their D dimensions. Draws: one thread a row.
// Algorithm  (max, sum) pairs merged over the team by butterfly, once for the weights and once for the
//            joints; one exp for each of the K x D scales. Backward recomputes the joints and weighs by
//            exp(joint - y); d_x is summed from d_mean, each lane reading what it wrote.
// Traffic    forward reads 4K(2D + 1) + 4D bytes a row, writes 4; backward reads as many, and the
//            parameters once more from cache, and writes 4K(2D + 1) + 4D. HBM-bound: the floor is those bytes
//            over the copy rate. Parameters of D > 1 are read with stride D by the team: sectors are
//            used up from the first-level cache.
// Order      fixed by lane: equal input gives equal bits on one device.
#include "kernels/conditional_mixture.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"
#include "kernels/device/warp.cuh"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;
constexpr float kHalfLogTwoPi = 0.918938533f;

template <int G>
__device__ LogSum team_merge(LogSum value) {
  for (int step = G / 2; step > 0; step /= 2) {
    const LogSum other = {__shfl_xor_sync(cuda::kAllLanes, value.max, step),
                          __shfl_xor_sync(cuda::kAllLanes, value.sum, step)};
    value = merge(value, other);
  }
  return value;
}

template <int G>
__device__ float team_sum(float value) {
  for (int step = G / 2; step > 0; step /= 2) value += __shfl_xor_sync(cuda::kAllLanes, value, step);
  return value;
}

// log p(x, k) of row n given log pi_k; -inf for a component of no weight, whatever its parameters are.
__device__ float log_joint(const ConditionalMixture& m, const float* x, int64_t n, int64_t k, float log_weight) {
  if (log_weight == -INFINITY) return -INFINITY;
  const int64_t first = (n * m.components + k) * m.dims;
  float sum = 0.0f;
  for (int64_t d = 0; d < m.dims; ++d) {
    const float log_scale = m.log_scale[first + d];
    const float t = (x[n * m.dims + d] - m.mean[first + d]) * expf(fminf(-log_scale, 88.0f));
    sum += -0.5f * t * t - log_scale;
  }
  return sum + (log_weight - kHalfLogTwoPi * static_cast<float>(m.dims));
}

// log pi_k of row n from the row's log-sum-exp.
__device__ float log_weight(const ConditionalMixture& m, int64_t n, int64_t k, LogSum norm) {
  const float logit = m.logits[n * m.components + k];
  return logit == -INFINITY ? logit : logit - norm.max - logf(norm.sum);
}

// A team's rows are first, first + stride, ...; all lanes of a warp go round together, for they meet in
// shuffles, so a team may come to a row past the end.
template <int G>
struct Team {
  static constexpr int64_t kPerWarp = cuda::kWarp / G;
  static constexpr int64_t kPerBlock = kThreads / G;
  int lane = static_cast<int>(threadIdx.x) % G;
  int64_t first = int64_t{blockIdx.x} * kPerBlock + threadIdx.x / G;
  int64_t stride = int64_t{gridDim.x} * kPerBlock;
  int64_t of_warp = first / kPerWarp * kPerWarp;

  __device__ LogSum norm(const ConditionalMixture& m, int64_t n) const {
    LogSum sum;
    for (int64_t k = lane; k < m.components && n < m.rows; k += G) sum = add(sum, m.logits[n * m.components + k]);
    return team_merge<G>(sum);
  }
};

template <int G>
__global__ void __launch_bounds__(kThreads) marginal_kernel(ConditionalMixtureMarginal args) {
  const ConditionalMixture& m = args.mixture;
  const Team<G> team;
  for (int64_t n = team.first, w = team.of_warp; w < m.rows; n += team.stride, w += team.stride) {
    const LogSum norm = team.norm(m, n);
    LogSum sum;
    for (int64_t k = team.lane; k < m.components && n < m.rows; k += G) {
      sum = add(sum, log_joint(m, args.x, n, k, log_weight(m, n, k, norm)));
    }
    sum = team_merge<G>(sum);
    if (team.lane == 0 && n < m.rows) args.y[n] = sum.log();
  }
}

template <int G>
__global__ void __launch_bounds__(kThreads) backward_kernel(ConditionalMixtureBackward args) {
  const ConditionalMixture& m = args.mixture;
  const Team<G> team;
  for (int64_t n = team.first, w = team.of_warp; w < m.rows; n += team.stride, w += team.stride) {
    const LogSum norm = team.norm(m, n);
    const float g = n < m.rows ? args.g[n] : 0.0f;
    const float y = n < m.rows ? args.y[n] : 0.0f;
    const bool none = g == 0.0f || y == -INFINITY;
    for (int64_t k = team.lane; k < m.components && n < m.rows; k += G) {
      const float weight = none ? -INFINITY : log_weight(m, n, k, norm);
      const float r = none ? 0.0f : expf(log_joint(m, args.x, n, k, weight) - y);
      if (args.d_logits != nullptr) args.d_logits[n * m.components + k] = none ? 0.0f : g * (r - expf(weight));
      const int64_t first = (n * m.components + k) * m.dims;
      const float gr = g * r;
      for (int64_t d = 0; d < m.dims; ++d) {
        float pull = 0.0f;
        float stretch = 0.0f;
        if (!none && gr != 0.0f) {  // t may have overflowed where r is 0
          const float inverse = expf(fminf(-m.log_scale[first + d], 88.0f));
          const float t = (args.x[n * m.dims + d] - m.mean[first + d]) * inverse;
          pull = gr * (t * inverse);
          stretch = gr * (t * t - 1.0f);
        }
        if (args.d_mean != nullptr) args.d_mean[first + d] = pull;
        if (args.d_log_scale != nullptr) args.d_log_scale[first + d] = stretch;
      }
    }
    if (args.d_x == nullptr) continue;
    for (int64_t d = 0; d < m.dims; ++d) {
      float sum = 0.0f;
      for (int64_t k = team.lane; k < m.components && n < m.rows; k += G) {
        sum -= args.d_mean[(n * m.components + k) * m.dims + d];
      }
      sum = team_sum<G>(sum);
      if (team.lane == 0 && n < m.rows) args.d_x[n * m.dims + d] = sum;
    }
  }
}

__device__ LogSum row_norm(const ConditionalMixture& m, int64_t n) {
  LogSum sum;
  for (int64_t k = 0; k < m.components; ++k) sum = add(sum, m.logits[n * m.components + k]);
  return sum;
}

__global__ void __launch_bounds__(kThreads) posterior_kernel(ConditionalMixturePosteriorSample args) {
  const ConditionalMixture& m = args.mixture;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t n = int64_t{blockIdx.x} * kThreads + threadIdx.x; n < m.rows; n += stride) {
    const LogSum norm = row_norm(m, n);
    LogSum marginal;
    for (int64_t k = 0; k < m.components; ++k) {
      marginal = add(marginal, log_joint(m, args.x, n, k, log_weight(m, n, k, norm)));
    }
    const float y = marginal.log();
    const bool none = isnan(y) || isinf(y);
    float total = 0.0f;
    for (int64_t k = 0; k < m.components && !none; ++k) {
      total += expf(log_joint(m, args.x, n, k, log_weight(m, n, k, norm)) - y);
    }
    const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
    for (int64_t s = 0; s < args.samples; s += 4) {
      const PhiloxWords words = cuda::draw_words(
          args.draws.seed,
          {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step), static_cast<uint32_t>(s / 4)});
      int32_t found[4] = {-1, -1, -1, -1};
      float sum = 0.0f;
      for (int64_t k = 0; k < m.components && !none; ++k) {
        sum += expf(log_joint(m, args.x, n, k, log_weight(m, n, k, norm)) - y);
        for (int i = 0; i < 4; ++i) {
          // The target is above zero, so what reaches it first has weight; the last sum is the total.
          if (found[i] < 0 && sum >= uniform_from_word(words.w[i]) * total) found[i] = static_cast<int32_t>(k);
        }
      }
      for (int i = 0; i < 4; ++i) {
        if (s + i < args.samples) args.z[n * args.samples + s + i] = found[i];
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads) ancestral_kernel(ConditionalMixtureAncestral args) {
  const ConditionalMixture& m = args.mixture;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t n = int64_t{blockIdx.x} * kThreads + threadIdx.x; n < m.rows; n += stride) {
    const float* const logits = m.logits + n * m.components;
    const float max = row_norm(m, n).max;
    float total = 0.0f;
    for (int64_t k = 0; k < m.components; ++k) {
      if (logits[k] != -INFINITY) total += expf(logits[k] - max);
    }
    const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
    DrawIndex index = {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step), 0};
    const float target = uniform_from_word(cuda::draw_words(args.draws.seed, index).w[0]) * total;
    int64_t z = -1;
    float sum = 0.0f;
    for (int64_t k = 0; k < m.components && z < 0; ++k) {
      if (logits[k] != -INFINITY) sum += expf(logits[k] - max);
      if (sum > 0.0f && sum >= target) z = k;
    }
    args.z[n] = static_cast<int32_t>(z);
    PhiloxWords words = {};
    for (int64_t d = 0; d < m.dims; ++d) {
      if (d % 4 == 0) {
        index.block = static_cast<uint32_t>(1 + d / 4);
        words = cuda::draw_words(args.draws.seed, index);
      }
      const NormalPair pair =
          d % 4 < 2 ? normals_from_words(words.w[0], words.w[1]) : normals_from_words(words.w[2], words.w[3]);
      const int64_t at = (n * m.components + (z < 0 ? 0 : z)) * m.dims + d;
      const float value = m.mean[at] + expf(m.log_scale[at]) * (d % 2 == 0 ? pair.first : pair.second);
      args.x[n * m.dims + d] = z < 0 ? NAN : value;
    }
  }
}

// Calls body with the width of a team for K components.
template <class Body>
void for_team(int64_t components, const Body& body) {
  if (components <= 4) {
    body(std::integral_constant<int, 4>());
  } else if (components <= 8) {
    body(std::integral_constant<int, 8>());
  } else if (components <= 16) {
    body(std::integral_constant<int, 16>());
  } else {
    body(std::integral_constant<int, 32>());
  }
}

}  // namespace

void run_cuda(const ConditionalMixtureMarginal& args, void* stream) {
  if (args.mixture.rows == 0) return;
  for_team(args.mixture.components, [&](auto width) {
    constexpr int G = width.value;
    cuda::launch(marginal_kernel<G>, cuda::blocks_for(args.mixture.rows, Team<G>::kPerBlock), kThreads, 0, stream,
                 args);
  });
}

void run_cuda(const ConditionalMixtureBackward& args, void* stream) {
  if (args.mixture.rows == 0) return;
  for_team(args.mixture.components, [&](auto width) {
    constexpr int G = width.value;
    cuda::launch(backward_kernel<G>, cuda::blocks_for(args.mixture.rows, Team<G>::kPerBlock), kThreads, 0, stream,
                 args);
  });
}

void run_cuda(const ConditionalMixturePosteriorSample& args, void* stream) {
  if (args.mixture.rows == 0) return;
  cuda::launch(posterior_kernel, cuda::blocks_for(args.mixture.rows, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const ConditionalMixtureAncestral& args, void* stream) {
  if (args.mixture.rows == 0) return;
  cuda::launch(ancestral_kernel, cuda::blocks_for(args.mixture.rows, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
