// SPDX-License-Identifier: Apache-2.0
// Gaussian mixtures with diagonal covariances: log marginals, statistics, gradients, draws.
//
// Mapping    a block of 128 threads works on tiles of 128 rows x 64 components, a thread on 8 x 8 of them;
//            data, parameters and the tile's responsibilities are in shared memory (at most 64 dimensions
//            at a time), logits and sums in registers. For the moments a thread changes sides: it owns
//            8 components x 4 dimensions and visits every g-th row, g = 128 / (8 ceil(D / 4)).
// Algorithm  prepare_kernel makes a = 1 / scale and b = -a (mean - centre) of the parameters, in base 2 and
//            about a centre amid the means, and notes the largest |b|. A logit is then c - sum_d (a x + b)^2:
//            2 FMA an (n, k, d), as the expanded form would take, but with an error of |t b| 2^-24 instead
//            of b^2 2^-24. Moments are those of x about the centre, 2 FMA, while every |b| is below 5 / 0.85:
//            the shift to standardised moments then loses at most b^2 = 36 roundings. Beyond, decided on the
//            device and never seen by the host, both are taken about each mean: 3 and 4 instructions.
//            K <= 64 and D <= 64: one pass; a tile has all components, so that its own log-sums normalise it,
//            and each exponential is taken once. Else two: a pass for each row's (max, 1 / sum), then one
//            with a block for each tile of components and share of the rows, which computes the logits
//            again: the sums of 1024 x 64 x 2 moments do not fit a multiprocessor, N x K responsibilities are
//            not to be stored. That costs 6 FMA in place of 4. y_given is not used: a log marginal rounded to
//            float would bend each responsibility by |y| 2^-24, (max, 1 / sum) do not.
//            D > 64: chunks of 64 dimensions, and a block for each chunk of the moments, which computes all
//            of the logit again: for correctness at any D, not for speed.
// Traffic    reads x once a tile of components (L2), writes y; scratch (1 + 3 D) K floats, 8 bytes a row, and
//            the blocks' sums, at most 264 (2 D + 1) 64 doubles.
//            Data about 1e19 units of scale from the centre overflow the moments.
// Order      fixed. Sums run over at most 8 tiles in float, in double from there: over tiles, over
//            blocks. Equal bits run to run on any device, since the cut into blocks does not ask for it.
// Floor      on an H200 (33.5e12 lane instructions/s, 4.18e12 exp/s), 4 FMA an (n, k, d) and an exp a pair, for
//            N x K x D =           100k x 64 x 16    1M x 256 x 2    20k x 1024 x 64
//            floor                          14 us          122 us             162 us
//            issue, as counted              16 us          205 us             270 us
//            with two more launches and 85 %
//            of the issue slots, expected   25 us          245 us             325 us
//            about each mean, expected      36 us          330 us             520 us
//            Two blocks a multiprocessor: 57 KB of shared memory a block at D = 16, 109 KB at D = 64.
//            Counted by hand for a thread and tile: 136 a dimension for logits, 7 a pair for the softmax, 71 a
//            row for the moments, 12 a staged datum. Not measured. What the last case lacks to its goal
//            needs the tensor cores; the second, moments in the registers that hold the logits.
#include "kernels/diagonal_mixture.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/mixture.cuh"

#include <algorithm>
#include <cfloat>

namespace dgm::kernels {

namespace {

using cuda::Carver;
using cuda::exp2_fast;
using cuda::kAllLanes;
using cuda::kLn2;
using cuda::kLog2E;
using cuda::kWarp;
using cuda::Peak;
using cuda::SharedMemory;

constexpr int kThreads = 128;
constexpr int kRows = 128;       // rows of data in a tile
constexpr int kComps = 64;       // components in a tile
constexpr int kDims = 64;        // dimensions in shared memory at a time
constexpr int kRowStride = 132;  // between dimensions in xs: a multiple of 4, and not of 8
constexpr int kCompStride = 68;  // between dimensions in as and bs, and between rows in rs
constexpr int kFlushTiles = 8;   // tiles that are summed in float: at most 8 * 128 terms
constexpr int kPrepareThreads = 256;
constexpr int kMaxPrepareBlocks = 256;
constexpr int kSlots = 264;              // blocks that are resident at a time: two on each of 132 multiprocessors
constexpr float kScale2 = 0.849321800f;  // sqrt(log2(e) / 2): squares are then in base 2
constexpr float kMaxOffset = 5.0f;       // largest |mean - centre| / scale, times kScale2, for moments about the centre

__host__ __device__ inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// ---------------------------------------------------------------- parameters

// What prepare_kernel makes of the parameters. Tiles of 64 components, padded with components of no
// weight: entry (k, d) of a matrix is at ((k / 64) D + d) 64 + k % 64.
struct Packed {
  float* constant;  // (K'), log2 of pi_k / ((2 pi)^(D/2) prod_d scale_kd)
  float* inverse;   // (K', D), a = kScale2 / (unit scale)
  float* offset;    // (K', D), -a unit (mean - centre)
  float* mean;      // (K', D), unit mean
  float* centre;    // (D)
  float* unit;      // (D), a power of 2 near 1 / scale, in which data and means are measured: their squares
                    // would overflow otherwise
  float* worst;     // (prepare blocks), largest |offset|
  int64_t tiles;
  int prepare_blocks;
};

Packed pack(Carver& carver, const DiagonalMixture& mixture) {
  Packed packed = {};
  packed.tiles = ceil_div(mixture.components, kComps);
  const int64_t padded = packed.tiles * kComps;
  packed.prepare_blocks =
      static_cast<int>(std::min<int64_t>(ceil_div(padded, kPrepareThreads / kWarp), kMaxPrepareBlocks));
  packed.constant = carver.take<float>(padded);
  packed.inverse = carver.take<float>(padded * mixture.dims);
  packed.offset = carver.take<float>(padded * mixture.dims);
  packed.mean = carver.take<float>(padded * mixture.dims);
  packed.centre = carver.take<float>(mixture.dims);
  packed.unit = carver.take<float>(mixture.dims);
  packed.worst = carver.take<float>(packed.prepare_blocks);
  return packed;
}

// One warp a component.
__global__ void __launch_bounds__(kPrepareThreads) prepare_kernel(DiagonalMixture mixture, Packed packed) {
  SharedMemory smem;
  double* const room = smem.take<double>(kPrepareThreads / kWarp);
  float* const centre = smem.take<float>(static_cast<std::size_t>(mixture.dims));
  float* const unit = smem.take<float>(static_cast<std::size_t>(mixture.dims));
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const double log_norm = cuda::block_log_normaliser(mixture.logits, mixture.components, room);

  // Of at most 32 components: any point amid the means will do, and every block must find the same.
  const int64_t step = ceil_div(mixture.components, 32);
  for (int64_t d = threadIdx.x; d < mixture.dims; d += kPrepareThreads) {
    float sum = 0;
    float log_scales = 0;
    float count = 0;
    for (int64_t k = 0; k < mixture.components; k += step) {
      if (mixture.logits[k] == -INFINITY) continue;
      sum += mixture.mean[k * mixture.dims + d];
      log_scales += mixture.log_scale[k * mixture.dims + d];
      count += 1;
    }
    centre[d] = count > 0 ? sum / count : 0.0f;
    const float log_unit = count > 0 ? rintf(-kLog2E * log_scales / count) : 0.0f;
    unit[d] = fabsf(log_unit) <= 120.0f ? exp2f(log_unit) : 1.0f;
    if (blockIdx.x == 0) {
      packed.centre[d] = centre[d];
      packed.unit[d] = unit[d];
    }
  }
  __syncthreads();

  float worst = 0;
  const int64_t stride = int64_t{gridDim.x} * (kPrepareThreads / kWarp);
  for (int64_t k = int64_t{blockIdx.x} * (kPrepareThreads / kWarp) + threadIdx.x / kWarp; k < packed.tiles * kComps;
       k += stride) {
    const bool real = k < mixture.components;
    // The parameters of a component without weight may be anything, NaN too.
    const bool live = real && mixture.logits[k] != -INFINITY;
    double log_scales = 0;
    for (int64_t d = lane; d < mixture.dims; d += kWarp) {
      const float log_scale = live ? mixture.log_scale[k * mixture.dims + d] : 0.0f;
      const float mean = real ? mixture.mean[k * mixture.dims + d] : 0.0f;
      const float inverse = live ? kScale2 * expf(-log_scale) / unit[d] : 0.0f;
      const float offset = live ? -inverse * ((mean - centre[d]) * unit[d]) : 0.0f;
      const int64_t at = (k / kComps * mixture.dims + d) * kComps + k % kComps;
      packed.inverse[at] = inverse;
      packed.offset[at] = offset;
      packed.mean[at] = live || fabsf(mean) <= FLT_MAX ? mean * unit[d] : 0.0f;
      log_scales += static_cast<double>(log_scale);
      worst = fmaxf(worst, fabsf(offset));
    }
    log_scales = cuda::warp_sum(log_scales);
    if (lane == 0) {
      const double constant = live ? static_cast<double>(mixture.logits[k]) - log_norm - log_scales -
                                         static_cast<double>(mixture.dims) * cuda::kHalfLog2Pi
                                   : 0.0;
      packed.constant[k] = live ? static_cast<float>(constant * 1.4426950408889634) : -INFINITY;
    }
  }
  worst = cuda::block_max(worst, reinterpret_cast<float*>(room));
  if (threadIdx.x == 0) packed.worst[blockIdx.x] = worst;
}

void prepare(const DiagonalMixture& mixture, const Packed& packed, void* stream) {
  const std::size_t shared = SharedMemory::bytes<double>(kPrepareThreads / kWarp) +
                             2 * SharedMemory::bytes<float>(static_cast<std::size_t>(mixture.dims));
  cuda::launch(prepare_kernel, packed.prepare_blocks, kPrepareThreads, shared, stream, mixture, packed);
}

// Whether moments about the centre are accurate; by the whole block.
__device__ bool well_conditioned(const Packed& packed) {
  bool small = true;
  for (int i = static_cast<int>(threadIdx.x); i < packed.prepare_blocks; i += static_cast<int>(blockDim.x)) {
    small = small && packed.worst[i] <= kMaxOffset;
  }
  return __syncthreads_and(small) != 0;
}

// ---------------------------------------------------------------- a tile of 128 rows x 64 components

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

// ---------------------------------------------------------------- log marginals

struct MarginalPass {
  DiagonalMixture mixture;
  Packed packed;
  const float* x;
  int64_t rows;
  const float* weights;
  float* y;             // null: not wanted
  RowNorm* norms;       // null: not wanted
  double* totals;       // (blocks that finish rows)
  Peak* parts;          // (splits, rows) if the components are split over blocks, else null
  int64_t split_tiles;  // tiles of components a block visits
};

template <bool kWell>
__device__ void marginal_pass(const MarginalPass& args, const Tiles& t, double* room) {
  const Place p = place();
  const int64_t dims = args.mixture.dims;
  const int64_t first_tile = int64_t{blockIdx.y} * args.split_tiles;
  const int64_t end_tile =
      first_tile + args.split_tiles < args.packed.tiles ? first_tile + args.split_tiles : args.packed.tiles;
  const bool resident = resident_tiles(args.split_tiles, dims) == args.split_tiles && dims <= kDims;
  if (resident) {
    for (int64_t tile = first_tile; tile < end_tile; ++tile) {
      stage_components(t, args.packed, kWell, dims, tile, static_cast<int>(tile - first_tile), 0,
                       static_cast<int>(dims));
    }
  }
  double total = 0;
  for (int64_t first_row = int64_t{blockIdx.x} * kRows; first_row < args.rows;
       first_row += int64_t{gridDim.x} * kRows) {
    float max[8];
    float sum[8];
    DGM_UNROLL
    for (int i = 0; i < 8; ++i) {
      max[i] = cuda::kLowest;
      sum[i] = 0;
    }
    if (dims <= kDims) {
      __syncthreads();
      stage_rows<kWell>(t, args.packed, args.x, args.rows, dims, first_row, 0, static_cast<int>(dims));
    }
    for (int64_t tile = first_tile; tile < end_tile; ++tile) {
      const int slot = resident ? static_cast<int>(tile - first_tile) : 0;
      if (dims <= kDims) {
        if (!resident) {
          __syncthreads();
          stage_components(t, args.packed, kWell, dims, tile, 0, 0, static_cast<int>(dims));
        }
        if (!resident || tile == first_tile) __syncthreads();
      }
      float logit[8][8];
      tile_logits<kWell>(logit, t, args.packed, args.x, args.rows, dims, first_row, tile, slot, 0, p);
      DGM_UNROLL
      for (int i = 0; i < 8; ++i) {
        float peak = max[i];
        DGM_UNROLL
        for (int j = 0; j < 8; ++j) peak = fmaxf(peak, logit[i][j]);
        sum[i] *= exp2_fast(max[i] - peak);
        DGM_UNROLL
        for (int j = 0; j < 8; ++j) sum[i] += exp2_fast(logit[i][j] - peak);
        max[i] = peak;
      }
    }
    const Peak peak = cuda::merge_eight(max, sum, p.lane);
    const int64_t row = first_row + p.row(p.comp_group);
    if (row < args.rows) {
      if (args.parts != nullptr) {
        args.parts[int64_t{blockIdx.y} * args.rows + row] = peak;
      } else {
        const RowResult result = finish_row(peak, row, args.weights, args.y);
        if (args.norms != nullptr) args.norms[row] = result.norm;
        total += result.weighted;
      }
    }
  }
  if (args.parts == nullptr && args.totals != nullptr) {
    total = cuda::block_sum(total, room);
    if (threadIdx.x == 0) args.totals[blockIdx.x] = total;
  }
}

__global__ void __launch_bounds__(kThreads, 3) marginal_kernel(MarginalPass args) {
  SharedMemory smem;
  double* const room = smem.take<double>(kThreads / kWarp);
  const Tiles t = take_tiles(smem, args.split_tiles, args.mixture.dims, false);
  if (well_conditioned(args.packed)) {
    marginal_pass<true>(args, t, room);
  } else {
    marginal_pass<false>(args, t, room);
  }
}

// One thread a row: merges the parts that blocks of different components left.
__global__ void __launch_bounds__(kThreads) finish_rows_kernel(MarginalPass args, int splits) {
  SharedMemory smem;
  double* const room = smem.take<double>(kThreads / kWarp);
  double total = 0;
  for (int64_t row = int64_t{blockIdx.x} * kThreads + threadIdx.x; row < args.rows;
       row += int64_t{gridDim.x} * kThreads) {
    Peak peak;
    for (int split = 0; split < splits; ++split) peak = merge(peak, args.parts[split * args.rows + row]);
    const RowResult result = finish_row(peak, row, args.weights, args.y);
    if (args.norms != nullptr) args.norms[row] = result.norm;
    total += result.weighted;
  }
  total = cuda::block_sum(total, room);
  if (args.totals != nullptr && threadIdx.x == 0) args.totals[blockIdx.x] = total;
}

constexpr std::size_t kRoomBytes = SharedMemory::bytes<double>(kThreads / kWarp);

// How the marginal pass is cut into blocks. Few rows against many components: the components are
// split, so that every multiprocessor has work.
struct MarginalPlan {
  int row_blocks;
  int splits;
  int64_t split_tiles;
  int finish_blocks;  // that leave a total
};

MarginalPlan marginal_plan(const DiagonalMixture& mixture, int64_t rows) {
  const int64_t tiles = ceil_div(mixture.components, kComps);
  const int64_t row_tiles = std::max<int64_t>(1, ceil_div(rows, kRows));
  const int64_t wanted = row_tiles >= 4 * kSlots ? 1 : ceil_div(4 * kSlots, row_tiles);
  int64_t splits = std::min(tiles, wanted);
  // A split that has under 4096 multiply-adds a thread costs more to stage and merge than it gives.
  splits = std::max<int64_t>(1, std::min(splits, tiles * mixture.dims / 32));
  splits = std::min<int64_t>(splits, 65535);
  MarginalPlan plan = {};
  plan.split_tiles = ceil_div(tiles, splits);
  plan.splits = static_cast<int>(ceil_div(tiles, plan.split_tiles));
  plan.row_blocks = static_cast<int>(std::min<int64_t>(row_tiles, plan.splits > 1 ? 65535 : 3 * 132));
  plan.finish_blocks = plan.splits > 1 ? static_cast<int>(std::min<int64_t>(row_tiles, kSlots)) : plan.row_blocks;
  return plan;
}

// Scratch of the marginal pass, and its launches.
struct Marginals {
  Packed packed;
  RowNorm* norms;
  double* totals;
  Peak* parts;
  MarginalPlan plan;

  Marginals(Carver& carver, const DiagonalMixture& mixture, int64_t rows, bool with_norms)
      : packed(pack(carver, mixture)), plan(marginal_plan(mixture, rows)) {
    norms = with_norms ? carver.take<RowNorm>(rows) : nullptr;
    totals = carver.take<double>(plan.finish_blocks);
    parts = plan.splits > 1 ? carver.take<Peak>(plan.splits * rows) : nullptr;
  }

  // After prepare(). y and total may be null.
  void launch(const DiagonalMixture& mixture, const float* x, int64_t rows, const float* weights, float* y,
              void* stream) const {
    const MarginalPass pass = {mixture, packed, x, rows, weights, y, norms, totals, parts, plan.split_tiles};
    const dim3 grid(static_cast<unsigned>(plan.row_blocks), static_cast<unsigned>(plan.splits));
    cuda::launch(marginal_kernel, grid, kThreads, kRoomBytes + tile_bytes(plan.split_tiles, mixture.dims, false),
                 stream, pass);
    if (plan.splits > 1) {
      cuda::launch(finish_rows_kernel, plan.finish_blocks, kThreads, kRoomBytes, stream, pass, plan.splits);
    }
  }
};

// ---------------------------------------------------------------- statistics

enum class Source {
  whole,  // all components are in the tile, and dims <= kDims: its own log-sums normalise it
  norms,  // normalised by an earlier pass over all components
  given,  // components are given, with weights
};

struct StatisticsPass {
  DiagonalMixture mixture;
  Packed packed;
  const float* x;
  int64_t rows;
  const float* weights;
  float* y;
  RowNorm* norms;    // read by Source::norms; written by Source::whole unless null
  double* totals;    // (splits), Source::whole
  const int32_t* z;  // Source::given
  const float* g;
  int64_t samples;
  double* partials;  // (splits, tiles, slices, partial_size)
};

// A block's sums: 32 of first and 32 of second moments for each of 8 * (dims / 4) threads, then s0.
__host__ __device__ inline int dim_threads(int64_t dims) { return chunk_rows(dims) / 4; }
__host__ __device__ inline int64_t partial_size(int64_t dims) { return int64_t{64} * 8 * dim_threads(dims) + kComps; }

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

// One-hot responsibilities of a tile; clears x of rows whose samples weigh nothing.
__device__ __forceinline__ void given_responsibilities(const StatisticsPass& args, const Tiles& t, int64_t first_row,
                                                       int64_t tile, int width) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kCompStride; i += kThreads) t.rs[i] = 0.0f;
  __syncthreads();
  const int n = static_cast<int>(threadIdx.x);  // kThreads == kRows
  const int64_t row = first_row + n;
  bool any = false;
  if (row < args.rows) {
    for (int64_t s = 0; s < args.samples; ++s) {
      const float g = args.g[row * args.samples + s];
      const int64_t k = int64_t{args.z[row * args.samples + s]} - tile * kComps;
      // A constant of -inf is a component without weight, or padding.
      if (g == 0.0f || k < 0 || k >= kComps || args.packed.constant[tile * kComps + k] == -INFINITY) continue;
      t.rs[n * kCompStride + k] += g;
      any = true;
    }
  }
  if (!any) {
    for (int d = 0; d < width; ++d) t.xs[d * kRowStride + n] = 0.0f;
  }
}

// Adds the tile's moments: of x about the centre (kWell), or of x - mean. Of a thread's four dimensions,
// dim_thread + i dim_count, the first kEach.
template <bool kWell, int kEach>
__device__ __forceinline__ void add_moments(float (&s1)[4][8], float (&s2)[4][8], const Tiles& t, int group, int groups,
                                            int dim_thread, int dim_count, const Place& p) {
  float m[kEach][8];
  if constexpr (!kWell) {
    DGM_UNROLL
    for (int i = 0; i < kEach; ++i) {
      const float* const from = t.bs + (i * dim_count + dim_thread) * kCompStride + 4 * p.comp_group;
      load4(m[i], from);
      load4(m[i] + 4, from + 32);
    }
  }
  for (int quad = group; quad < kRows / 4; quad += groups) {
    float x[kEach][4];
    DGM_UNROLL
    for (int i = 0; i < kEach; ++i) load4(x[i], t.xs + (i * dim_count + dim_thread) * kRowStride + 4 * quad);
    DGM_UNROLL
    for (int n = 0; n < 4; ++n) {
      float r[8];
      load4(r, t.rs + (4 * quad + n) * kCompStride + 4 * p.comp_group);
      load4(r + 4, t.rs + (4 * quad + n) * kCompStride + 32 + 4 * p.comp_group);
      DGM_UNROLL
      for (int i = 0; i < kEach; ++i) {
        const float xi = x[i][n];
        const float square = xi * xi;
        DGM_UNROLL
        for (int j = 0; j < 8; ++j) {
          if constexpr (kWell) {
            s1[i][j] = fmaf(r[j], xi, s1[i][j]);
            s2[i][j] = fmaf(r[j], square, s2[i][j]);
          } else {
            const float v = xi - m[i][j];
            const float u = r[j] * v;
            s1[i][j] += u;
            s2[i][j] = fmaf(u, v, s2[i][j]);
          }
        }
      }
    }
  }
}

template <bool kWell, Source kSource>
__device__ void statistics_pass(const StatisticsPass& args, const Tiles& t, double* room, double* row_totals,
                                float* s0_room) {
  const Place p = place();
  const int thread = static_cast<int>(threadIdx.x);
  const int64_t dims = args.mixture.dims;
  const int64_t tile = blockIdx.y;
  const Chunk slice = {
      int64_t{blockIdx.z} * kDims,
      static_cast<int>(dims - int64_t{blockIdx.z} * kDims < kDims ? dims - int64_t{blockIdx.z} * kDims : kDims)};
  float* const s0 = s0_room + thread;  // one float for each of its components, kThreads apart
  const int dim_count = dim_threads(dims);
  const int group_threads = 8 * dim_count;
  const int groups = kThreads / group_threads;
  const int group = thread / group_threads;  // >= groups: idle
  const int dim_thread = thread % group_threads / 8;
  double* const partial =
      args.partials + ((int64_t{blockIdx.x} * args.packed.tiles + tile) * gridDim.z + blockIdx.z) * partial_size(dims);

  float s1[4][8];
  float s2[4][8];
  const auto clear = [&] {
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) {
      s0[j * kThreads] = 0;
      DGM_UNROLL
      for (int i = 0; i < 4; ++i) s1[i][j] = s2[i][j] = 0;
    }
  };
  clear();
  if constexpr (kSource == Source::whole) row_totals[thread] = 0;
  bool first_flush = true;

  // Adds the threads' sums to the block's, in double.
  const auto flush = [&] {
    __syncthreads();  // rs may still be read
    if (group < groups) {
      DGM_UNROLL
      for (int i = 0; i < 4; ++i) {
        DGM_UNROLL
        for (int j = 0; j < 8; ++j) {
          t.rs[(i * 8 + j) * kThreads + thread] = s1[i][j];
          t.rs[(32 + i * 8 + j) * kThreads + thread] = s2[i][j];
        }
      }
    }
    __syncthreads();
    for (int o = thread; o < 64 * group_threads; o += kThreads) {
      double sum = first_flush ? 0.0 : partial[o];
      const float* const from = t.rs + o / group_threads * kThreads + o % group_threads;
      for (int i = 0; i < groups; ++i) sum += static_cast<double>(from[i * group_threads]);
      partial[o] = sum;
    }
    if (thread < kComps) {
      // Component c is j = c % 4 (+ 4 in the upper half) of group c % 32 / 4.
      const int j = thread % 4 + (thread < 32 ? 0 : 4);
      double* const to = partial + 64 * group_threads + thread;
      double sum = first_flush ? 0.0 : *to;
      for (int i = 0; i < 16; ++i) sum += static_cast<double>(s0_room[j * kThreads + i * 8 + thread % 32 / 4]);
      *to = sum;
    }
    __syncthreads();
    first_flush = false;
    clear();
  };

  if (dims <= kDims) stage_components(t, args.packed, kWell, dims, tile, 0, 0, static_cast<int>(dims));
  int visited = 0;
  for (int64_t first_row = int64_t{blockIdx.x} * kRows; first_row < args.rows;
       first_row += int64_t{gridDim.x} * kRows) {
    __syncthreads();
    if (dims <= kDims || kSource == Source::given) {
      stage_rows<kWell>(t, args.packed, args.x, args.rows, dims, first_row, slice.first, slice.width);
      if (dims > kDims) stage_components(t, args.packed, kWell, dims, tile, 0, slice.first, slice.width);
      __syncthreads();
    }
    if constexpr (kSource == Source::given) {
      given_responsibilities(args, t, first_row, tile, slice.width);
      __syncthreads();
      float mass[8] = {};
      DGM_UNROLL
      for (int i = 0; i < 8; ++i) {
        float r[8];
        load4(r, t.rs + p.row(i) * kCompStride + 4 * p.comp_group);
        load4(r + 4, t.rs + p.row(i) * kCompStride + 32 + 4 * p.comp_group);
        DGM_UNROLL
        for (int j = 0; j < 8; ++j) mass[j] += r[j];
      }
      DGM_UNROLL
      for (int j = 0; j < 8; ++j) s0[j * kThreads] += mass[j];
    } else {
      float logit[8][8];
      tile_logits<kWell, kSource != Source::whole>(logit, t, args.packed, args.x, args.rows, dims, first_row, tile, 0,
                                                   blockIdx.z, p);
      float factor[8];
      bool row_off = false;  // of row p.row(p.comp_group)
      if constexpr (kSource == Source::whole) {
        float max[8];
        float sum[8];
        DGM_UNROLL
        for (int i = 0; i < 8; ++i) {
          max[i] = cuda::kLowest;
          sum[i] = 0;
          DGM_UNROLL
          for (int j = 0; j < 8; ++j) max[i] = fmaxf(max[i], logit[i][j]);
          DGM_UNROLL
          for (int j = 0; j < 8; ++j) {
            logit[i][j] = exp2_fast(logit[i][j] - max[i]);
            sum[i] += logit[i][j];
          }
        }
        const Peak peak = cuda::merge_eight(max, sum, p.lane);
        // Lane l % 8 = i has row i's.
        const int64_t row = first_row + p.row(p.comp_group);
        RowNorm norm = {peak.max, 0.0f};
        if (row < args.rows) {
          const RowResult result = finish_row(peak, row, args.weights, blockIdx.z == 0 ? args.y : nullptr);
          norm = result.norm;
          if (args.norms != nullptr && blockIdx.z == 0) args.norms[row] = norm;
          row_totals[thread] += result.weighted;
        }
        DGM_UNROLL
        for (int i = 0; i < 8; ++i) {
          const int owner = (p.lane & 24) + i;
          factor[i] =
              exp2_fast(max[i] - __shfl_sync(kAllLanes, norm.max, owner)) * __shfl_sync(kAllLanes, norm.weight, owner);
        }
        row_off = norm.weight == 0.0f;
      } else {
        row_off = divide_by_norms(logit, factor, args.norms, args.rows, first_row, p);
      }
      __syncthreads();  // xs may still be read
      if (row_off) clear_row(t, p, slice.width);
      multiply(logit, factor);
      store_responsibilities(t, logit, p);
      DGM_UNROLL
      for (int j = 0; j < 8; ++j) {
        float mass = 0;
        DGM_UNROLL
        for (int i = 0; i < 8; ++i) mass += logit[i][j];
        s0[j * kThreads] += mass;
      }
    }
    __syncthreads();
    if (group < groups) {
      if (dims <= 2) {
        add_moments<kWell, 2>(s1, s2, t, group, groups, dim_thread, dim_count, p);
      } else {
        add_moments<kWell, 4>(s1, s2, t, group, groups, dim_thread, dim_count, p);
      }
    }
    if (++visited == kFlushTiles) {
      flush();
      visited = 0;
    }
  }
  if (visited > 0 || first_flush) flush();
  if constexpr (kSource == Source::whole) {
    const double total = cuda::block_sum(row_totals[thread], room);
    if (threadIdx.x == 0 && blockIdx.z == 0) args.totals[blockIdx.x] = total;
  }
}

template <Source kSource>
__global__ void __launch_bounds__(kThreads, 2) statistics_kernel(StatisticsPass args) {
  SharedMemory smem;
  double* const room = smem.take<double>(kThreads / kWarp);
  // In registers these would be what spills.
  double* const row_totals = smem.take<double>(kThreads);
  float* const s0_room = smem.take<float>(8 * kThreads);
  const Tiles t = take_tiles(smem, 1, args.mixture.dims, true);
  if (well_conditioned(args.packed)) {
    statistics_pass<true, kSource>(args, t, room, row_totals, s0_room);
  } else {
    statistics_pass<false, kSource>(args, t, room, row_totals, s0_room);
  }
}

struct StatisticsFinish {
  DiagonalMixture mixture;
  Packed packed;
  const double* partials;
  int splits;
  int slices;
  const double* totals;
  int total_count;
  double* s0;
  double* s1;
  double* s2;
  float* total;  // null: not wanted
};

constexpr int kFinishThreads = 256;
constexpr int kFinishOutputs = 32;  // of a block; eight warps share the splits

// Sums of the blocks' sums, made into standardised moments. Blocks 0..moment_blocks-1: s1 and s2; then
// s0; the last block: the total.
__global__ void __launch_bounds__(kFinishThreads) finish_statistics_kernel(StatisticsFinish args, int moment_blocks) {
  SharedMemory smem;
  double* const room = smem.take<double>(3 * kFinishThreads);
  const bool well = well_conditioned(args.packed);

  if (blockIdx.x == gridDim.x - 1) {
    double sum = 0;
    for (int i = static_cast<int>(threadIdx.x); i < args.total_count; i += kFinishThreads) sum += args.totals[i];
    sum = cuda::block_sum(sum, room);
    if (threadIdx.x == 0 && args.total != nullptr) *args.total = static_cast<float>(sum);
    return;
  }

  const int64_t dims = args.mixture.dims;
  const int64_t size = partial_size(dims);
  const int group_threads = 8 * dim_threads(dims);
  const int64_t moments = int64_t{32} * group_threads;  // of a block of the statistics kernel
  const int64_t stride = args.packed.tiles * args.slices * size;
  const bool for_s0 = static_cast<int>(blockIdx.x) >= moment_blocks;
  const int slot = static_cast<int>(threadIdx.x) % kFinishOutputs;
  const int part = static_cast<int>(threadIdx.x) / kFinishOutputs;
  const int64_t output = int64_t{for_s0 ? blockIdx.x - moment_blocks : blockIdx.x} * kFinishOutputs + slot;

  int64_t k = output;
  int64_t d = 0;
  int64_t at = 0;   // of the first moment in the first split's partials
  int64_t at0 = 0;  // of s0
  bool wanted = false;
  if (for_s0) {
    wanted = k < args.mixture.components;
    at0 = k / kComps * args.slices * size + 2 * moments + k % kComps;
  } else {
    const int64_t cell = output / moments;  // tile * slices + slice
    const int a = static_cast<int>(output % moments) / group_threads;
    const int rest = static_cast<int>(output % moments) % group_threads;
    const int j = a % 8;
    k = cell / args.slices * kComps + (j < 4 ? 0 : 28) + 4 * (rest % 8) + j;
    d = cell % args.slices * kDims + a / 8 * dim_threads(dims) + rest / 8;
    wanted = k < args.mixture.components && d < dims;
    at = cell * size + output % moments;
    at0 = cell * size + 2 * moments + k % kComps;
  }
  double sum0 = 0;
  double sum1 = 0;
  double sum2 = 0;
  if (wanted) {
    DGM_UNROLL_BY(4)
    for (int split = part; split < args.splits; split += kFinishThreads / kFinishOutputs) {
      sum0 += args.partials[split * stride + at0];
      if (!for_s0) {
        sum1 += args.partials[split * stride + at];
        sum2 += args.partials[split * stride + at + moments];
      }
    }
  }
  room[threadIdx.x] = sum0;
  room[kFinishThreads + threadIdx.x] = sum1;
  room[2 * kFinishThreads + threadIdx.x] = sum2;
  __syncthreads();
  if (part != 0 || !wanted) return;
  for (int i = kFinishOutputs; i < kFinishThreads; i += kFinishOutputs) {
    sum0 += room[i + slot];
    sum1 += room[kFinishThreads + i + slot];
    sum2 += room[2 * kFinishThreads + i + slot];
  }
  if (for_s0) {
    args.s0[k] = sum0;
    return;
  }
  const int64_t to = k * dims + d;
  if (sum0 == 0 && sum1 == 0 && sum2 == 0) {  // scale and mean may be anything
    args.s1[to] = 0;
    args.s2[to] = 0;
    return;
  }
  const double unit = static_cast<double>(args.packed.unit[d]);
  const double inverse = exp(-static_cast<double>(args.mixture.log_scale[to])) / unit;
  if (well) {
    const double m = (static_cast<double>(args.mixture.mean[to]) - static_cast<double>(args.packed.centre[d])) * unit;
    sum2 += m * (m * sum0 - 2 * sum1);
    sum1 -= m * sum0;
  }
  args.s1[to] = sum1 * inverse;
  args.s2[to] = sum2 * inverse * inverse;
}

// ---------------------------------------------------------------- gradient by the data

struct RowPass {
  DiagonalMixture mixture;
  Packed packed;
  const float* x;
  int64_t rows;
  const RowNorm* norms;
  float* out;  // dx (N, D) or r (N, K)
};

// dx = -sum_k r (x - mean) / scale^2. Rows of a thread: rg + 16 i; dimensions: dg + 8 i of the slice.
template <bool kWell>
__device__ void data_gradient_pass(const RowPass& args, const Tiles& t) {
  const Place p = place();
  const int64_t dims = args.mixture.dims;
  const int64_t first_dim = int64_t{blockIdx.y} * kDims;
  const int width = static_cast<int>(dims - first_dim < kDims ? dims - first_dim : kDims);
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  float sum[8][8];  // (dimension, row)
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    DGM_UNROLL
    for (int n = 0; n < 8; ++n) sum[i][n] = 0;
  }
  for (int64_t tile = 0; tile < args.packed.tiles; ++tile) {
    if (dims <= kDims) {
      __syncthreads();
      // The rows too, again: those without weight were cleared.
      stage_rows<kWell>(t, args.packed, args.x, args.rows, dims, first_row, 0, width);
      stage_components(t, args.packed, kWell, dims, tile, 0, 0, width);
      __syncthreads();
    }
    {
      float logit[8][8];
      float factor[8];
      tile_logits<kWell>(logit, t, args.packed, args.x, args.rows, dims, first_row, tile, 0, blockIdx.y, p);
      const bool row_off = divide_by_norms(logit, factor, args.norms, args.rows, first_row, p);
      __syncthreads();  // xs may still be read
      if (row_off) clear_row(t, p, width);
      multiply(logit, factor);
      store_responsibilities(t, logit, p);
    }
    __syncthreads();
    DGM_UNROLL
    for (int i = 0; i < 8; ++i) {
      const int d = p.comp_group + 8 * i;
      if (d < width) {
        float x[8];
        DGM_UNROLL
        for (int n = 0; n < 8; ++n) x[n] = t.xs[d * kRowStride + p.row_group + 16 * n];
        DGM_UNROLL_BY(1)
        for (int k = 0; k < kComps; k += 4) {
          float a[4];
          float b[4];
          load4(a, t.as + d * kCompStride + k);
          load4(b, t.bs + d * kCompStride + k);
          DGM_UNROLL
          for (int n = 0; n < 8; ++n) {
            float r[4];
            load4(r, t.rs + (p.row_group + 16 * n) * kCompStride + k);
            DGM_UNROLL
            for (int c = 0; c < 4; ++c) {
              const float v = kWell ? fmaf(x[n], a[c], b[c]) : (x[n] - b[c]) * a[c];
              sum[i][n] = fmaf(r[c] * a[c], v, sum[i][n]);
            }
          }
        }
      }
    }
  }
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    const int d = p.comp_group + 8 * i;
    DGM_UNROLL
    for (int n = 0; n < 8; ++n) {
      const int64_t row = first_row + p.row_group + 16 * n;
      if (d < width && row < args.rows) {
        args.out[row * dims + first_dim + d] = -2 * kLn2 * args.packed.unit[first_dim + d] * sum[i][n];
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads, 2) data_gradient_kernel(RowPass args) {
  SharedMemory smem;
  const Tiles t = take_tiles(smem, 1, args.mixture.dims, true);
  if (well_conditioned(args.packed)) {
    data_gradient_pass<true>(args, t);
  } else {
    data_gradient_pass<false>(args, t);
  }
}

// ---------------------------------------------------------------- responsibilities

template <bool kWell>
__device__ void responsibility_pass(const RowPass& args, const Tiles& t) {
  const Place p = place();
  const int64_t dims = args.mixture.dims;
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const int64_t tile = blockIdx.y;
  if (dims <= kDims) {
    stage_rows<kWell>(t, args.packed, args.x, args.rows, dims, first_row, 0, static_cast<int>(dims));
    stage_components(t, args.packed, kWell, dims, tile, 0, 0, static_cast<int>(dims));
    __syncthreads();
  }
  float logit[8][8];
  float factor[8];
  tile_logits<kWell>(logit, t, args.packed, args.x, args.rows, dims, first_row, tile, 0, 0, p);
  (void)divide_by_norms(logit, factor, args.norms, args.rows, first_row, p);
  multiply(logit, factor);
  DGM_UNROLL
  for (int i = 0; i < 8; ++i) {
    DGM_UNROLL
    for (int j = 0; j < 8; ++j) {
      const int64_t row = first_row + p.row(i);
      const int64_t k = tile * kComps + p.comp(j);
      if (row < args.rows && k < args.mixture.components) args.out[row * args.mixture.components + k] = logit[i][j];
    }
  }
}

__global__ void __launch_bounds__(kThreads, 3) responsibility_kernel(RowPass args) {
  SharedMemory smem;
  const Tiles t = take_tiles(smem, 1, args.mixture.dims, false);
  if (well_conditioned(args.packed)) {
    responsibility_pass<true>(args, t);
  } else {
    responsibility_pass<false>(args, t);
  }
}

// ---------------------------------------------------------------- sampling

struct PosteriorPass {
  DiagonalMixturePosteriorSample op;
  Packed packed;
  const RowNorm* norms;
};

// One warp a row. Each step is 32 components, whose masses cuda::Inversion scans.
__global__ void __launch_bounds__(kThreads, 5) posterior_kernel(PosteriorPass args) {
  const bool well = well_conditioned(args.packed);
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t dims = args.op.mixture.dims;
  const float* const offsets = well ? args.packed.offset : args.packed.mean;
  for (int64_t row = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp; row < args.op.rows;
       row += int64_t{gridDim.x} * (kThreads / kWarp)) {
    const RowNorm norm = args.norms[row];
    const auto datum = static_cast<uint64_t>(args.op.data == nullptr ? row : args.op.data[row]);
    for (int64_t first = 0; first < args.op.samples; first += kWarp) {
      const int count = static_cast<int>(args.op.samples - first < kWarp ? args.op.samples - first : kWarp);
      const float uniform = cuda::draw_uniform(args.op.draws, datum, first + lane);
      // weight is 1 / sum; 0 for a row of no mass, NaN for one of NaN.
      cuda::Inversion inversion(uniform * cuda::reciprocal(norm.weight), norm.weight > 0.0f && lane < count);
      for (int64_t base = 0; base < args.packed.tiles * kComps && inversion.searching(); base += kWarp) {
        const int64_t k = base + lane;
        const int64_t at = k / kComps * dims * kComps + k % kComps;
        float logit = args.packed.constant[k];
        for (int64_t d = 0; d < dims; ++d) {
          const float datum_d = args.op.x[row * dims + d];
          const float x = well ? measured<true>(args.packed, datum_d, d) : measured<false>(args.packed, datum_d, d);
          const float a = args.packed.inverse[at + d * kComps];
          const float b = offsets[at + d * kComps];
          const float v = well ? fmaf(x, a, b) : (x - b) * a;
          logit = fmaf(-v, v, logit);
        }
        inversion.add(exp2_fast(logit - norm.max), base, count);
      }
      if (lane < count) args.op.z[row * args.op.samples + first + lane] = inversion.index();
    }
  }
}

// ---------------------------------------------------------------- joint

// `lanes` threads, a power of 2, share an item.
__global__ void __launch_bounds__(kThreads) joint_kernel(DiagonalMixtureJoint args, Packed packed, int lanes) {
  const int64_t dims = args.mixture.dims;
  const int64_t items = args.rows * args.samples;
  const int lane = static_cast<int>(threadIdx.x) % lanes;
  const int per_block = kThreads / lanes;
  for (int64_t first = int64_t{blockIdx.x} * per_block; first < items; first += int64_t{gridDim.x} * per_block) {
    const int64_t item = first + static_cast<int>(threadIdx.x) / lanes;
    float squares = 0;
    int64_t k = -1;
    if (item < items) {
      k = args.z[item];
      if (k >= args.mixture.components) k = -1;
      if (k >= 0) {
        for (int64_t d = lane; d < dims; d += lanes) {
          const float inverse = expf(-args.mixture.log_scale[k * dims + d]);
          const float v = (args.x[item / args.samples * dims + d] - args.mixture.mean[k * dims + d]) * inverse;
          squares = fmaf(v, v, squares);
        }
      }
    }
    for (int shift = lanes / 2; shift > 0; shift /= 2) squares += __shfl_xor_sync(kAllLanes, squares, shift);
    if (item < items && lane == 0) {
      const float constant = k < 0 ? NAN : packed.constant[k];
      // Without weight the parameters may be NaN, and the density is 0 all the same.
      args.y[item] = constant == -INFINITY ? constant : fmaf(constant, kLn2, -0.5f * squares);
    }
  }
}

__global__ void __launch_bounds__(kThreads) joint_data_gradient_kernel(DiagonalMixtureJointStatistics args) {
  const int64_t dims = args.mixture.dims;
  const int64_t count = args.rows * dims;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < count; i += int64_t{gridDim.x} * kThreads) {
    const int64_t row = i / dims;
    const int64_t d = i % dims;
    float sum = 0;
    for (int64_t s = 0; s < args.samples; ++s) {
      const float g = args.g[row * args.samples + s];
      const int64_t k = args.z[row * args.samples + s];
      if (g == 0.0f || k < 0 || k >= args.mixture.components || args.mixture.logits[k] == -INFINITY) continue;
      const float inverse = expf(-args.mixture.log_scale[k * dims + d]);
      sum = fmaf(g * inverse, (args.mixture.mean[k * dims + d] - args.x[i]) * inverse, sum);
    }
    args.dx[i] = sum;
  }
}

// ---------------------------------------------------------------- ancestral sampling

// A thread makes four dimensions of a datum from one block of words.
__global__ void __launch_bounds__(kThreads) ancestral_kernel(DiagonalMixtureAncestral args, const double* cumulative) {
  const int64_t dims = args.mixture.dims;
  const int64_t quads = (dims + 3) / 4;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.rows * quads;
       i += int64_t{gridDim.x} * kThreads) {
    const int64_t n = i / quads;
    const int64_t quad = i % quads;
    const int64_t k =
        cuda::invert(cumulative, args.mixture.components, cuda::draw_uniform(args.draws, static_cast<uint64_t>(n), 0));
    if (quad == 0) args.z[n] = static_cast<int32_t>(k);
    float normals[4];
    cuda::draw_normals(args.draws, static_cast<uint64_t>(n), static_cast<uint32_t>(1 + quad), normals);
    DGM_UNROLL
    for (int j = 0; j < 4; ++j) {
      const int64_t d = 4 * quad + j;
      if (d >= dims) continue;
      args.x[n * dims + d] =
          k < 0 ? NAN : fmaf(expf(args.mixture.log_scale[k * dims + d]), normals[j], args.mixture.mean[k * dims + d]);
    }
  }
}

// ---------------------------------------------------------------- gradients of the parameters

__global__ void __launch_bounds__(kFinishThreads) gradient_kernel(DiagonalMixtureGradients args) {
  const int64_t count = args.mixture.components * args.mixture.dims;
  const double upstream = args.upstream == nullptr ? 1.0 : static_cast<double>(*args.upstream);
  for (int64_t i = int64_t{blockIdx.x} * kFinishThreads + threadIdx.x; i < count;
       i += int64_t{gridDim.x} * kFinishThreads) {
    if (args.d_mean != nullptr) {
      const double s1 = args.s1[i];
      const double scale = s1 == 0 ? 1.0 : exp(static_cast<double>(args.mixture.log_scale[i]));
      args.d_mean[i] = static_cast<float>(upstream * (s1 / scale));
    }
    if (args.d_log_scale != nullptr) {
      args.d_log_scale[i] = static_cast<float>(upstream * (args.s2[i] - args.s0[i / args.mixture.dims]));
    }
  }
}

// ---------------------------------------------------------------- scratch and launches

struct StatisticsPlan {
  int splits;
  int slices;
  double* partials;

  StatisticsPlan(Carver& carver, const DiagonalMixture& mixture, int64_t rows) {
    slices = static_cast<int>(ceil_div(mixture.dims, kDims));
    const int64_t cells = ceil_div(mixture.components, kComps) * slices;
    const int64_t row_tiles = std::max<int64_t>(1, ceil_div(rows, kRows));
    splits = static_cast<int>(std::min(row_tiles, std::max<int64_t>(1, (cells <= 66 ? kSlots : 4 * kSlots) / cells)));
    partials = carver.take<double>(splits * cells * partial_size(mixture.dims));
  }

  template <Source kSource>
  void launch(const StatisticsPass& pass, void* stream) const {
    const dim3 grid(static_cast<unsigned>(splits), static_cast<unsigned>(pass.packed.tiles),
                    static_cast<unsigned>(slices));
    cuda::launch(statistics_kernel<kSource>, grid, kThreads,
                 kRoomBytes + SharedMemory::bytes<double>(kThreads) + SharedMemory::bytes<float>(8 * kThreads) +
                     tile_bytes(1, pass.mixture.dims, true),
                 stream, pass);
  }

  void finish(const DiagonalMixture& mixture, const Packed& packed, const double* totals, int total_count, double* s0,
              double* s1, double* s2, float* total, void* stream) const {
    const StatisticsFinish args = {mixture, packed, partials, splits, slices, totals, total_count, s0, s1, s2, total};
    const int64_t moments = packed.tiles * slices * 32 * 8 * dim_threads(mixture.dims);
    const int64_t moment_blocks = ceil_div(moments, kFinishOutputs);
    const int64_t blocks = moment_blocks + ceil_div(mixture.components, kFinishOutputs) + 1;
    cuda::launch(finish_statistics_kernel, static_cast<unsigned>(blocks), kFinishThreads,
                 SharedMemory::bytes<double>(3 * kFinishThreads), stream, args, static_cast<int>(moment_blocks));
  }
};

unsigned row_blocks(int64_t rows) { return static_cast<unsigned>(ceil_div(rows, kRows)); }

struct StatisticsScratch {
  Carver carver;
  Marginals marginals;
  StatisticsPlan plan;
  double* totals;

  StatisticsScratch(void* base, const DiagonalMixture& mixture, int64_t rows)
      : carver(base), marginals(carver, mixture, rows, true), plan(carver, mixture, rows) {
    totals = carver.take<double>(plan.splits);
  }
};

struct RowScratch {
  Carver carver;
  Marginals marginals;

  RowScratch(void* base, const DiagonalMixture& mixture, int64_t rows, bool with_norms)
      : carver(base), marginals(carver, mixture, rows, with_norms) {}
};

}  // namespace

std::size_t cuda_scratch_bytes(const DiagonalMixtureMarginal& args) {
  return RowScratch(nullptr, args.mixture, args.rows, false).carver.bytes();
}

void run_cuda(const DiagonalMixtureMarginal& args, void* stream) {
  if (args.rows == 0 && args.total == nullptr) return;
  const Marginals marginals = RowScratch(args.scratch, args.mixture, args.rows, false).marginals;
  prepare(args.mixture, marginals.packed, stream);
  marginals.launch(args.mixture, args.x, args.rows, args.weights, args.y, stream);
  if (args.total != nullptr) {
    cuda::launch(cuda::total_kernel, 1, cuda::kTotalThreads, cuda::kTotalBytes, stream,
                 static_cast<const double*>(marginals.totals), marginals.plan.finish_blocks, args.total);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureStatistics& args) {
  return StatisticsScratch(nullptr, args.mixture, args.rows).carver.bytes();
}

void run_cuda(const DiagonalMixtureStatistics& args, void* stream) {
  const StatisticsScratch scratch(args.scratch, args.mixture, args.rows);
  const Marginals& marginals = scratch.marginals;
  const Packed& packed = marginals.packed;
  prepare(args.mixture, packed, stream);
  StatisticsPass pass = {};
  pass.mixture = args.mixture;
  pass.packed = packed;
  pass.x = args.x;
  pass.rows = args.rows;
  pass.weights = args.weights;
  pass.norms = marginals.norms;
  pass.partials = scratch.plan.partials;
  const bool whole = packed.tiles == 1 && args.mixture.dims <= kDims;
  if (whole) {
    pass.y = args.y;
    pass.totals = scratch.totals;
    if (args.dx == nullptr) pass.norms = nullptr;
    scratch.plan.launch<Source::whole>(pass, stream);
  } else {
    marginals.launch(args.mixture, args.x, args.rows, args.weights, args.y, stream);
    scratch.plan.launch<Source::norms>(pass, stream);
  }
  scratch.plan.finish(args.mixture, packed, whole ? scratch.totals : marginals.totals,
                      whole ? scratch.plan.splits : marginals.plan.finish_blocks, args.s0, args.s1, args.s2, args.total,
                      stream);
  if (args.dx != nullptr && args.rows > 0) {
    const RowPass rows = {args.mixture, packed, args.x, args.rows, marginals.norms, args.dx};
    cuda::launch(data_gradient_kernel, dim3(row_blocks(args.rows), static_cast<unsigned>(scratch.plan.slices)),
                 kThreads, tile_bytes(1, args.mixture.dims, true), stream, rows);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureGradients&) { return 0; }

void run_cuda(const DiagonalMixtureGradients& args, void* stream) {
  if (args.d_mean != nullptr || args.d_log_scale != nullptr) {
    cuda::launch(gradient_kernel, cuda::blocks_for(args.mixture.components * args.mixture.dims, kFinishThreads),
                 kFinishThreads, 0, stream, args);
  }
  if (args.d_logits != nullptr) {
    cuda::launch(cuda::logit_gradient_kernel, 1, cuda::kTotalThreads, cuda::kTotalBytes, stream, args.mixture.logits,
                 args.s0, args.mixture.components, args.upstream, args.d_logits);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureResponsibilities& args) {
  return RowScratch(nullptr, args.mixture, args.rows, true).carver.bytes();
}

void run_cuda(const DiagonalMixtureResponsibilities& args, void* stream) {
  if (args.rows == 0) return;
  const Marginals marginals = RowScratch(args.scratch, args.mixture, args.rows, true).marginals;
  prepare(args.mixture, marginals.packed, stream);
  marginals.launch(args.mixture, args.x, args.rows, nullptr, nullptr, stream);
  const RowPass pass = {args.mixture, marginals.packed, args.x, args.rows, marginals.norms, args.r};
  cuda::launch(responsibility_kernel, dim3(row_blocks(args.rows), static_cast<unsigned>(marginals.packed.tiles)),
               kThreads, tile_bytes(1, args.mixture.dims, false), stream, pass);
}

std::size_t cuda_scratch_bytes(const DiagonalMixturePosteriorSample& args) {
  return RowScratch(nullptr, args.mixture, args.rows, true).carver.bytes();
}

void run_cuda(const DiagonalMixturePosteriorSample& args, void* stream) {
  if (args.rows == 0) return;
  const Marginals marginals = RowScratch(args.scratch, args.mixture, args.rows, true).marginals;
  prepare(args.mixture, marginals.packed, stream);
  marginals.launch(args.mixture, args.x, args.rows, nullptr, args.y, stream);
  const PosteriorPass pass = {args, marginals.packed, marginals.norms};
  cuda::launch(posterior_kernel, cuda::blocks_for(args.rows, kThreads / kWarp), kThreads, 0, stream, pass);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureJoint& args) {
  Carver carver(nullptr);
  pack(carver, args.mixture);
  return carver.bytes();
}

void run_cuda(const DiagonalMixtureJoint& args, void* stream) {
  if (args.rows == 0) return;
  Carver carver(args.scratch);
  const Packed packed = pack(carver, args.mixture);
  prepare(args.mixture, packed, stream);
  int lanes = 1;
  while (lanes < kWarp && lanes < args.mixture.dims) lanes *= 2;
  cuda::launch(joint_kernel, cuda::blocks_for(args.rows * args.samples, kThreads / lanes), kThreads, 0, stream, args,
               packed, lanes);
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureJointStatistics& args) {
  Carver carver(nullptr);
  pack(carver, args.mixture);
  StatisticsPlan(carver, args.mixture, args.rows);
  return carver.bytes();
}

void run_cuda(const DiagonalMixtureJointStatistics& args, void* stream) {
  Carver carver(args.scratch);
  const Packed packed = pack(carver, args.mixture);
  const StatisticsPlan plan(carver, args.mixture, args.rows);
  prepare(args.mixture, packed, stream);
  StatisticsPass pass = {};
  pass.mixture = args.mixture;
  pass.packed = packed;
  pass.x = args.x;
  pass.rows = args.rows;
  pass.z = args.z;
  pass.g = args.g;
  pass.samples = args.samples;
  pass.partials = plan.partials;
  plan.launch<Source::given>(pass, stream);
  plan.finish(args.mixture, packed, nullptr, 0, args.s0, args.s1, args.s2, nullptr, stream);
  if (args.dx != nullptr && args.rows > 0) {
    cuda::launch(joint_data_gradient_kernel, cuda::blocks_for(args.rows * args.mixture.dims, kThreads), kThreads, 0,
                 stream, args);
  }
}

std::size_t cuda_scratch_bytes(const DiagonalMixtureAncestral& args) {
  Carver carver(nullptr);
  carver.take<double>(args.mixture.components);
  return carver.bytes();
}

void run_cuda(const DiagonalMixtureAncestral& args, void* stream) {
  if (args.rows == 0) return;
  Carver carver(args.scratch);
  double* const cumulative = carver.take<double>(args.mixture.components);
  cuda::launch(cuda::cumulative_kernel, 1, cuda::kTotalThreads, cuda::kCumulativeBytes, stream, args.mixture.logits,
               args.mixture.components, cumulative);
  cuda::launch(ancestral_kernel, cuda::blocks_for(args.rows * ceil_div(args.mixture.dims, 4), kThreads), kThreads, 0,
               stream, args, static_cast<const double*>(cumulative));
}

}  // namespace dgm::kernels
