// SPDX-License-Identifier: Apache-2.0
// Diagonal Gaussian mixtures, plainly: in double, one thread a row, and one thread for each sum over rows.
//
// Mapping    one thread a row, a component or an element; threads stride over the rest.
// Algorithm  log joints are computed again wherever they are needed: twice a row for a log marginal,
//            twice a row for every responsibility.
// Traffic    of no interest: bound by latency and by double arithmetic.
// Order      one thread adds one sum: fixed.
#include "kernels/diagonal_mixture.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"

#include <math.h>

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 128;
constexpr double kHalfLogTwoPi = 0.91893853320467274178;

__device__ int64_t first_item() { return int64_t{blockIdx.x} * blockDim.x + threadIdx.x; }
__device__ int64_t item_stride() { return int64_t{gridDim.x} * blockDim.x; }

__device__ double log_norm(const DiagonalMixture& m) {
  double max = -INFINITY;
  for (int64_t k = 0; k < m.components; ++k) max = m.logits[k] > max || isnan(m.logits[k]) ? m.logits[k] : max;
  double sum = 0;
  for (int64_t k = 0; k < m.components; ++k) sum += exp(m.logits[k] - max);
  return max == -INFINITY ? 0.0 : max + log(sum);
}

__device__ double residual(const DiagonalMixture& m, int64_t k, int64_t d, const float* x) {
  return (double{x[d]} - m.mean[k * m.dims + d]) * exp(-double{m.log_scale[k * m.dims + d]});
}

__device__ double log_joint(const DiagonalMixture& m, double norm, int64_t k, const float* x) {
  if (m.logits[k] == -INFINITY) return -INFINITY;
  double sum = m.logits[k] - norm;
  for (int64_t d = 0; d < m.dims; ++d) {
    const double t = residual(m, k, d, x);
    sum -= m.log_scale[k * m.dims + d] + kHalfLogTwoPi + 0.5 * t * t;
  }
  return sum;
}

__device__ double log_marginal(const DiagonalMixture& m, double norm, const float* x) {
  bool infinite = false;
  for (int64_t d = 0; d < m.dims; ++d) {
    if (isnan(x[d])) return NAN;
    infinite = infinite || isinf(x[d]);
  }
  double max = -INFINITY;
  double sum = 0;
  for (int64_t k = 0; k < m.components && !infinite; ++k) {
    const double joint = log_joint(m, norm, k, x);
    if (isnan(joint)) return joint;
    if (joint == -INFINITY) continue;
    sum = joint > max ? sum * exp(max - joint) + 1.0 : sum + exp(joint - max);
    max = joint > max ? joint : max;
  }
  const double y = sum == 0 ? -INFINITY : max + log(sum);
  return static_cast<float>(y) == -INFINITY ? -INFINITY : y;
}

__device__ double posterior(const DiagonalMixture& m, double norm, int64_t k, const float* x, double y) {
  return y == -INFINITY || m.logits[k] == -INFINITY ? 0.0 : exp(log_joint(m, norm, k, x) - y);
}

__device__ double weight(const float* weights, int64_t n) { return weights != nullptr ? weights[n] : 1.0f; }

__global__ void marginal_kernel(DiagonalMixture m, const float* x, int64_t rows, float* y) {
  const double norm = log_norm(m);
  for (int64_t n = first_item(); n < rows; n += item_stride()) {
    y[n] = static_cast<float>(log_marginal(m, norm, x + n * m.dims));
  }
}

__global__ void total_kernel(const float* y, const float* weights, int64_t rows, float* total) {
  double sum = 0;
  for (int64_t n = 0; n < rows; ++n) {
    if (weight(weights, n) != 0.0) sum += weight(weights, n) * y[n];
  }
  *total = static_cast<float>(sum);
}

__global__ void statistics_kernel(DiagonalMixtureStatistics a, const float* y) {
  const DiagonalMixture& m = a.mixture;
  const double norm = log_norm(m);
  for (int64_t i = first_item(); i < m.components * m.dims; i += item_stride()) {
    const int64_t k = i / m.dims;
    double s0 = 0, s1 = 0, s2 = 0;
    for (int64_t n = 0; n < a.rows; ++n) {
      if (weight(a.weights, n) == 0.0) continue;
      const double r = weight(a.weights, n) * posterior(m, norm, k, a.x + n * m.dims, y[n]);
      if (r == 0.0) continue;
      const double t = residual(m, k, i % m.dims, a.x + n * m.dims);
      s0 += r;
      s1 += r * t;
      s2 += r * t * t;
    }
    if (i % m.dims == 0) a.s0[k] = s0;
    a.s1[i] = s1;
    a.s2[i] = s2;
  }
  for (int64_t i = first_item(); a.dx != nullptr && i < a.rows * m.dims; i += item_stride()) {
    const int64_t n = i / m.dims;
    double sum = 0;
    for (int64_t k = 0; k < m.components && weight(a.weights, n) != 0.0; ++k) {
      const double r = posterior(m, norm, k, a.x + n * m.dims, y[n]);
      if (r == 0.0) continue;
      sum -= r * residual(m, k, i % m.dims, a.x + n * m.dims) * exp(-double{m.log_scale[k * m.dims + i % m.dims]});
    }
    a.dx[i] = static_cast<float>(weight(a.weights, n) * sum);
  }
}

__global__ void gradients_kernel(DiagonalMixtureGradients a) {
  const DiagonalMixture& m = a.mixture;
  const double upstream = a.upstream != nullptr ? *a.upstream : 1.0f;
  const double norm = log_norm(m);
  double sum = 0;
  for (int64_t k = 0; k < m.components; ++k) sum += a.s0[k];
  for (int64_t i = first_item(); i < m.components * m.dims; i += item_stride()) {
    const int64_t k = i / m.dims;
    if (a.d_logits != nullptr && i % m.dims == 0) {
      a.d_logits[k] = static_cast<float>(upstream * (a.s0[k] - exp(m.logits[k] - norm) * sum));
    }
    if (a.d_mean != nullptr) {
      a.d_mean[i] = a.s1[i] == 0.0 ? 0.0f : static_cast<float>(upstream * a.s1[i] * exp(-double{m.log_scale[i]}));
    }
    if (a.d_log_scale != nullptr) a.d_log_scale[i] = static_cast<float>(upstream * (a.s2[i] - a.s0[k]));
  }
}

__global__ void responsibilities_kernel(DiagonalMixtureResponsibilities a) {
  const DiagonalMixture& m = a.mixture;
  const double norm = log_norm(m);
  for (int64_t n = first_item(); n < a.rows; n += item_stride()) {
    const double y = log_marginal(m, norm, a.x + n * m.dims);
    for (int64_t k = 0; k < m.components; ++k) {
      a.r[n * m.components + k] = static_cast<float>(posterior(m, norm, k, a.x + n * m.dims, y) + (isnan(y) ? y : 0));
    }
  }
}

__global__ void sample_kernel(DiagonalMixturePosteriorSample a) {
  const DiagonalMixture& m = a.mixture;
  const double norm = log_norm(m);
  for (int64_t n = first_item(); n < a.rows; n += item_stride()) {
    const float* const x = a.x + n * m.dims;
    const double y = log_marginal(m, norm, x);
    if (a.y != nullptr) a.y[n] = static_cast<float>(y);
    double total = 0;
    for (int64_t k = 0; k < m.components; ++k) total += posterior(m, norm, k, x, y);
    for (int64_t s = 0; s < a.samples; ++s) {
      const PhiloxWords words =
          cuda::draw_words(a.draws.seed, {a.draws.site, static_cast<uint64_t>(a.data != nullptr ? a.data[n] : n),
                                          static_cast<uint64_t>(*a.draws.step), static_cast<uint32_t>(s / 4)});
      const double target = double{uniform_from_word(words.w[s % 4])} * total;
      int32_t z = -1;
      double sum = 0;
      for (int64_t k = 0; k < m.components && z < 0 && total > 0; ++k) {
        sum += posterior(m, norm, k, x, y);
        if (sum >= target) z = static_cast<int32_t>(k);
      }
      a.z[n * a.samples + s] = z;
    }
  }
}

__global__ void joint_kernel(DiagonalMixtureJoint a) {
  const DiagonalMixture& m = a.mixture;
  const double norm = log_norm(m);
  for (int64_t i = first_item(); i < a.rows * a.samples; i += item_stride()) {
    const int32_t k = a.z[i];
    a.y[i] = k < 0 || k >= m.components ? NAN : static_cast<float>(log_joint(m, norm, k, a.x + i / a.samples * m.dims));
  }
}

__device__ bool contributes(const DiagonalMixtureJointStatistics& a, int64_t i) {
  const int32_t k = a.z[i];
  return a.g[i] != 0.0f && k >= 0 && k < a.mixture.components && a.mixture.logits[k] != -INFINITY;
}

__global__ void joint_statistics_kernel(DiagonalMixtureJointStatistics a) {
  const DiagonalMixture& m = a.mixture;
  for (int64_t i = first_item(); i < m.components * m.dims; i += item_stride()) {
    double s0 = 0, s1 = 0, s2 = 0;
    for (int64_t j = 0; j < a.rows * a.samples; ++j) {
      if (a.z[j] != i / m.dims || !contributes(a, j)) continue;
      const double t = residual(m, i / m.dims, i % m.dims, a.x + j / a.samples * m.dims);
      s0 += a.g[j];
      s1 += a.g[j] * t;
      s2 += a.g[j] * t * t;
    }
    if (i % m.dims == 0) a.s0[i / m.dims] = s0;
    a.s1[i] = s1;
    a.s2[i] = s2;
  }
  for (int64_t i = first_item(); a.dx != nullptr && i < a.rows * m.dims; i += item_stride()) {
    const int64_t n = i / m.dims;
    double sum = 0;
    for (int64_t j = n * a.samples; j < (n + 1) * a.samples; ++j) {
      if (!contributes(a, j)) continue;
      sum -= a.g[j] * residual(m, a.z[j], i % m.dims, a.x + n * m.dims) *
             exp(-double{m.log_scale[a.z[j] * m.dims + i % m.dims]});
    }
    a.dx[i] = static_cast<float>(sum);
  }
}

__global__ void ancestral_kernel(DiagonalMixtureAncestral a) {
  const DiagonalMixture& m = a.mixture;
  const double norm = log_norm(m);
  double total = 0;
  for (int64_t k = 0; k < m.components; ++k) total += exp(m.logits[k] - norm);
  for (int64_t n = first_item(); n < a.rows; n += item_stride()) {
    DrawIndex index = {a.draws.site, static_cast<uint64_t>(n), static_cast<uint64_t>(*a.draws.step), 0};
    const double target = double{uniform_from_word(cuda::draw_words(a.draws.seed, index).w[0])} * total;
    int32_t z = -1;
    double sum = 0;
    for (int64_t k = 0; k < m.components && z < 0 && total > 0; ++k) {
      sum += exp(m.logits[k] - norm);
      if (sum >= target) z = static_cast<int32_t>(k);
    }
    a.z[n] = z;
    for (int64_t d = 0; d < m.dims; ++d) {
      index.block = static_cast<uint32_t>(1 + d / 4);
      const PhiloxWords words = cuda::draw_words(a.draws.seed, index);
      const NormalPair normals = normals_from_words(words.w[d % 4 / 2 * 2], words.w[d % 4 / 2 * 2 + 1]);
      const float normal = d % 2 == 0 ? normals.first : normals.second;
      a.x[n * m.dims + d] = z < 0 ? NAN : m.mean[z * m.dims + d] + expf(m.log_scale[z * m.dims + d]) * normal;
    }
  }
}

unsigned grid(int64_t items) { return cuda::blocks_for(items > 0 ? items : 1, kThreads); }

}  // namespace

std::size_t cuda_scratch_bytes(const DiagonalMixtureMarginal& args) {
  return static_cast<std::size_t>(args.rows) * sizeof(float);
}
void run_cuda(const DiagonalMixtureMarginal& args, void* stream) {
  float* const y = args.y != nullptr ? args.y : static_cast<float*>(args.scratch);
  cuda::launch(marginal_kernel, grid(args.rows), kThreads, 0, stream, args.mixture, args.x, args.rows, y);
  if (args.total != nullptr) cuda::launch(total_kernel, 1, 1, 0, stream, y, args.weights, args.rows, args.total);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureStatistics& args) {
  return static_cast<std::size_t>(args.rows) * sizeof(float);
}
void run_cuda(const DiagonalMixtureStatistics& args, void* stream) {
  float* const y = args.y != nullptr ? args.y : static_cast<float*>(args.scratch);
  cuda::launch(marginal_kernel, grid(args.rows), kThreads, 0, stream, args.mixture, args.x, args.rows, y);
  if (args.total != nullptr) cuda::launch(total_kernel, 1, 1, 0, stream, y, args.weights, args.rows, args.total);
  const int64_t sums = args.mixture.components * args.mixture.dims;
  cuda::launch(statistics_kernel, grid(sums > args.rows ? sums : args.rows), kThreads, 0, stream, args, y);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureGradients&) { return 0; }
void run_cuda(const DiagonalMixtureGradients& args, void* stream) {
  cuda::launch(gradients_kernel, grid(args.mixture.components * args.mixture.dims), kThreads, 0, stream, args);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureResponsibilities&) { return 0; }
void run_cuda(const DiagonalMixtureResponsibilities& args, void* stream) {
  cuda::launch(responsibilities_kernel, grid(args.rows), kThreads, 0, stream, args);
}

std::size_t cuda_scratch_bytes(const DiagonalMixturePosteriorSample&) { return 0; }
void run_cuda(const DiagonalMixturePosteriorSample& args, void* stream) {
  cuda::launch(sample_kernel, grid(args.rows), kThreads, 0, stream, args);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureJoint&) { return 0; }
void run_cuda(const DiagonalMixtureJoint& args, void* stream) {
  cuda::launch(joint_kernel, grid(args.rows), kThreads, 0, stream, args);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureJointStatistics&) { return 0; }
void run_cuda(const DiagonalMixtureJointStatistics& args, void* stream) {
  cuda::launch(joint_statistics_kernel, grid(args.mixture.components * args.mixture.dims), kThreads, 0, stream, args);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureAncestral&) { return 0; }
void run_cuda(const DiagonalMixtureAncestral& args, void* stream) {
  cuda::launch(ancestral_kernel, grid(args.rows), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
