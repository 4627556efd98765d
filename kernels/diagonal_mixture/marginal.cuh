// SPDX-License-Identifier: Apache-2.0
// Log marginals of the diagonal mixture, and what normalises each row's responsibilities in later passes.
#pragma once

#include "kernels/diagonal_mixture/tile.cuh"

namespace dgm::kernels {

namespace {

constexpr int kSlots = 264;  // blocks that are resident at a time: two on each of 132 multiprocessors

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

}  // namespace

}  // namespace dgm::kernels
