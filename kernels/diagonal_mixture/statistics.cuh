// SPDX-License-Identifier: Apache-2.0
// Sufficient statistics of the diagonal mixture: sums over the rows, a block for each tile of components and
// share of the rows, and the kernel that adds the blocks up.
#pragma once

#include "kernels/diagonal_mixture/marginal.cuh"

namespace dgm::kernels {

namespace {

constexpr int kFlushTiles = 8;  // tiles that are summed in float: at most 8 * 128 terms
constexpr int kFinishThreads = 256;
constexpr int kFinishOutputs = 32;  // of a block; eight warps share the splits

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
  float* total;         // null: not wanted
  double* exact_total;  // null: not wanted
};

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
    if (threadIdx.x == 0 && args.exact_total != nullptr) *args.exact_total = sum;
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
              double* s1, double* s2, float* total, double* exact_total, void* stream) const {
    const StatisticsFinish args = {mixture,     packed, partials, splits, slices, totals,
                                   total_count, s0,     s1,       s2,     total,  exact_total};
    const int64_t moments = packed.tiles * slices * 32 * 8 * dim_threads(mixture.dims);
    const int64_t moment_blocks = ceil_div(moments, kFinishOutputs);
    const int64_t blocks = moment_blocks + ceil_div(mixture.components, kFinishOutputs) + 1;
    cuda::launch(finish_statistics_kernel, static_cast<unsigned>(blocks), kFinishThreads,
                 SharedMemory::bytes<double>(3 * kFinishThreads), stream, args, static_cast<int>(moment_blocks));
  }
};

}  // namespace

}  // namespace dgm::kernels
