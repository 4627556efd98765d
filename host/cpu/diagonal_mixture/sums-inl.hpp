// SPDX-License-Identifier: Apache-2.0
// From exponentials to the statistics and the data's gradient. Compiled once for each instruction set, like
// host/cpu/simd-inl.hpp.
#if defined(DGM_HOST_CPU_DIAGONAL_MIXTURE_SUMS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_DIAGONAL_MIXTURE_SUMS_INL
#undef DGM_HOST_CPU_DIAGONAL_MIXTURE_SUMS_INL
#else
#define DGM_HOST_CPU_DIAGONAL_MIXTURE_SUMS_INL
#endif

#include "host/cpu/diagonal_mixture/joints-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::diagonal::HWY_NAMESPACE {

/// Sums over the tile's rows, for V vectors of components and I dimensions, added to the block's.
/// The first visit to a component's terms turns exponentials into weighted responsibilities.
template <int V, int I, bool kFirst>
HWY_INLINE void AddStatistics(const Plan& plan, const Tile& tile, int64_t vector, int64_t dim, float* HWY_RESTRICT s0,
                              float* HWY_RESTRICT s12) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  VecF32 mean[V][I], sum0[V], sum1[V][I], sum2[V][I];
  DGM_UNROLL for (int v = 0; v < V; ++v) {
    sum0[v] = hn::Zero(d);
    DGM_UNROLL for (int i = 0; i < I; ++i) {
      mean[v][i] = hn::Load(d, plan.parameters + ((vector + v) * plan.dims + dim + i) * 2 * lanes);
      sum1[v][i] = sum2[v][i] = hn::Zero(d);
    }
  }
  const float* HWY_RESTRICT x = tile.x + dim;
  const int64_t next_vector = plan.tile_rows * lanes;
  float* HWY_RESTRICT terms = tile.terms + vector * next_vector;
  for (int64_t n = 0; n < tile.rows; ++n, x += plan.dims, terms += lanes) {
    VecF32 r[V];
    DGM_UNROLL for (int v = 0; v < V; ++v) {
      r[v] = hn::Load(d, terms + v * next_vector);
      if (kFirst) {
        r[v] = hn::Mul(r[v], hn::Set(d, tile.scale[n]));
        sum0[v] = hn::Add(sum0[v], r[v]);
        hn::Store(r[v], d, terms + v * next_vector);
      }
    }
    DGM_UNROLL for (int i = 0; i < I; ++i) {
      const VecF32 value = hn::Set(d, x[i]);
      DGM_UNROLL for (int v = 0; v < V; ++v) {
        const VecF32 difference = hn::Sub(value, mean[v][i]);
        const VecF32 product = hn::Mul(r[v], difference);
        sum1[v][i] = hn::Add(sum1[v][i], product);
        sum2[v][i] = hn::MulAdd(product, difference, sum2[v][i]);
      }
    }
  }
  DGM_UNROLL for (int v = 0; v < V; ++v) {
    float* const HWY_RESTRICT to0 = s0 + (vector + v) * lanes;
    if (kFirst) hn::Store(hn::Add(hn::Load(d, to0), sum0[v]), d, to0);
    DGM_UNROLL for (int i = 0; i < I; ++i) {
      float* const HWY_RESTRICT to = s12 + ((vector + v) * plan.dims + dim + i) * 2 * lanes;
      hn::Store(hn::Add(hn::Load(d, to), sum1[v][i]), d, to);
      hn::Store(hn::Add(hn::Load(d, to + lanes), sum2[v][i]), d, to + lanes);
    }
  }
}

template <int V, int I>
HWY_INLINE void AddStatistics(const Plan& plan, const Tile& tile, int64_t vector, float* s0, float* s12) {
  int64_t i = 1;
  if (plan.dims >= I) {
    AddStatistics<V, I, true>(plan, tile, vector, 0, s0, s12);
    i = I;
  } else {
    AddStatistics<V, 1, true>(plan, tile, vector, 0, s0, s12);
  }
  for (; i + I <= plan.dims; i += I) AddStatistics<V, I, false>(plan, tile, vector, i, s0, s12);
  for (; i + 2 <= plan.dims; i += 2) AddStatistics<V, 2, false>(plan, tile, vector, i, s0, s12);
  for (; i < plan.dims; ++i) AddStatistics<V, 1, false>(plan, tile, vector, i, s0, s12);
}

/// s0 (vectors, lanes), s12 (vectors, dims, 2, lanes): sums of r, r (x - mean) and r (x - mean)^2.
void Statistics(const Plan& plan, const Tile& tile, float* s0, float* s12) {
  int64_t vector = 0;
#if HWY_TARGET <= HWY_AVX3
  // Many components share what is read of a row; but terms are read once for each I dimensions, so these are
  // more where terms come from the second-level cache. Of few dimensions most of the work is the first visit,
  // which keeps more in registers.
  if (plan.dims < 4) {
    for (; vector + 2 <= plan.vectors; vector += 2) AddStatistics<2, 2>(plan, tile, vector, s0, s12);
  } else if (plan.in_cache) {
    for (; vector + 4 <= plan.vectors; vector += 4) AddStatistics<4, 2>(plan, tile, vector, s0, s12);
  }
  for (; vector + 2 <= plan.vectors; vector += 2) AddStatistics<2, 4>(plan, tile, vector, s0, s12);
#else
  for (; vector + 2 <= plan.vectors; vector += 2) AddStatistics<2, 2>(plan, tile, vector, s0, s12);
#endif
  for (; vector < plan.vectors; ++vector) AddStatistics<1, 4>(plan, tile, vector, s0, s12);
}

/// dx of 4 rows and I dimensions, from weighted responsibilities.
template <int I>
HWY_INLINE void DataGradient(const Plan& plan, const Tile& tile, int64_t n, int64_t dim, float* HWY_RESTRICT dx) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  constexpr int kRows = 4;
  VecF32 sum[kRows][I];
  DGM_UNROLL for (int p = 0; p < kRows; ++p) { DGM_UNROLL for (int i = 0; i < I; ++i) sum[p][i] = hn::Zero(d); }
  for (int64_t vector = 0; vector < plan.vectors; ++vector) {
    const float* HWY_RESTRICT parameters = plan.parameters + (vector * plan.dims + dim) * 2 * lanes;
    VecF32 r[kRows];
    DGM_UNROLL for (int p = 0; p < kRows; ++p) {
      r[p] = hn::Load(d, tile.terms + (vector * plan.tile_rows + n + p) * lanes);
    }
    DGM_UNROLL for (int i = 0; i < I; ++i) {
      const VecF32 mean = hn::Load(d, parameters + 2 * i * lanes);
      const VecF32 inverse = hn::Load(d, parameters + (2 * i + 1) * lanes);
      const VecF32 precision = hn::Mul(inverse, inverse);
      DGM_UNROLL for (int p = 0; p < kRows; ++p) {
        const VecF32 difference = hn::Sub(mean, hn::Set(d, tile.x[(n + p) * plan.dims + dim + i]));
        sum[p][i] = hn::MulAdd(hn::Mul(r[p], precision), difference, sum[p][i]);
      }
    }
  }
  DGM_UNROLL for (int p = 0; p < kRows; ++p) {
    DGM_UNROLL for (int i = 0; i < I; ++i) {
      if (n + p < tile.rows) {
        dx[(n + p) * plan.dims + dim + i] =
            static_cast<float>(2.0 / kLog2E) * hn::GetLane(hn::SumOfLanes(d, sum[p][i]));
      }
    }
  }
}

void DataGradients(const Plan& plan, const Tile& tile, float* dx) {
  for (int64_t n = 0; n < tile.rows; n += 4) {
    int64_t i = 0;
    for (; i + 4 <= plan.dims; i += 4) DataGradient<4>(plan, tile, n, i, dx);
    for (; i < plan.dims; ++i) DataGradient<1>(plan, tile, n, i, dx);
  }
}

}  // namespace dgm::kernels::diagonal::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
