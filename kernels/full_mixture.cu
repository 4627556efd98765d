// SPDX-License-Identifier: Apache-2.0
// Gaussian mixtures with full covariances: log marginals, statistics, gradients, draws.
//
// Mapping    log marginals: a block of 128 threads for a tile of R rows, 128 / R threads a row, all components
//            in turn. Statistics: a block for each component and share of the rows; the tile's whitened
//            residuals are in shared memory, a thread owns entries of the D x D sums. R is the power of 2
//            at which the tile fits 48 KB: 128 up to D = 39, then less. Sampling, responsibilities, joints and
//            gradients from statistics: one thread a row or component, in double.
// Algorithm  whiten_kernel inverts each L in double; t = L^-1 (x - mean) is then products, D^2 / 2 an (n, k).
//            Two passes: each row's (max, 1 / sum), then the statistics, which compute t again. x - mean is
//            always taken first: of D^2 / 2 + D operations that is D.
// Traffic    L^-1 is read from cache as broadcasts, one load a multiply-add and one of shared memory: bound by
//            loads, at about a sixth of the arithmetic's ceiling. Scratch: 12 D^2 K bytes, 8 a row, and at most
//            64 MB of blocks' sums.
// Order      fixed: a tile's sums in float, in double from there, over tiles and then over blocks.
// Floor      N x K x D = 100k x 64 x 16 takes 3 D^2 / 2 FMA a pair: 74 us on an H200 at 33.5e12 lane
//            instructions/s; expected near 600 us, not measured.
#include "kernels/full_mixture.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/mixture.cuh"
#include "kernels/device/random.cuh"
#include "kernels/math/log_sum.hpp"

#include <algorithm>
#include <cfloat>

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 64;
constexpr int64_t kBlocks = 128;

// ---------------------------------------------------------------- tiles of rows

constexpr int kTileThreads = 128;
constexpr float kHalfLog2E = 0.721347520f;

struct Whitened {
  double* work;     // (K, D, D)
  float* inverse;   // (K, D, D), L^-1
  float* constant;  // (K), log2 of pi_k / ((2 pi)^(D/2) |L_k|); NaN if a parameter is
};

// One block a component, one thread a column of the inverse.
__global__ void __launch_bounds__(kTileThreads, 5) whiten_kernel(FullMixture mixture, Whitened whitened) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kTileThreads / cuda::kWarp);
  const double log_norm = cuda::block_log_normaliser(mixture.logits, mixture.components, room);
  const int64_t dims = mixture.dims;
  for (int64_t k = blockIdx.x; k < mixture.components; k += gridDim.x) {
    const bool live = mixture.logits[k] != -INFINITY;
    const float* const factor = mixture.factor + k * dims * dims;
    double* const work = whitened.work + k * dims * dims;
    bool nan = false;
    double log_diagonals = 0;
    for (int64_t c = threadIdx.x; c < dims && live; c += kTileThreads) {
      log_diagonals += static_cast<double>(factor[c * dims + c]);
      nan = nan || isnan(mixture.mean[k * dims + c]);
      for (int64_t i = c; i < dims; ++i) {
        double value = i == c ? 1.0 : 0.0;
        for (int64_t j = c; j < i; ++j) value -= static_cast<double>(factor[i * dims + j]) * work[j * dims + c];
        work[i * dims + c] = value * exp(-static_cast<double>(factor[i * dims + i]));
        whitened.inverse[(k * dims + i) * dims + c] = static_cast<float>(work[i * dims + c]);
        nan = nan || isnan(factor[i * dims + c]);
      }
    }
    log_diagonals = cuda::block_sum(log_diagonals, room);
    nan = __syncthreads_or(nan) != 0;
    if (threadIdx.x == 0) {
      const double constant = static_cast<double>(mixture.logits[k]) - log_norm - log_diagonals -
                              static_cast<double>(dims) * cuda::kHalfLog2Pi;
      whitened.constant[k] = !live ? -INFINITY : nan ? NAN : static_cast<float>(constant * 1.4426950408889634);
    }
  }
}

// r = weight 2^(logit - max). No weight: no mass, or a row that its weight turns off.
struct RowNorm {
  float max;
  float weight;
};

struct TilePass {
  FullMixture mixture;
  Whitened whitened;
  const float* x;
  int64_t rows;
  const float* weights;
  float* y;          // null: not wanted
  RowNorm* norms;    // null: not wanted
  double* totals;    // (blocks of the marginal pass)
  const int32_t* z;  // given components instead of responsibilities, with weights g; else null
  const float* g;
  int64_t samples;
  double* partials;  // (splits, K, D D + D + 1): s2, s1, s0
  float* dx;
  int tile_rows;
};

__host__ __device__ inline int64_t tile_stride(int64_t dims) { return dims % 2 == 0 ? dims + 1 : dims; }

int tile_rows_for(int64_t dims) {
  int rows = kTileThreads;
  while (rows > 1 && rows * tile_stride(dims) > 5120) rows /= 2;
  return rows;
}

// A block's tile. Thread t works on row t % R, on every (128 / R)-th dimension from t / R.
struct Tile {
  const TilePass& args;
  int64_t dims;
  int64_t stride;
  int row;
  int part;
  int parts;
  float* xs;       // (R, stride)
  float* ts;       // (R, stride), null: residuals are not kept
  float* kinds;    // (R) 0 for a row of numbers, NaN for one with a NaN, else -inf for one with an infinity
  float* squares;  // (threads)

  __device__ Tile(const TilePass& pass, cuda::SharedMemory& smem, bool keep) : args(pass) {
    dims = args.mixture.dims;
    stride = tile_stride(dims);
    row = static_cast<int>(threadIdx.x) % args.tile_rows;
    part = static_cast<int>(threadIdx.x) / args.tile_rows;
    parts = kTileThreads / args.tile_rows;
    xs = smem.take<float>(static_cast<std::size_t>(args.tile_rows * stride));
    ts = keep ? smem.take<float>(static_cast<std::size_t>(args.tile_rows * stride)) : nullptr;
    kinds = smem.take<float>(static_cast<std::size_t>(args.tile_rows));
    squares = smem.take<float>(kTileThreads);
  }
  static std::size_t bytes(int rows, int64_t dims, bool keep) {
    const auto matrix = cuda::SharedMemory::bytes<float>(static_cast<std::size_t>(rows * tile_stride(dims)));
    return (keep ? 2 : 1) * matrix + cuda::SharedMemory::bytes<float>(static_cast<std::size_t>(rows)) +
           cuda::SharedMemory::bytes<float>(kTileThreads);
  }

  // Rows first..first+R-1; zeros past the last.
  __device__ void stage(int64_t first) const {
    __syncthreads();
    for (int64_t i = threadIdx.x; i < args.tile_rows * dims; i += kTileThreads) {
      const int64_t n = i / dims;
      xs[n * stride + i % dims] = first + n < args.rows ? args.x[first * dims + i] : 0.0f;
    }
    __syncthreads();
    if (part == 0) {
      float kind = 0;
      for (int64_t d = 0; d < dims; ++d) {
        const float x = xs[row * stride + d];
        if (isnan(x)) kind = NAN;
        if (isinf(x) && kind == 0.0f) kind = -INFINITY;
      }
      kinds[row] = kind;
    }
    __syncthreads();
  }

  // log2 p(x, k) of the thread's row; residuals into ts.
  __device__ float logit(int64_t k) const {
    const float* const mean = args.mixture.mean + k * dims;
    const float* const x = xs + row * stride;
    float sum = 0;
    for (int64_t i = part; i < dims; i += parts) {
      const float* const inverse = args.whitened.inverse + (k * dims + i) * dims;
      float t = 0;
      for (int64_t j = 0; j <= i; ++j) t = fmaf(inverse[j], x[j] - mean[j], t);
      if (ts != nullptr) ts[row * stride + i] = t;
      sum = fmaf(t, t, sum);
    }
    if (parts > 1) {
      squares[threadIdx.x] = sum;
      __syncthreads();
      sum = 0;
      for (int p = 0; p < parts; ++p) sum += squares[p * args.tile_rows + row];
      __syncthreads();
    }
    if (kinds[row] != 0.0f) return kinds[row];
    // Out of range: as good as infinitely far; inf - inf on the way may have made it NaN.
    return sum <= FLT_MAX ? fmaf(-kHalfLog2E, sum, args.whitened.constant[k]) : args.whitened.constant[k] - INFINITY;
  }

  __device__ float responsibility(int64_t k, int64_t n, float logit) const {
    if (n >= args.rows) return 0.0f;
    if (args.z == nullptr) {
      const RowNorm norm = args.norms[n];
      return norm.weight == 0.0f ? 0.0f : cuda::exp2_fast(logit - norm.max) * norm.weight;
    }
    float sum = 0;
    for (int64_t s = 0; s < args.samples; ++s) {
      if (args.z[n * args.samples + s] == k) sum += args.g[n * args.samples + s];
    }
    return sum == 0.0f || logit == -INFINITY ? 0.0f : isnan(logit) ? logit : sum;
  }
};

__global__ void __launch_bounds__(kTileThreads) marginal_kernel(TilePass args) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kTileThreads / cuda::kWarp);
  const Tile tile(args, smem, false);
  double total = 0;
  for (int64_t first = int64_t{blockIdx.x} * args.tile_rows; first < args.rows;
       first += int64_t{gridDim.x} * args.tile_rows) {
    tile.stage(first);
    cuda::Peak peak;
    for (int64_t k = 0; k < args.mixture.components; ++k) {
      if (args.whitened.constant[k] == -INFINITY) continue;
      const float logit = tile.logit(k);
      const float max = fmaxf(peak.max, logit);
      peak = {max, fmaf(peak.sum, cuda::exp2_fast(peak.max - max), cuda::exp2_fast(logit - max))};
    }
    const int64_t n = first + tile.row;
    if (tile.part == 0 && n < args.rows) {
      const float kind = tile.kinds[tile.row];
      const float y = kind != 0.0f ? kind : peak.log();
      const float w = args.weights == nullptr ? 1.0f : args.weights[n];
      if (args.y != nullptr) args.y[n] = y;
      if (w != 0.0f) total += static_cast<double>(w) * static_cast<double>(y);
      const bool off = w == 0.0f || y == -INFINITY;
      if (args.norms != nullptr) {
        args.norms[n] = {peak.max, off ? 0.0f : isnan(y) ? y : w * cuda::reciprocal(peak.sum)};
      }
    }
  }
  total = cuda::block_sum(total, room);
  if (threadIdx.x == 0) args.totals[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kTileThreads) statistics_kernel(TilePass args) {
  cuda::SharedMemory smem;
  const Tile tile(args, smem, true);
  float* const rs = smem.take<float>(static_cast<std::size_t>(args.tile_rows));
  const int64_t dims = tile.dims;
  const int64_t size = dims * dims + dims + 1;
  for (int64_t k = blockIdx.y; k < args.mixture.components; k += gridDim.y) {
    double* const partial = args.partials + (int64_t{blockIdx.x} * args.mixture.components + k) * size;
    for (int64_t p = threadIdx.x; p < size; p += kTileThreads) partial[p] = 0;
    if (args.whitened.constant[k] == -INFINITY) continue;  // the whole block
    for (int64_t first = int64_t{blockIdx.x} * args.tile_rows; first < args.rows;
         first += int64_t{gridDim.x} * args.tile_rows) {
      tile.stage(first);
      const float logit = tile.logit(k);
      if (tile.part == 0) rs[tile.row] = tile.responsibility(k, first + tile.row, logit);
      __syncthreads();
      for (int64_t p = threadIdx.x; p < size; p += kTileThreads) {
        const int64_t i = p / dims;
        const int64_t j = p % dims;
        if (i < dims && j > i) continue;
        float sum = 0;
        for (int n = 0; n < args.tile_rows; ++n) {
          const float r = rs[n];
          if (r == 0.0f) continue;  // residuals may be out of range
          const float* const t = tile.ts + n * tile.stride;
          sum = i < dims ? fmaf(r * t[i], t[j], sum) : i == dims ? fmaf(r, t[j], sum) : sum + r;
        }
        partial[p] += static_cast<double>(sum);
      }
    }
  }
}

__global__ void __launch_bounds__(kTileThreads)
    finish_kernel(TilePass args, int splits, double* s0, double* s1, double* s2) {
  const int64_t dims = args.mixture.dims;
  const int64_t size = dims * dims + dims + 1;
  const int64_t count = args.mixture.components * size;
  for (int64_t i = int64_t{blockIdx.x} * kTileThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kTileThreads) {
    double sum = 0;
    for (int split = 0; split < splits; ++split) sum += args.partials[split * count + i];
    const int64_t k = i / size;
    const int64_t p = i % size;
    if (p < dims * dims) {
      s2[k * dims * dims + p] = sum;
    } else if (p < dims * dims + dims) {
      s1[k * dims + p - dims * dims] = sum;
    } else {
      s0[k] = sum;
    }
  }
}

// dx = -sum_k r L^-T t.
__global__ void __launch_bounds__(kTileThreads) data_gradient_kernel(TilePass args) {
  cuda::SharedMemory smem;
  const Tile tile(args, smem, true);
  float* const sums = smem.take<float>(static_cast<std::size_t>(args.tile_rows * tile.stride));
  const int64_t dims = tile.dims;
  for (int64_t first = int64_t{blockIdx.x} * args.tile_rows; first < args.rows;
       first += int64_t{gridDim.x} * args.tile_rows) {
    tile.stage(first);
    float* const sum = sums + tile.row * tile.stride;
    for (int64_t j = tile.part; j < dims; j += tile.parts) sum[j] = 0;
    const int64_t n = first + tile.row;
    for (int64_t k = 0; k < args.mixture.components; ++k) {
      if (args.whitened.constant[k] == -INFINITY) continue;
      const float r = tile.responsibility(k, n, tile.logit(k));
      __syncthreads();
      if (r != 0.0f) {
        for (int64_t j = tile.part; j < dims; j += tile.parts) {
          float value = 0;
          for (int64_t i = j; i < dims; ++i) {
            value = fmaf(args.whitened.inverse[(k * dims + i) * dims + j], tile.ts[tile.row * tile.stride + i], value);
          }
          sum[j] = fmaf(-r, value, sum[j]);
        }
      }
      __syncthreads();
    }
    if (n < args.rows) {
      for (int64_t j = tile.part; j < dims; j += tile.parts) args.dx[n * dims + j] = sum[j];
    }
  }
}

// ---------------------------------------------------------------- one thread a row or component

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

__global__ void __launch_bounds__(kThreads, 10) joint_data_gradient_kernel(FullMixtureJointStatistics args) {
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

unsigned blocks(int64_t items) { return cuda::blocks_for(items, kThreads, kBlocks); }

// Scratch of the tile kernels, and their launches.
struct Tiles {
  cuda::Carver carver;
  TilePass pass = {};
  int blocks = 0;
  int splits = 0;

  Tiles(void* base, const FullMixture& mixture, int64_t rows, bool statistics) : carver(base) {
    const int64_t matrices = mixture.components * mixture.dims * mixture.dims;
    pass.mixture = mixture;
    pass.rows = rows;
    pass.tile_rows = tile_rows_for(mixture.dims);
    pass.whitened.work = carver.take<double>(matrices);
    pass.whitened.inverse = carver.take<float>(matrices);
    pass.whitened.constant = carver.take<float>(mixture.components);
    const int64_t tiles = std::max<int64_t>(1, (rows + pass.tile_rows - 1) / pass.tile_rows);
    blocks = static_cast<int>(std::min<int64_t>(tiles, 8 * 132));
    pass.totals = carver.take<double>(blocks);
    if (!statistics) return;
    pass.norms = carver.take<RowNorm>(rows);
    const int64_t sums = mixture.components * (mixture.dims * mixture.dims + mixture.dims + 1);
    constexpr int64_t kMaxSums = int64_t{1} << 23;
    splits = static_cast<int>(std::clamp<int64_t>(std::min(8 * 132 / mixture.components, kMaxSums / sums), 1, tiles));
    pass.partials = carver.take<double>(splits * sums);
  }

  void whiten(void* stream) const {
    cuda::launch(whiten_kernel, cuda::blocks_for(pass.mixture.components, 1), kTileThreads, kRoom, stream, pass.mixture,
                 pass.whitened);
  }
  void marginals(void* stream) const {
    cuda::launch(marginal_kernel, static_cast<unsigned>(blocks), kTileThreads,
                 kRoom + Tile::bytes(pass.tile_rows, pass.mixture.dims, false), stream, pass);
  }
  void total(float* to, double* exact, void* stream) const {
    if (to == nullptr && exact == nullptr) return;
    cuda::launch(cuda::total_kernel, 1, cuda::kTotalThreads, cuda::kTotalBytes, stream,
                 static_cast<const double*>(pass.totals), blocks, to, exact);
  }
  void statistics(double* s0, double* s1, double* s2, void* stream) const {
    const std::size_t shared = Tile::bytes(pass.tile_rows, pass.mixture.dims, true) +
                               cuda::SharedMemory::bytes<float>(static_cast<std::size_t>(pass.tile_rows));
    const int64_t components = pass.mixture.components;
    cuda::launch(statistics_kernel,
                 dim3(static_cast<unsigned>(splits), static_cast<unsigned>(std::min<int64_t>(components, 65535))),
                 kTileThreads, shared, stream, pass);
    cuda::launch(
        finish_kernel,
        cuda::blocks_for(components * (pass.mixture.dims * pass.mixture.dims + pass.mixture.dims + 1), kTileThreads),
        kTileThreads, 0, stream, pass, splits, s0, s1, s2);
  }
  void data_gradient(void* stream) const {
    const std::size_t matrix =
        cuda::SharedMemory::bytes<float>(static_cast<std::size_t>(pass.tile_rows * tile_stride(pass.mixture.dims)));
    cuda::launch(data_gradient_kernel, static_cast<unsigned>(blocks), kTileThreads,
                 Tile::bytes(pass.tile_rows, pass.mixture.dims, true) + matrix, stream, pass);
  }

  static constexpr std::size_t kRoom = cuda::SharedMemory::bytes<double>(kTileThreads / cuda::kWarp);
};

}  // namespace

std::size_t cuda_scratch_bytes(const FullMixtureMarginal& args) {
  return Tiles(nullptr, args.mixture, args.rows, false).carver.bytes();
}
std::size_t cuda_scratch_bytes(const FullMixtureStatistics& args) {
  return Tiles(nullptr, args.mixture, args.rows, true).carver.bytes();
}
std::size_t cuda_scratch_bytes(const FullMixtureGradients& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixtureResponsibilities& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixturePosteriorSample& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixtureJoint& args) { return scratch_bytes(args.mixture); }
std::size_t cuda_scratch_bytes(const FullMixtureJointStatistics& args) {
  return std::max(scratch_bytes(args.mixture), Tiles(nullptr, args.mixture, args.rows, true).carver.bytes());
}
std::size_t cuda_scratch_bytes(const FullMixtureAncestral& args) { return scratch_bytes(args.mixture); }

void run_cuda(const FullMixtureMarginal& args, void* stream) {
  if (args.rows == 0 && args.total == nullptr && args.exact_total == nullptr) return;
  Tiles tiles(args.scratch, args.mixture, args.rows, false);
  tiles.pass.x = args.x;
  tiles.pass.weights = args.weights;
  tiles.pass.y = args.y;
  tiles.whiten(stream);
  tiles.marginals(stream);
  tiles.total(args.total, args.exact_total, stream);
}

void run_cuda(const FullMixtureStatistics& args, void* stream) {
  Tiles tiles(args.scratch, args.mixture, args.rows, true);
  tiles.pass.x = args.x;
  tiles.pass.weights = args.weights;
  tiles.pass.y = args.y;
  tiles.pass.dx = args.dx;
  tiles.whiten(stream);
  tiles.marginals(stream);
  tiles.total(args.total, args.exact_total, stream);
  tiles.statistics(args.s0, args.s1, args.s2, stream);
  if (args.dx != nullptr && args.rows > 0) tiles.data_gradient(stream);
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
  Tiles tiles(args.scratch, args.mixture, args.rows, true);
  tiles.pass.x = args.x;
  tiles.pass.z = args.z;
  tiles.pass.g = args.g;
  tiles.pass.samples = args.samples;
  tiles.whiten(stream);
  tiles.statistics(args.s0, args.s1, args.s2, stream);
  // The same scratch again, behind the statistics.
  if (args.dx != nullptr && args.rows > 0) {
    cuda::launch(joint_data_gradient_kernel, blocks(args.rows), kThreads, 0, stream, args);
  }
}

void run_cuda(const FullMixtureAncestral& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(ancestral_kernel, blocks(args.rows), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
