// SPDX-License-Identifier: Apache-2.0
// Categorical distributions over a large vocabulary, log p[b,v] = h_b . w_v + c_v - log sum_u exp(h_b . w_u + c_u).
//
// Mapping    a block of 256 threads owns 64 rows of one matrix and goes through the other in tiles of 128: forward
//            and for dhidden it owns rows of hidden and goes through words, for dweight the other way round. A thread
//            holds 4 x 8 logits of a tile, and 8 x 8 sums of a gradient's 64 x 256 columns, in registers; operands
//            come through shared memory.
// Algorithm  forward keeps a (max, sum) pair a row and chunk of words; a second kernel merges the chunks, a third
//            computes the entries, a warp each. Backward computes a tile of logits again, turns it into dlogit in
//            shared memory, adds the entries' own terms, a thread a row, and multiplies it with the other matrix.
//            H > 256: a block for every 256 columns of a gradient, which computes all of the logits again: for
//            correctness at any H, not for speed.
// Arithmetic in units of B V H FMA: 1 forward; 2 for dhidden and 2 for dweight, of which the logits, computed for each
//            of the two, are 1 each. An exponential a logit each time.
// Traffic    a block reads the other matrix once, from L2: (B / 64) V H and (V / 64) B H floats. Scratch: 8 B bytes, 8
// a
//            row and chunk forward, and for dhidden B H floats for each of at most 16 chunks of words (8 MB at
//            B = 512, H = 256): fewer chunks would leave multiprocessors idle, sums in the order of arrival would not
//            be the same bits twice.
// Entries    a block reads the labels of every row it goes through, so (V / 64) E in all: labels of a row need no
// order. Order      fixed by the sizes: equal bits run to run on any device. Floor      on an H200 (33.5e12 FMA/s), V =
// 50k, H = 256, B = 512: 196 us forward, 782 us backward, 978 us in all, plus
//            3 x 6 us of exponentials. Expected 1.4 ms; not measured. No tensor cores: the tests' executor does
//            not have them. TF32 would take 152 us for the four products a fused backward pass needs, bf16 76 us:
//            their absence costs a factor of 6 to 13.
#include "kernels/linear_categorical.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/mixture.cuh"

#include <algorithm>

namespace dgm::kernels {

namespace {

using cuda::Carver;
using cuda::exp2_fast;
using cuda::kAllLanes;
using cuda::kLog2E;
using cuda::kWarp;
using cuda::Peak;
using cuda::SharedMemory;

constexpr int kThreads = 256;
constexpr int kOwn = 64;       // rows that a block owns
constexpr int kOther = 128;    // rows of the other matrix in a tile
constexpr int kTerms = 32;     // of the products that logits are, in shared memory at a time
constexpr int kColumns = 256;  // of a gradient that a block sums
constexpr int kSlice = 16;     // rows of a tile whose columns are in shared memory at a time
constexpr int kOwnStride = kOwn + 4;
constexpr int kOtherStride = kOther + 4;
constexpr int64_t kMostChunks = 16;  // of words, for dhidden
constexpr int64_t kSlots = 264;      // blocks that are resident at a time: two on each of 132 multiprocessors

__host__ __device__ inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

__device__ __forceinline__ void load4(float* to, const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x;
  to[1] = v.y;
  to[2] = v.z;
  to[3] = v.w;
}

__device__ __forceinline__ int64_t begin_of(const LinearCategorical& model, int64_t row) {
  if (model.offsets == nullptr) return row;
  const int64_t begin = model.offsets[row];
  return begin < 0 ? 0 : begin > model.entries ? model.entries : begin;
}

// Rows of a matrix from `first` on, of which `count` exist.
struct Rows {
  const float* data;
  int64_t first;
  int64_t count;
};

// (terms, stride) of N rows from `term` on, transposed; zeros past the last row.
template <int N, int kStride>
__device__ __forceinline__ void stage_transposed(float* to, const Rows& rows, int64_t width, int64_t term, int terms) {
  const int k = static_cast<int>(threadIdx.x) % kTerms;
  for (int n = static_cast<int>(threadIdx.x) / kTerms; n < N; n += kThreads / kTerms) {
    if (k < terms) to[k * kStride + n] = n < rows.count ? rows.data[(rows.first + n) * width + term + k] : 0.0f;
  }
}

struct Place {
  int own_group;    // of 16: rows 4 og + {0..3} of the owned
  int other_group;  // of 16: rows 4 cg + {0..3} and 64 + 4 cg + {0..3} of the tile
  __device__ int own(int i) const { return 4 * own_group + i; }
  __device__ int other(int j) const { return j < 4 ? 4 * other_group + j : 60 + 4 * other_group + j; }
};

__device__ __forceinline__ Place place() {
  const int thread = static_cast<int>(threadIdx.x);
  return {thread / 16, thread % 16};
}

// Products of owned rows and a tile's, without bias. By the whole block; begins with a barrier.
__device__ __forceinline__ void products(float (&logit)[4][8], const Rows& own, const Rows& other, int64_t width,
                                         float* xs, float* ys, const Place& p) {
  DGM_UNROLL
  for (int i = 0; i < 4; ++i) {
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) logit[i][j] = 0.0f;
  }
  for (int64_t term = 0; term < width; term += kTerms) {
    const int terms = static_cast<int>(width - term < kTerms ? width - term : kTerms);
    __syncthreads();
    stage_transposed<kOwn, kOwnStride>(xs, own, width, term, terms);
    stage_transposed<kOther, kOtherStride>(ys, other, width, term, terms);
    __syncthreads();
    DGM_UNROLL_BY(4)
    for (int k = 0; k < terms; ++k) {
      float x[4];
      float y[8];
      load4(x, xs + k * kOwnStride + 4 * p.own_group);
      load4(y, ys + k * kOtherStride + 4 * p.other_group);
      load4(y + 4, ys + k * kOtherStride + 64 + 4 * p.other_group);
      DGM_UNROLL
      for (int i = 0; i < 4; ++i) {
        DGM_UNROLL
        for (int j = 0; j < 8; ++j) logit[i][j] = fmaf(x[i], y[j], logit[i][j]);
      }
    }
  }
}

// ---------------------------------------------------------------- forward

struct ForwardPass {
  LinearCategorical model;
  int64_t chunks;
  int64_t chunk_tiles;
  float* max;  // (B, chunks), base 2
  float* sum;  // (B, chunks)
};

__global__ void __launch_bounds__(kThreads) peaks_kernel(ForwardPass pass) {
  SharedMemory smem;
  float* const xs = smem.take<float>(kTerms * kOwnStride);
  float* const ys = smem.take<float>(kTerms * kOtherStride);
  const LinearCategorical& model = pass.model;
  const Place p = place();
  const int64_t first_row = int64_t{blockIdx.x} * kOwn;
  const Rows own = {model.hidden, first_row, model.rows - first_row};
  float max[4];
  float sum[4];
  DGM_UNROLL
  for (int i = 0; i < 4; ++i) {
    max[i] = cuda::kLowest;
    sum[i] = 0.0f;
  }
  const int64_t begin = int64_t{blockIdx.y} * pass.chunk_tiles * kOther;
  const int64_t end = begin + pass.chunk_tiles * kOther < model.words ? begin + pass.chunk_tiles * kOther : model.words;
  for (int64_t first = begin; first < end; first += kOther) {
    float logit[4][8];
    products(logit, own, {model.weight, first, model.words - first}, model.width, xs, ys, p);
    float bias[8];
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int64_t word = first + p.other(j);
      bias[j] = word >= end ? -INFINITY : model.bias != nullptr ? model.bias[word] : 0.0f;
    }
    DGM_UNROLL
    for (int i = 0; i < 4; ++i) {
      float largest = max[i];
      DGM_UNROLL
      for (int j = 0; j < 8; ++j) {
        logit[i][j] = (logit[i][j] + bias[j]) * kLog2E;
        largest = fmaxf(largest, logit[i][j]);
      }
      sum[i] *= exp2_fast(max[i] - largest);
      DGM_UNROLL
      for (int j = 0; j < 8; ++j) sum[i] += exp2_fast(logit[i][j] - largest);
      max[i] = largest;
    }
  }
  DGM_UNROLL
  for (int i = 0; i < 4; ++i) {
    Peak peak = {max[i], sum[i]};
    for (int step = 8; step > 0; step /= 2) {
      peak =
          cuda::merge(peak, {__shfl_xor_sync(kAllLanes, peak.max, step), __shfl_xor_sync(kAllLanes, peak.sum, step)});
    }
    if (p.other_group == 0 && p.own(i) < own.count) {
      const int64_t at = (first_row + p.own(i)) * pass.chunks + blockIdx.y;
      pass.max[at] = peak.max;
      pass.sum[at] = peak.sum;
    }
  }
}

__global__ void __launch_bounds__(kThreads) merge_kernel(ForwardPass pass, float* log_normaliser) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t b = int64_t{blockIdx.x} * kThreads + threadIdx.x; b < pass.model.rows; b += stride) {
    Peak peak;
    for (int64_t c = 0; c < pass.chunks; ++c) {
      peak = cuda::merge(peak, {pass.max[b * pass.chunks + c], pass.sum[b * pass.chunks + c]});
    }
    log_normaliser[b] = peak.log();
  }
}

// A warp an entry.
__global__ void __launch_bounds__(kThreads) entries_kernel(LinearCategoricalForward args) {
  const LinearCategorical& model = args.model;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t stride = int64_t{gridDim.x} * (kThreads / kWarp);
  for (int64_t e = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp; e < model.entries; e += stride) {
    int64_t row = e;
    if (model.offsets != nullptr) {
      // The last row that begins at or before e.
      row = 0;
      int64_t end = model.rows;
      while (end - row > 1) {
        const int64_t middle = (row + end) / 2;
        if (model.offsets[middle] <= e) {
          row = middle;
        } else {
          end = middle;
        }
      }
    }
    const int64_t label = model.labels[e];
    const bool known = label >= 0 && label < model.words;
    float logit = 0.0f;
    if (known) {
      for (int64_t i = lane; i < model.width; i += kWarp) {
        logit = fmaf(model.hidden[row * model.width + i], model.weight[label * model.width + i], logit);
      }
    }
    logit = cuda::warp_sum(logit);
    if (lane != 0) continue;
    if (known && model.bias != nullptr) logit += model.bias[label];
    const float log_normaliser = args.log_normaliser[row];
    // -inf less -inf would be NaN; and rounding must not take a probability above 1.
    float y = logit == -INFINITY && log_normaliser == -INFINITY ? logit : logit - log_normaliser;
    if (y > 0.0f || (model.words == 1 && y > -INFINITY)) y = 0.0f;
    args.y[e] = known ? y : NAN;
  }
}

// ---------------------------------------------------------------- backward

struct BackwardPass {
  LinearCategoricalBackward args;
  float* log_normaliser;  // (B), +inf where all words are excluded: exp(-inf - inf) is 0
  float* scale;           // (B), less the sum of a row's g
  int64_t chunks;         // of words, for dhidden
  int64_t chunk_tiles;
  float* partial;  // (chunks, B, H); d_hidden itself if there is one chunk
};

__device__ __forceinline__ bool counts(const LinearCategoricalBackward& args, int64_t e) {
  return args.y[e] != -INFINITY && args.model.labels[e] >= 0 && args.model.labels[e] < args.model.words;
}

__global__ void __launch_bounds__(kThreads) rows_kernel(BackwardPass pass) {
  const LinearCategorical& model = pass.args.model;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t b = int64_t{blockIdx.x} * kThreads + threadIdx.x; b < model.rows; b += stride) {
    double sum = 0;
    const int64_t end = begin_of(model, b + 1);
    for (int64_t e = begin_of(model, b); e < end; ++e) {
      if (counts(pass.args, e)) sum += static_cast<double>(pass.args.g[e]);
    }
    const float z = pass.args.log_normaliser[b];
    pass.log_normaliser[b] = z == -INFINITY ? INFINITY : z;
    pass.scale[b] = z == -INFINITY ? 0.0f : -static_cast<float>(sum);
  }
}

// A tile of dlogit, (other, own), from its products. Ends with a barrier.
template <bool kOwnsWords>
__device__ __forceinline__ void gradient_tile(const BackwardPass& pass, float (&logit)[4][8], int64_t first_own,
                                              int64_t first_other, float* gs, const Place& p) {
  const LinearCategorical& model = pass.args.model;
  constexpr int kRows = kOwnsWords ? kOther : kOwn;
  constexpr int kWords = kOwnsWords ? kOwn : kOther;
  const int64_t first_row = kOwnsWords ? first_other : first_own;
  const int64_t first_word = kOwnsWords ? first_own : first_other;
  constexpr int kRowsHere = kOwnsWords ? 8 : 4;
  constexpr int kWordsHere = kOwnsWords ? 4 : 8;
  float z[kRowsHere];
  float scale[kRowsHere];
  float bias[kWordsHere];
  DGM_UNROLL
  for (int i = 0; i < kRowsHere; ++i) {
    const int64_t row = first_row + (kOwnsWords ? p.other(i) : p.own(i));
    z[i] = row < model.rows ? pass.log_normaliser[row] : INFINITY;
    scale[i] = row < model.rows ? pass.scale[row] : 0.0f;
  }
  DGM_UNROLL
  for (int i = 0; i < kWordsHere; ++i) {
    const int64_t word = first_word + (kOwnsWords ? p.own(i) : p.other(i));
    bias[i] = word >= model.words ? -INFINITY : model.bias != nullptr ? model.bias[word] : 0.0f;
  }
  DGM_UNROLL
  for (int j = 0; j < 8; ++j) {
    float g[4];
    DGM_UNROLL
    for (int i = 0; i < 4; ++i) {
      const int row = kOwnsWords ? j : i;
      const int word = kOwnsWords ? i : j;
      g[i] = scale[row] * exp2_fast((logit[i][j] + bias[word] - z[row]) * kLog2E);
    }
    *reinterpret_cast<float4*>(gs + p.other(j) * kOwnStride + 4 * p.own_group) = make_float4(g[0], g[1], g[2], g[3]);
  }
  __syncthreads();
  const int row = static_cast<int>(threadIdx.x);
  if (row < kRows && first_row + row < model.rows) {
    const int64_t end = begin_of(model, first_row + row + 1);
    for (int64_t e = begin_of(model, first_row + row); e < end; ++e) {
      const int64_t word = model.labels[e] - first_word;
      if (word < 0 || word >= kWords || !counts(pass.args, e)) continue;
      const int at = static_cast<int>(word);
      gs[(kOwnsWords ? row : at) * kOwnStride + (kOwnsWords ? at : row)] += pass.args.g[e];
    }
  }
  __syncthreads();
}

// Gradient of the owned rows: the sum over the others of dlogit[own, other] other[:].
template <bool kOwnsWords>
__global__ void __launch_bounds__(kThreads) gradient_kernel(BackwardPass pass) {
  SharedMemory smem;
  float* const xs = smem.take<float>(kTerms * kOwnStride);
  float* const ys = smem.take<float>(kTerms * kOtherStride);
  float* const gs = smem.take<float>(kOther * kOwnStride);
  float* const columns = smem.take<float>(kSlice * kColumns);
  const LinearCategorical& model = pass.args.model;
  const int64_t width = model.width;
  const Place p = place();
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t first_own = int64_t{blockIdx.x} * kOwn;
  const int64_t own_rows = kOwnsWords ? model.words : model.rows;
  const int64_t other_rows = kOwnsWords ? model.rows : model.words;
  const Rows own = {kOwnsWords ? model.weight : model.hidden, first_own, own_rows - first_own};
  const float* const other = kOwnsWords ? model.hidden : model.weight;
  const int64_t first_column = int64_t{blockIdx.y} * kColumns;
  const bool wants_columns = kOwnsWords ? pass.args.d_weight != nullptr : true;
  const bool wants_bias = kOwnsWords && pass.args.d_bias != nullptr && blockIdx.y == 0;

  // Rows 4 (thread / 32) + {0..3} and 32 + 4 (thread / 32) + {0..3}, columns 4 (thread % 32) + {0..3} and 128 more.
  const int row_group = thread / 32;
  const int column_group = thread % 32;
  float sum[8][8];
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) sum[i][j] = 0.0f;
  }
  float bias_sum = 0.0f;

  const int64_t begin = kOwnsWords ? 0 : int64_t{blockIdx.z} * pass.chunk_tiles * kOther;
  const int64_t chunk_end = begin + pass.chunk_tiles * kOther;
  const int64_t end = kOwnsWords || chunk_end > other_rows ? other_rows : chunk_end;
  for (int64_t first = begin; first < end; first += kOther) {
    const Rows tile = {other, first, other_rows - first};
    {
      float logit[4][8];
      products(logit, own, tile, width, xs, ys, p);
      gradient_tile<kOwnsWords>(pass, logit, first_own, first, gs, p);
    }
    if (wants_bias && thread < kOwn) {
      float tile_sum = 0.0f;
      for (int n = 0; n < kOther; ++n) tile_sum += gs[n * kOwnStride + thread];
      bias_sum += tile_sum;
    }
    const int rows = static_cast<int>(end - first < kOther ? end - first : kOther);
    for (int slice = 0; wants_columns && slice < rows; slice += kSlice) {
      const int slice_rows = rows - slice < kSlice ? rows - slice : kSlice;
      __syncthreads();
      for (int n = 0; n < slice_rows; ++n) {
        const int64_t column = first_column + thread;
        columns[n * kColumns + thread] = column < width ? other[(first + slice + n) * width + column] : 0.0f;
      }
      __syncthreads();
      DGM_UNROLL_BY(1)
      for (int n = 0; n < slice_rows; ++n) {
        float g[8];
        float y[8];
        load4(g, gs + (slice + n) * kOwnStride + 4 * row_group);
        load4(g + 4, gs + (slice + n) * kOwnStride + 32 + 4 * row_group);
        load4(y, columns + n * kColumns + 4 * column_group);
        load4(y + 4, columns + n * kColumns + 128 + 4 * column_group);
        DGM_UNROLL
        for (int i = 0; i < 8; ++i) {
          DGM_UNROLL
          for (int j = 0; j < 8; ++j) sum[i][j] = fmaf(g[i], y[j], sum[i][j]);
        }
      }
    }
    __syncthreads();
  }

  if (wants_bias && thread < kOwn && thread < own.count) pass.args.d_bias[first_own + thread] = bias_sum;
  if (!wants_columns) return;
  float* const to = kOwnsWords ? pass.args.d_weight : pass.partial + int64_t{blockIdx.z} * model.rows * width;
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int row = (i < 4 ? i : 28 + i) + 4 * row_group;
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int64_t column = first_column + (j < 4 ? j : 124 + j) + 4 * column_group;
      if (row < own.count && column < width) to[(first_own + row) * width + column] = sum[i][j];
    }
  }
}

__global__ void __launch_bounds__(kThreads) chunks_kernel(BackwardPass pass) {
  const int64_t size = pass.args.model.rows * pass.args.model.width;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += stride) {
    float sum = 0.0f;
    for (int64_t c = 0; c < pass.chunks; ++c) sum += pass.partial[c * size + i];
    pass.args.d_hidden[i] = sum;
  }
}

// Chunks of words, so that with the tiles of rows they are about `blocks`.
void cut_words(const LinearCategorical& model, int64_t blocks, int64_t most, int64_t& chunks, int64_t& chunk_tiles) {
  const int64_t tiles = ceil_div(model.words, kOther);
  const int64_t wanted = std::min({ceil_div(blocks, ceil_div(model.rows, kOwn)), tiles, most});
  chunk_tiles = ceil_div(tiles, wanted);
  chunks = ceil_div(tiles, chunk_tiles);
}

struct ForwardScratch {
  Carver carver;
  ForwardPass pass;

  ForwardScratch(void* base, const LinearCategorical& model) : carver(base), pass{} {
    pass.model = model;
    cut_words(model, 2 * kSlots, INT16_MAX, pass.chunks, pass.chunk_tiles);
    pass.max = carver.take<float>(model.rows * pass.chunks);
    pass.sum = carver.take<float>(model.rows * pass.chunks);
  }
};

struct BackwardScratch {
  Carver carver;
  BackwardPass pass;

  BackwardScratch(void* base, const LinearCategoricalBackward& args) : carver(base), pass{} {
    const LinearCategorical& model = args.model;
    pass.args = args;
    pass.log_normaliser = carver.take<float>(model.rows);
    pass.scale = carver.take<float>(model.rows);
    if (args.d_hidden == nullptr) return;
    cut_words(model, kSlots / 2, kMostChunks, pass.chunks, pass.chunk_tiles);
    pass.partial = pass.chunks > 1 ? carver.take<float>(pass.chunks * model.rows * model.width) : args.d_hidden;
  }
};

constexpr std::size_t kProductBytes =
    SharedMemory::bytes<float>(kTerms * kOwnStride) + SharedMemory::bytes<float>(kTerms * kOtherStride);
constexpr std::size_t kGradientBytes =
    kProductBytes + SharedMemory::bytes<float>(kOther * kOwnStride) + SharedMemory::bytes<float>(kSlice * kColumns);

}  // namespace

std::size_t cuda_scratch_bytes(const LinearCategoricalForward& args) {
  return ForwardScratch(nullptr, args.model).carver.bytes();
}

void run_cuda(const LinearCategoricalForward& args, void* stream) {
  const LinearCategorical& model = args.model;
  const ForwardPass pass = ForwardScratch(args.scratch, model).pass;
  const dim3 grid(static_cast<unsigned>(ceil_div(model.rows, kOwn)), static_cast<unsigned>(pass.chunks));
  cuda::launch(peaks_kernel, grid, kThreads, kProductBytes, stream, pass);
  cuda::launch(merge_kernel, cuda::blocks_for(model.rows, kThreads), kThreads, 0, stream, pass, args.log_normaliser);
  cuda::launch(entries_kernel, cuda::blocks_for(model.entries, kThreads / kWarp), kThreads, 0, stream, args);
}

std::size_t cuda_scratch_bytes(const LinearCategoricalBackward& args) {
  return BackwardScratch(nullptr, args).carver.bytes();
}

void run_cuda(const LinearCategoricalBackward& args, void* stream) {
  const LinearCategorical& model = args.model;
  const BackwardPass pass = BackwardScratch(args.scratch, args).pass;
  cuda::launch(rows_kernel, cuda::blocks_for(model.rows, kThreads), kThreads, 0, stream, pass);
  const auto columns = static_cast<unsigned>(std::max<int64_t>(ceil_div(model.width, kColumns), 1));
  if (args.d_weight != nullptr || args.d_bias != nullptr) {
    const dim3 grid(static_cast<unsigned>(ceil_div(model.words, kOwn)), args.d_weight != nullptr ? columns : 1);
    cuda::launch(gradient_kernel<true>, grid, kThreads, kGradientBytes, stream, pass);
  }
  if (args.d_hidden != nullptr) {
    const dim3 grid(static_cast<unsigned>(ceil_div(model.rows, kOwn)), columns, static_cast<unsigned>(pass.chunks));
    cuda::launch(gradient_kernel<false>, grid, kThreads, kGradientBytes, stream, pass);
    if (pass.chunks > 1 && model.width > 0) {
      cuda::launch(chunks_kernel, cuda::blocks_for(model.rows * model.width, kThreads), kThreads, 0, stream, pass);
    }
  }
}

}  // namespace dgm::kernels
