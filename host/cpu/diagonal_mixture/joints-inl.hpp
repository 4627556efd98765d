// SPDX-License-Identifier: Apache-2.0
// From rows to the exponentials of their log joints. Compiled once for each instruction set, like
// host/cpu/simd-inl.hpp.
#if defined(DGM_HOST_CPU_DIAGONAL_MIXTURE_JOINTS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_DIAGONAL_MIXTURE_JOINTS_INL
#undef DGM_HOST_CPU_DIAGONAL_MIXTURE_JOINTS_INL
#else
#define DGM_HOST_CPU_DIAGONAL_MIXTURE_JOINTS_INL
#endif

#include "host/cpu/diagonal_mixture/tile.hpp"
#include "host/cpu/lanes-inl.hpp"
#include "host/cpu/reduce_rows-inl.hpp"
#include "host/cpu/simd-inl.hpp"

#include <limits>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::diagonal::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::Exp2Below0;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::Larger;
using cpu::HWY_NAMESPACE::Plus;
using cpu::HWY_NAMESPACE::ReduceRows;
using cpu::HWY_NAMESPACE::VecF32;
using kernels::HWY_NAMESPACE::Lanes;

// What the registers hold.
#if HWY_TARGET <= HWY_AVX3
constexpr int kVectors = 2;
#else
constexpr int kVectors = 1;
#endif

HWY_INLINE int64_t VectorLanes() { return static_cast<int64_t>(hn::Lanes(F32())); }

/// Adds the squared residuals of kRowGroup rows and V vectors of components in one dimension.
template <int V>
HWY_INLINE void AddSquares(const float* HWY_RESTRICT parameters, int64_t next, const float* HWY_RESTRICT x,
                           int64_t dims, VecF32 (&sum)[kRowGroup][V]) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  VecF32 mean[V], inverse[V];
  DGM_UNROLL for (int v = 0; v < V; ++v) {
    mean[v] = hn::Load(d, parameters + v * next);
    inverse[v] = hn::Load(d, parameters + v * next + lanes);
  }
  DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) {
    const VecF32 value = hn::Set(d, x[p * dims]);
    DGM_UNROLL for (int v = 0; v < V; ++v) {
      const VecF32 t = hn::Mul(hn::Sub(value, mean[v]), inverse[v]);
      sum[p][v] = hn::MulAdd(t, t, sum[p][v]);
    }
  }
}

/// Log joints of kRowGroup rows and V vectors of components, to terms of the first.
template <int V>
HWY_INLINE void LogJoints(const Plan& plan, const float* HWY_RESTRICT x, int64_t vector, float* HWY_RESTRICT terms) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  const int64_t dims = plan.dims;
  const int64_t next_vector = plan.tile_rows * lanes;
  VecF32 sum[kRowGroup][V];
  DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) { DGM_UNROLL for (int v = 0; v < V; ++v) sum[p][v] = hn::Zero(d); }
  const float* HWY_RESTRICT parameters = plan.parameters + vector * dims * 2 * lanes;
  const int64_t next = dims * 2 * lanes;
  int64_t i = 0;
  for (; i + 2 <= dims; i += 2, parameters += 4 * lanes) {
    AddSquares<V>(parameters, next, x + i, dims, sum);
    AddSquares<V>(parameters + 2 * lanes, next, x + i + 1, dims, sum);
  }
  if (i < dims) AddSquares<V>(parameters, next, x + i, dims, sum);
  DGM_UNROLL for (int v = 0; v < V; ++v) {
    const VecF32 peak = hn::Load(d, plan.peaks + (vector + v) * lanes);
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) {
      hn::Store(hn::Sub(peak, sum[p][v]), d, terms + v * next_vector + p * lanes);
    }
  }
}

/// The same for few dimensions: all components of kRowGroup rows, the dimensions unrolled.
template <int D>
HWY_INLINE void LogJointsOfFew(const Plan& plan, const float* HWY_RESTRICT x, float* HWY_RESTRICT terms) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  const int64_t next_vector = plan.tile_rows * lanes;
  const float* HWY_RESTRICT parameters = plan.parameters;
  const int64_t padded = plan.vectors * lanes;
  for (int64_t k = 0; k < padded; k += lanes, parameters += 2 * D * lanes, terms += next_vector) {
    const VecF32 peak = hn::Load(d, plan.peaks + k);
    VecF32 mean[D], inverse[D];
    DGM_UNROLL for (int i = 0; i < D; ++i) {
      mean[i] = hn::Load(d, parameters + 2 * i * lanes);
      inverse[i] = hn::Load(d, parameters + (2 * i + 1) * lanes);
    }
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) {
      VecF32 sum = hn::Mul(hn::Sub(mean[0], hn::Set(d, x[p * D])), inverse[0]);
      sum = hn::Mul(sum, sum);
      DGM_UNROLL for (int i = 1; i < D; ++i) {
        const VecF32 t = hn::Mul(hn::Sub(mean[i], hn::Set(d, x[p * D + i])), inverse[i]);
        sum = hn::MulAdd(t, t, sum);
      }
      hn::Store(hn::Sub(peak, sum), d, terms + p * lanes);
    }
  }
}

/// Log joints of kRowGroup rows to exponentials, with their maxima and sums.
HWY_INLINE void ExponentialsOfGroup(const Plan& plan, float* HWY_RESTRICT terms, float* HWY_RESTRICT max,
                                    float* HWY_RESTRICT sum) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  const int64_t next_vector = plan.tile_rows * lanes;
  const int64_t count = plan.vectors * next_vector;
  VecF32 fold[kRowGroup];
  // From the lowest float on: -inf less -inf would be NaN.
  DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) fold[p] = hn::Set(d, std::numeric_limits<float>::lowest());
  for (int64_t k = 0; k < count; k += next_vector) {
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) fold[p] = hn::Max(fold[p], hn::Load(d, terms + k + p * lanes));
  }
  ReduceRows(fold, Larger(), max);
  DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) fold[p] = hn::Zero(d);
  for (int64_t k = 0; k < count; k += next_vector) {
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) {
      const VecF32 e = Exp2Below0(d, hn::Sub(hn::Load(d, terms + k + p * lanes), hn::Set(d, max[p])));
      fold[p] = hn::Add(fold[p], e);
      hn::Store(e, d, terms + k + p * lanes);
    }
  }
  ReduceRows(fold, Plus(), sum);
}

void LogJointsOfTile(const Plan& plan, const Tile& tile, int64_t rows) {
  const int64_t lanes = VectorLanes();
  const int64_t next_vector = plan.tile_rows * lanes;
  if (plan.dims <= 3) {
    for (int64_t n = 0; n < rows; n += kRowGroup) {
      const float* const x = tile.x + n * plan.dims;
      float* const terms = tile.terms + n * lanes;
      if (plan.dims == 1) LogJointsOfFew<1>(plan, x, terms);
      if (plan.dims == 2) LogJointsOfFew<2>(plan, x, terms);
      if (plan.dims == 3) LogJointsOfFew<3>(plan, x, terms);
    }
    return;
  }
  int64_t vector = 0;
  for (; vector + kVectors <= plan.vectors; vector += kVectors) {
    for (int64_t n = 0; n < rows; n += kRowGroup) {
      LogJoints<kVectors>(plan, tile.x + n * plan.dims, vector, tile.terms + vector * next_vector + n * lanes);
    }
  }
  for (; vector < plan.vectors; ++vector) {
    for (int64_t n = 0; n < rows; n += kRowGroup) {
      LogJoints<1>(plan, tile.x + n * plan.dims, vector, tile.terms + vector * next_vector + n * lanes);
    }
  }
}

/// From x to exponentials, max, sum and y.
void Exponentials(const Plan& plan, Tile& tile) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  const int64_t rows = (tile.rows + kRowGroup - 1) / kRowGroup * kRowGroup;
  LogJointsOfTile(plan, tile, rows);
  for (int64_t n = 0; n < rows; n += kRowGroup) {
    ExponentialsOfGroup(plan, tile.terms + n * lanes, tile.max + n, tile.sum + n);
  }
  for (int64_t n = 0; n < rows; n += lanes) {
    const VecF32 log_sum = Lanes::log(hn::LoadU(d, tile.sum + n));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, tile.max + n), hn::Set(d, static_cast<float>(1.0 / kLog2E)), log_sum), d,
               tile.y + n);
  }
}

}  // namespace dgm::kernels::diagonal::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
