// SPDX-License-Identifier: Apache-2.0
// What the diagonal mixture says of each row once its log marginal is known: the gradient by the data,
// responsibilities, draws of the component.
#pragma once

#include "kernels/diagonal_mixture/tile.cuh"

namespace dgm::kernels {

namespace {

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

}  // namespace

}  // namespace dgm::kernels
