// SPDX-License-Identifier: Apache-2.0
// A tile of the diagonal mixture: 128 rows x 64 components by a block of 128 threads, staged in shared memory,
// its logits in registers, and the responsibilities that they become.
#pragma once

#include "kernels/diagonal_mixture/parameters.cuh"

namespace dgm::kernels {

namespace {

constexpr int kThreads = 128;
constexpr int kRows = 128;       // rows of data in a tile
constexpr int kDims = 64;        // dimensions in shared memory at a time
constexpr int kRowStride = 132;  // between dimensions in xs: a multiple of 4, and not of 8
constexpr int kCompStride = 68;  // between dimensions in as and bs, and between rows in rs

// Thread (row group, component group) = (thread / 8, thread % 8) works on rows 4 rg + {0..3},
// 64 + 4 rg + {0..3} and components 4 cg + {0..3}, 32 + 4 cg + {0..3}.
struct Place {
  int lane;
  int row_group;   // 0..15
  int comp_group;  // 0..7
  __device__ int row(int i) const { return i < 4 ? 4 * row_group + i : 60 + 4 * row_group + i; }
  __device__ int comp(int j) const { return j < 4 ? 4 * comp_group + j : 28 + 4 * comp_group + j; }
};

__device__ __forceinline__ Place place() {
  const int thread = static_cast<int>(threadIdx.x);
  return {thread % kWarp, thread / 8, thread % 8};
}

__device__ __forceinline__ void load4(float* to, const float* from) {
  const float4 v = *reinterpret_cast<const float4*>(from);
  to[0] = v.x;
  to[1] = v.y;
  to[2] = v.z;
  to[3] = v.w;
}

__device__ __forceinline__ void store4(float* to, const float* from) {
  *reinterpret_cast<float4*>(to) = make_float4(from[0], from[1], from[2], from[3]);
}

struct Tiles {
  float* xs;         // (dims, rows): data
  float* as;         // (dims, components): inverse
  float* bs;         // (dims, components): offset, or mean if not well conditioned
  float* constants;  // (components)
  float* rs;         // (rows, components): responsibilities
};

// Rows of xs: a chunk's dimensions, rounded up to a multiple of 4.
__host__ __device__ inline int chunk_rows(int64_t dims) {
  return dims < kDims ? static_cast<int>((dims + 3) / 4 * 4) : kDims;
}

// Tiles of components whose parameters are in shared memory at a time: all, if they fit into what one
// tile of 64 dimensions takes.
__host__ __device__ inline int resident_tiles(int64_t tiles, int64_t dims) {
  return tiles * dims <= kDims ? static_cast<int>(tiles) : 1;
}

__host__ __device__ inline std::size_t parameter_floats(int64_t tiles, int64_t dims) {
  const std::size_t rows = static_cast<std::size_t>(dims < kDims ? (dims + 3) / 4 * 4 : kDims);
  return static_cast<std::size_t>(resident_tiles(tiles, dims)) * rows * kCompStride;
}

__device__ Tiles take_tiles(SharedMemory& smem, int64_t tiles, int64_t dims, bool responsibilities) {
  Tiles t = {};
  t.xs = smem.take<float>(static_cast<std::size_t>(chunk_rows(dims)) * kRowStride);
  t.as = smem.take<float>(parameter_floats(tiles, dims));
  t.bs = smem.take<float>(parameter_floats(tiles, dims));
  t.constants = smem.take<float>(static_cast<std::size_t>(resident_tiles(tiles, dims)) * kComps);
  if (responsibilities) t.rs = smem.take<float>(kRows * kCompStride);
  return t;
}

std::size_t tile_bytes(int64_t tiles, int64_t dims, bool responsibilities) {
  return SharedMemory::bytes<float>(static_cast<std::size_t>(chunk_rows(dims)) * kRowStride) +
         2 * SharedMemory::bytes<float>(parameter_floats(tiles, dims)) +
         SharedMemory::bytes<float>(static_cast<std::size_t>(resident_tiles(tiles, dims)) * kComps) +
         (responsibilities ? SharedMemory::bytes<float>(kRows * kCompStride) : 0);
}

// A datum in the units of the parameters.
template <bool kWell>
__device__ __forceinline__ float measured(const Packed& packed, float x, int64_t d) {
  const float value = (kWell ? x - packed.centre[d] : x) * packed.unit[d];
  // An infinite datum has density 0: as the largest number it has, and meets no 0 * inf.
  return fabsf(value) == INFINITY ? copysignf(FLT_MAX, value) : value;
}

// xs of dimensions first..first+width-1 of a tile's rows, transposed; zeros past the last row.
template <bool kWell>
__device__ void stage_rows(const Tiles& t, const Packed& packed, const float* x, int64_t rows, int64_t dims,
                           int64_t first_row, int64_t first, int width) {
  const int count = static_cast<int>(rows - first_row < kRows ? rows - first_row : kRows);
  const float* const from = x + first_row * dims + first;
  const int stride = static_cast<int>(dims);
  int d = static_cast<int>(threadIdx.x) % width;
  int n = static_cast<int>(threadIdx.x) / width;
  const int step_d = kThreads % width;
  const int step_n = kThreads / width;
  while (n < kRows) {
    t.xs[d * kRowStride + n] = n < count ? measured<kWell>(packed, from[n * stride + d], first + d) : 0.0f;
    d += step_d;
    n += step_n;
    if (d >= width) {
      d -= width;
      ++n;
    }
  }
}

// as, bs and constants of one tile of components, as resident tile number `slot`.
__device__ void stage_components(const Tiles& t, const Packed& packed, bool well, int64_t dims, int64_t tile, int slot,
                                 int64_t first, int width) {
  const float* const a = packed.inverse + (tile * dims + first) * kComps;
  const float* const b = (well ? packed.offset : packed.mean) + (tile * dims + first) * kComps;
  float* const as = t.as + slot * chunk_rows(dims) * kCompStride;
  float* const bs = t.bs + slot * chunk_rows(dims) * kCompStride;
  constexpr int kQuads = kComps / 4;
  for (int i = static_cast<int>(threadIdx.x); i < width * kQuads; i += kThreads) {
    const int d = i / kQuads;
    const int k = 4 * (i % kQuads);
    float av[4];
    float bv[4];
    load4(av, a + d * kComps + k);
    load4(bv, b + d * kComps + k);
    store4(as + d * kCompStride + k, av);
    store4(bs + d * kCompStride + k, bv);
  }
  if (threadIdx.x < kComps) t.constants[slot * kComps + threadIdx.x] = packed.constant[tile * kComps + threadIdx.x];
}

// logit[i][j] -= sum_d t^2 over the staged dimensions; all in base 2.
template <bool kWell>
__device__ __forceinline__ void subtract_squares(float (&logit)[8][8], const float* xs, const float* as,
                                                 const float* bs, int width, const Place& p) {
  xs += 4 * p.row_group;
  as += 4 * p.comp_group;
  bs += 4 * p.comp_group;
  DGM_UNROLL_BY(1)
  for (int d = 0; d < width; ++d) {
    float x[8];
    float a[8];
    float b[8];
    load4(x, xs + d * kRowStride);
    load4(x + 4, xs + d * kRowStride + 64);
    load4(a, as + d * kCompStride);
    load4(a + 4, as + d * kCompStride + 32);
    load4(b, bs + d * kCompStride);
    load4(b + 4, bs + d * kCompStride + 32);
    DGM_UNROLL
    for (int i = 0; i < 8; ++i) {
      DGM_UNROLL
      for (int j = 0; j < 8; ++j) {
        const float v = kWell ? fmaf(x[i], a[j], b[j]) : (x[i] - b[j]) * a[j];
        logit[i][j] = fmaf(-v, v, logit[i][j]);
      }
    }
  }
}

__device__ __forceinline__ void start_logits(float (&logit)[8][8], const float* constants, const Place& p) {
  float c[8];
  load4(c, constants + 4 * p.comp_group);
  load4(c + 4, constants + 32 + 4 * p.comp_group);
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) logit[i][j] = c[j];
  }
}

struct Chunk {
  int64_t first;
  int width;
};

// Chunk i of the dimensions when chunk `last` is visited last, so that it stays staged.
__device__ __forceinline__ Chunk chunk_of(int64_t i, int64_t last, int64_t dims) {
  const int64_t chunks = (dims + kDims - 1) / kDims;
  const int64_t c = i + 1 == chunks ? last : (i < last ? i : i + 1);
  return {c * kDims, static_cast<int>(dims - c * kDims < kDims ? dims - c * kDims : kDims)};
}

// Logits of the tile, from dimensions in shared memory (one chunk) or, if kChunked, perhaps staged
// chunk by chunk.
template <bool kWell, bool kChunked = true>
__device__ __forceinline__ void tile_logits(float (&logit)[8][8], const Tiles& t, const Packed& packed, const float* x,
                                            int64_t rows, int64_t dims, int64_t first_row, int64_t tile, int slot,
                                            int64_t last_chunk, const Place& p) {
  const int at = slot * chunk_rows(dims) * kCompStride;
  DGM_UNROLL_BY(1)
  for (int64_t i = 0; i * kDims < dims; ++i) {
    const Chunk chunk = chunk_of(i, last_chunk, dims);
    if (kChunked && dims > kDims) {
      __syncthreads();  // the chunk before this one may still be read
      stage_rows<kWell>(t, packed, x, rows, dims, first_row, chunk.first, chunk.width);
      stage_components(t, packed, kWell, dims, tile, 0, chunk.first, chunk.width);
      __syncthreads();
    }
    if (i == 0) start_logits(logit, t.constants + slot * kComps, p);
    subtract_squares<kWell>(logit, t.xs, t.as + at, t.bs + at, chunk.width, p);
  }
}

// ---------------------------------------------------------------- rows

// What makes responsibilities of a row's logits: r = weight 2^(logit - max). No weight: no mass, or a
// row that its weight turns off.
struct RowNorm {
  float max;
  float weight;
};

struct RowResult {
  RowNorm norm;
  double weighted;  // w log p(x)
};

__device__ __forceinline__ RowResult finish_row(const Peak& peak, int64_t row, const float* weights, float* y) {
  const float log_marginal = peak.log();
  const float w = weights == nullptr ? 1.0f : weights[row];
  if (y != nullptr) y[row] = log_marginal;
  if (w == 0.0f) return {{peak.max, 0.0f}, 0.0};
  const float weight = peak.sum == 0.0f ? 0.0f : w * cuda::reciprocal(peak.sum);
  return {{peak.max, weight}, static_cast<double>(w) * static_cast<double>(log_marginal)};
}

// ---------------------------------------------------------------- responsibilities

// logit becomes 2^(logit - max) of its row, factor the row's weight. True if this thread's own row,
// p.row(p.comp_group), has no weight.
__device__ __forceinline__ bool divide_by_norms(float (&logit)[8][8], float (&factor)[8], const RowNorm* norms,
                                                int64_t rows, int64_t first_row, const Place& p) {
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int64_t row = first_row + p.row(i);
    const RowNorm norm = row < rows ? norms[row] : RowNorm{0.0f, 0.0f};
    factor[i] = norm.weight;
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) logit[i][j] = exp2_fast(logit[i][j] - norm.max);
  }
  const int64_t own = first_row + p.row(p.comp_group);
  return own >= rows || norms[own].weight == 0.0f;
}

// A row of no weight may hold NaN or infinity, which 0 does not silence.
__device__ __forceinline__ void clear_row(const Tiles& t, const Place& p, int width) {
  for (int d = 0; d < width; ++d) t.xs[d * kRowStride + p.row(p.comp_group)] = 0.0f;
}

__device__ __forceinline__ void multiply(float (&r)[8][8], const float (&factor)[8]) {
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    const bool off = factor[i] == 0.0f;
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) r[i][j] = off ? 0.0f : r[i][j] * factor[i];
  }
}

__device__ __forceinline__ void store_responsibilities(const Tiles& t, const float (&r)[8][8], const Place& p) {
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    store4(t.rs + p.row(i) * kCompStride + 4 * p.comp_group, r[i]);
    store4(t.rs + p.row(i) * kCompStride + 32 + 4 * p.comp_group, r[i] + 4);
  }
}

}  // namespace

}  // namespace dgm::kernels
