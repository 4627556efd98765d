// SPDX-License-Identifier: Apache-2.0
// The full-covariance mixture, plainly: a first version that is right, and a measure for faster ones.
//
// Mapping    what is per row: one thread a row; sums over rows: one thread a component.
// Algorithm  forward substitution in double for each row and component, in D doubles of scratch a thread.
// Traffic    factor is read N times from cache, scratch D^2 times: latency-bound, far from any ceiling.
// Order      by rows within a component, by components within a row: equal bits on one device.
#include "kernels/full_mixture.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"
#include "kernels/math/log_sum.hpp"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 64;
constexpr int64_t kBlocks = 128;

// What one thread works with: D doubles of the scratch, and the weights' normaliser.
struct Worker {
  const FullMixture& m;
  double* t;
  float log_norm;
  int64_t number;
  int64_t stride;

  __device__ Worker(const FullMixture& mixture, void* scratch) : m(mixture) {
    number = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
    stride = int64_t{gridDim.x} * blockDim.x;
    t = static_cast<double*>(scratch) + number * m.dims;
    LogSum sum;
    for (int64_t k = 0; k < m.components; ++k) sum = add(sum, m.logits[k]);
    log_norm = sum.log();
  }

  // t = L_k^-1 (x - mean_k); returns log p(x, k). A component of no weight gives -inf and no t.
  __device__ float whiten(const float* x, int64_t k) const {
    if (m.logits[k] == -INFINITY) return -INFINITY;
    constexpr double kHalfLogTwoPi = 0.91893853320467274178;
    double sum = static_cast<double>(m.logits[k]) - log_norm - kHalfLogTwoPi * static_cast<double>(m.dims);
    const float* const factor = m.factor + k * m.dims * m.dims;
    for (int64_t i = 0; i < m.dims; ++i) {
      double value = static_cast<double>(x[i]) - m.mean[k * m.dims + i];
      for (int64_t j = 0; j < i; ++j) value -= factor[i * m.dims + j] * t[j];
      const double log_diagonal = factor[i * m.dims + i];
      t[i] = value * exp(-log_diagonal);
      sum -= log_diagonal + 0.5 * t[i] * t[i];
    }
    return static_cast<float>(sum);
  }

  // 0 for a row of numbers, NaN for one with a NaN, else -inf for one with an infinity.
  __device__ float odd(const float* x) const {
    float result = 0.0f;
    for (int64_t i = 0; i < m.dims; ++i) {
      if (isnan(x[i])) return NAN;
      if (isinf(x[i])) result = -INFINITY;
    }
    return result;
  }

  __device__ float log_joint(const float* x, int64_t k) const {
    const float kind = odd(x);
    return kind == 0.0f ? whiten(x, k) : kind;
  }

  __device__ float log_marginal(const float* x) const {
    const float kind = odd(x);
    if (kind != 0.0f) return kind;
    LogSum sum;
    for (int64_t k = 0; k < m.components; ++k) sum = add(sum, whiten(x, k));
    return sum.log();
  }

  // dx -= weight L_k^-T t; t is lost.
  __device__ void pull_back(int64_t k, float weight, float* dx) const {
    const float* const factor = m.factor + k * m.dims * m.dims;
    for (int64_t i = m.dims - 1; i >= 0; --i) {
      double value = t[i];
      for (int64_t j = i + 1; j < m.dims; ++j) value -= factor[j * m.dims + i] * t[j];
      t[i] = value * exp(-static_cast<double>(factor[i * m.dims + i]));
      dx[i] -= weight * static_cast<float>(t[i]);
    }
  }
};

struct ComponentSums {
  double* s0;
  double* s1;
  double* s2;

  __device__ void clear(int64_t k, int64_t dims) const {
    s0[k] = 0;
    for (int64_t i = 0; i < dims; ++i) s1[k * dims + i] = 0;
    for (int64_t i = 0; i < dims * dims; ++i) s2[k * dims * dims + i] = 0;
  }
  __device__ void add_row(int64_t k, int64_t dims, double weight, const double* t) const {
    s0[k] += weight;
    for (int64_t i = 0; i < dims; ++i) {
      s1[k * dims + i] += weight * t[i];
      for (int64_t j = 0; j <= i; ++j) s2[(k * dims + i) * dims + j] += weight * t[i] * t[j];
    }
  }
};

__device__ float weight_of(const float* weights, int64_t n) { return weights != nullptr ? weights[n] : 1.0f; }

__global__ void __launch_bounds__(kThreads)
    marginal_kernel(FullMixture mixture, const float* x, int64_t rows, float* y, void* scratch) {
  const Worker worker(mixture, scratch);
  for (int64_t n = worker.number; n < rows; n += worker.stride) y[n] = worker.log_marginal(x + n * mixture.dims);
}

__global__ void total_kernel(const float* y, const float* weights, int64_t rows, float* total) {
  double sum = 0;
  for (int64_t n = 0; n < rows; ++n) {
    const float w = weight_of(weights, n);
    if (w != 0.0f) sum += static_cast<double>(w) * y[n];
  }
  *total = static_cast<float>(sum);
}

__global__ void __launch_bounds__(kThreads) statistics_kernel(FullMixtureStatistics args, const float* y) {
  const Worker worker(args.mixture, args.scratch);
  const int64_t dims = args.mixture.dims;
  const ComponentSums sums = {args.s0, args.s1, args.s2};
  for (int64_t k = worker.number; k < args.mixture.components; k += worker.stride) {
    sums.clear(k, dims);
    for (int64_t n = 0; n < args.rows; ++n) {
      const float w = weight_of(args.weights, n);
      if (w == 0.0f || y[n] == -INFINITY) continue;
      const float* const row = args.x + n * dims;
      const float r = isnan(y[n]) ? NAN : expf(worker.whiten(row, k) - y[n]);
      if (r != 0.0f && args.mixture.logits[k] != -INFINITY) sums.add_row(k, dims, double{w} * r, worker.t);
    }
  }
}

__global__ void __launch_bounds__(kThreads) data_gradient_kernel(FullMixtureStatistics args, const float* y) {
  const Worker worker(args.mixture, args.scratch);
  const int64_t dims = args.mixture.dims;
  for (int64_t n = worker.number; n < args.rows; n += worker.stride) {
    float* const dx = args.dx + n * dims;
    const float w = weight_of(args.weights, n);
    const bool none = w == 0.0f || y[n] == -INFINITY;
    for (int64_t i = 0; i < dims; ++i) dx[i] = isnan(y[n]) && !none ? NAN : 0.0f;
    if (none || isnan(y[n])) continue;
    for (int64_t k = 0; k < args.mixture.components; ++k) {
      const float r = expf(worker.whiten(args.x + n * dims, k) - y[n]);
      if (r != 0.0f) worker.pull_back(k, w * r, dx);
    }
  }
}

__global__ void __launch_bounds__(kThreads) gradients_kernel(FullMixtureGradients args) {
  const Worker worker(args.mixture, args.scratch);
  const int64_t dims = args.mixture.dims;
  const double upstream = args.upstream != nullptr ? *args.upstream : 1.0;
  double total = 0;
  for (int64_t k = 0; k < args.mixture.components; ++k) total += args.s0[k];
  for (int64_t k = worker.number; k < args.mixture.components; k += worker.stride) {
    const float* const factor = args.mixture.factor + k * dims * dims;
    const bool weightless = args.mixture.logits[k] == -INFINITY;
    if (args.d_logits != nullptr) {
      const double pi = weightless ? 0.0 : exp(static_cast<double>(args.mixture.logits[k]) - worker.log_norm);
      args.d_logits[k] = static_cast<float>(upstream * (args.s0[k] - pi * total));
    }
    // Column c of s2 - s0 I, and s1 last, each solved with L^T from the last row up.
    for (int64_t c = 0; c <= dims; ++c) {
      float* const to = c == dims ? args.d_mean : args.d_factor;
      if (to == nullptr) continue;
      for (int64_t i = dims - 1; i >= 0; --i) {
        double value =
            c == dims ? args.s1[k * dims + i] : args.s2[(k * dims + (i > c ? i : c)) * dims + (i > c ? c : i)];
        if (i == c) value -= args.s0[k];
        for (int64_t j = i + 1; j < dims; ++j) value -= factor[j * dims + i] * worker.t[j];
        const double scale = exp(static_cast<double>(factor[i * dims + i]));
        worker.t[i] = value / scale;
        if (c == dims) {
          to[k * dims + i] = weightless ? 0.0f : static_cast<float>(upstream * worker.t[i]);
        } else {
          const double entry = i < c ? 0.0 : i == c ? value : worker.t[i];
          to[(k * dims + i) * dims + c] = weightless ? 0.0f : static_cast<float>(upstream * entry);
        }
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads) responsibilities_kernel(FullMixtureResponsibilities args) {
  const Worker worker(args.mixture, args.scratch);
  for (int64_t n = worker.number; n < args.rows; n += worker.stride) {
    const float* const x = args.x + n * args.mixture.dims;
    const float y = worker.log_marginal(x);
    for (int64_t k = 0; k < args.mixture.components; ++k) {
      args.r[n * args.mixture.components + k] = isnan(y) ? NAN : y == -INFINITY ? 0.0f : expf(worker.whiten(x, k) - y);
    }
  }
}

__global__ void __launch_bounds__(kThreads) posterior_kernel(FullMixturePosteriorSample args) {
  const Worker worker(args.mixture, args.scratch);
  for (int64_t n = worker.number; n < args.rows; n += worker.stride) {
    const float* const x = args.x + n * args.mixture.dims;
    const float y = worker.log_marginal(x);
    if (args.y != nullptr) args.y[n] = y;
    const bool none = isnan(y) || y == -INFINITY;
    float total = 0.0f;
    for (int64_t k = 0; k < args.mixture.components && !none; ++k) total += expf(worker.whiten(x, k) - y);
    const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
    PhiloxWords words = {};
    for (int64_t s = 0; s < args.samples; ++s) {
      if (s % 4 == 0) {
        words = cuda::draw_words(args.draws.seed, {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step),
                                                   static_cast<uint32_t>(s / 4)});
      }
      const float target = uniform_from_word(words.w[s % 4]) * total;
      float sum = 0.0f;
      int32_t found = -1;
      for (int64_t k = 0; k < args.mixture.components && found < 0 && !none; ++k) {
        sum += expf(worker.whiten(x, k) - y);
        if (sum >= target) found = static_cast<int32_t>(k);
      }
      args.z[n * args.samples + s] = found;
    }
  }
}

__global__ void __launch_bounds__(kThreads) joint_kernel(FullMixtureJoint args) {
  const Worker worker(args.mixture, args.scratch);
  for (int64_t n = worker.number; n < args.rows; n += worker.stride) {
    for (int64_t i = n * args.samples; i < (n + 1) * args.samples; ++i) {
      const int64_t k = args.z[i];
      args.y[i] = 0 <= k && k < args.mixture.components ? worker.log_joint(args.x + n * args.mixture.dims, k) : NAN;
    }
  }
}

__global__ void __launch_bounds__(kThreads) joint_statistics_kernel(FullMixtureJointStatistics args) {
  const Worker worker(args.mixture, args.scratch);
  const int64_t dims = args.mixture.dims;
  const ComponentSums sums = {args.s0, args.s1, args.s2};
  for (int64_t k = worker.number; k < args.mixture.components; k += worker.stride) {
    sums.clear(k, dims);
    for (int64_t i = 0; i < args.rows * args.samples; ++i) {
      if (args.z[i] != k || args.g[i] == 0.0f) continue;
      const float* const x = args.x + i / args.samples * dims;
      const float kind = worker.odd(x);
      const float y = worker.whiten(x, k);
      if (kind == -INFINITY || y == -INFINITY) continue;
      sums.add_row(k, dims, isnan(kind) ? NAN : args.g[i], worker.t);
    }
  }
}

__global__ void __launch_bounds__(kThreads) joint_data_gradient_kernel(FullMixtureJointStatistics args) {
  const Worker worker(args.mixture, args.scratch);
  const int64_t dims = args.mixture.dims;
  for (int64_t n = worker.number; n < args.rows; n += worker.stride) {
    float* const dx = args.dx + n * dims;
    for (int64_t i = 0; i < dims; ++i) dx[i] = 0.0f;
    const float kind = worker.odd(args.x + n * dims);
    for (int64_t i = n * args.samples; i < (n + 1) * args.samples; ++i) {
      const int64_t k = args.z[i];
      if (k < 0 || k >= args.mixture.components || args.g[i] == 0.0f || kind == -INFINITY) continue;
      if (worker.whiten(args.x + n * dims, k) == -INFINITY) continue;
      worker.pull_back(k, isnan(kind) ? NAN : args.g[i], dx);
    }
  }
}

__global__ void __launch_bounds__(kThreads) ancestral_kernel(FullMixtureAncestral args) {
  const Worker worker(args.mixture, args.scratch);
  const FullMixture& m = args.mixture;
  float total = 0.0f;
  for (int64_t k = 0; k < m.components; ++k) {
    if (m.logits[k] != -INFINITY) total += expf(m.logits[k] - worker.log_norm);
  }
  for (int64_t n = worker.number; n < args.rows; n += worker.stride) {
    DrawIndex index = {args.draws.site, static_cast<uint64_t>(n), static_cast<uint64_t>(*args.draws.step), 0};
    const float target = uniform_from_word(cuda::draw_words(args.draws.seed, index).w[0]) * total;
    int32_t z = -1;
    float sum = 0.0f;
    for (int64_t k = 0; k < m.components && z < 0; ++k) {
      if (m.logits[k] != -INFINITY) sum += expf(m.logits[k] - worker.log_norm);
      if (sum >= target && sum > 0.0f) z = static_cast<int32_t>(k);
    }
    args.z[n] = z;
    for (int64_t i = 0; i < m.dims; i += 2) {
      index.block = static_cast<uint32_t>(1 + i / 4);
      const PhiloxWords words = cuda::draw_words(args.draws.seed, index);
      const NormalPair pair =
          i % 4 == 0 ? normals_from_words(words.w[0], words.w[1]) : normals_from_words(words.w[2], words.w[3]);
      worker.t[i] = pair.first;
      if (i + 1 < m.dims) worker.t[i + 1] = pair.second;
    }
    for (int64_t i = 0; i < m.dims; ++i) {
      if (z < 0) {
        args.x[n * m.dims + i] = NAN;
        continue;
      }
      const float* const row = m.factor + (z * m.dims + i) * m.dims;
      double value = m.mean[z * m.dims + i] + exp(static_cast<double>(row[i])) * worker.t[i];
      for (int64_t j = 0; j < i; ++j) value += row[j] * worker.t[j];
      args.x[n * m.dims + i] = static_cast<float>(value);
    }
  }
}

std::size_t scratch_bytes(const FullMixture& mixture) {
  return static_cast<std::size_t>(kBlocks * kThreads * mixture.dims) * sizeof(double);
}

// The log marginals where the caller does not want them.
float* spare_rows(const FullMixture& mixture, void* scratch) {
  return reinterpret_cast<float*>(static_cast<char*>(scratch) + scratch_bytes(mixture));
}

unsigned blocks(int64_t items) { return cuda::blocks_for(items, kThreads, kBlocks); }

}  // namespace

std::size_t cuda_scratch_bytes(const FullMixtureMarginal& args) {
  return scratch_bytes(args.mixture) + static_cast<std::size_t>(args.rows) * sizeof(float);
}
std::size_t cuda_scratch_bytes(const FullMixtureStatistics& args) {
  return scratch_bytes(args.mixture) + static_cast<std::size_t>(args.rows) * sizeof(float);
}
std::size_t cuda_scratch_bytes(const FullMixtureGradients& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixtureResponsibilities& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixturePosteriorSample& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixtureJoint& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixtureJointStatistics& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixtureAncestral& args) { return scratch_bytes(args.mixture); }

void run_cuda(const FullMixtureMarginal& args, void* stream) {
  float* const y = args.y != nullptr ? args.y : spare_rows(args.mixture, args.scratch);
  if (args.rows > 0) {
    cuda::launch(marginal_kernel, blocks(args.rows), kThreads, 0, stream, args.mixture, args.x, args.rows, y,
                 args.scratch);
  }
  if (args.total != nullptr) cuda::launch(total_kernel, 1, 1, 0, stream, y, args.weights, args.rows, args.total);
}

void run_cuda(const FullMixtureStatistics& args, void* stream) {
  const float* y = args.y_given;
  if (y == nullptr) {
    float* const computed = args.y != nullptr ? args.y : spare_rows(args.mixture, args.scratch);
    if (args.rows > 0) {
      cuda::launch(marginal_kernel, blocks(args.rows), kThreads, 0, stream, args.mixture, args.x, args.rows, computed,
                   args.scratch);
    }
    y = computed;
  }
  if (args.total != nullptr) cuda::launch(total_kernel, 1, 1, 0, stream, y, args.weights, args.rows, args.total);
  cuda::launch(statistics_kernel, blocks(args.mixture.components), kThreads, 0, stream, args, y);
  if (args.dx != nullptr && args.rows > 0) {
    cuda::launch(data_gradient_kernel, blocks(args.rows), kThreads, 0, stream, args, y);
  }
}

void run_cuda(const FullMixtureGradients& args, void* stream) {
  cuda::launch(gradients_kernel, blocks(args.mixture.components), kThreads, 0, stream, args);
}

void run_cuda(const FullMixtureResponsibilities& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(responsibilities_kernel, blocks(args.rows), kThreads, 0, stream, args);
}

void run_cuda(const FullMixturePosteriorSample& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(posterior_kernel, blocks(args.rows), kThreads, 0, stream, args);
}

void run_cuda(const FullMixtureJoint& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(joint_kernel, blocks(args.rows), kThreads, 0, stream, args);
}

void run_cuda(const FullMixtureJointStatistics& args, void* stream) {
  cuda::launch(joint_statistics_kernel, blocks(args.mixture.components), kThreads, 0, stream, args);
  if (args.dx != nullptr && args.rows > 0) {
    cuda::launch(joint_data_gradient_kernel, blocks(args.rows), kThreads, 0, stream, args);
  }
}

void run_cuda(const FullMixtureAncestral& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(ancestral_kernel, blocks(args.rows), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
