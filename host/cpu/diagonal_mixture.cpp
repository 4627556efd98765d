// SPDX-License-Identifier: Apache-2.0
// Diagonal Gaussian mixtures on the CPU.
//
// Mapping    lanes over components. Rows go in tiles, tiles in blocks; threads claim blocks. A tile: log
//            joints as a register-tiled product (rows x components, over dimensions), exponentials row by
//            row, then sums over the tile's rows in registers (components x dimensions).
// Arithmetic a row, component and dimension costs a subtraction, a product and an FMA forward, and a
//            subtraction, a product, a sum and an FMA for the statistics: 4 of the 7 on the pipes of FMA, the
//            others beside them where a core adds on pipes of their own. Residuals are taken from each
//            component's own mean, never as x^2 - 2 x mean + mean^2, which cancels where components are
//            tight. An exponential is a polynomial of degree 5.
// Scratch    2 K D floats that threads share, 2 K D + 40 (K + D) and few more a thread; nothing grows with N.
// Order      a tile's sums in f32, added to a block's in f32, added in double to the result in the order
//            of blocks, whichever thread made them: the same bits for any number of threads.
//
// A row that the fast path cannot hold (NaN, infinities, |x| above kFarthest, log marginals beyond floats)
// is done over in double, as are all rows if a parameter is beyond kExtremeLogScale or kFarthest.
#include "kernels/diagonal_mixture.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#ifndef DGM_HOST_CPU_DIAGONAL_MIXTURE_ONCE
#define DGM_HOST_CPU_DIAGONAL_MIXTURE_ONCE
namespace dgm::kernels {
namespace {

constexpr int64_t kTileRows = 40;
constexpr int64_t kRowGroup = 8;           // rows of a register tile, and of ReduceRows
constexpr float kFarthest = 1e16f;         // squares of differences stay floats, times the rows of a block
constexpr float kExtremeLogScale = 30;     // and so do those of the closest
constexpr float kLowestOrdinary = -3e38f;  // of log marginals
constexpr double kLogTwoPi = 1.8378770664093454836;
constexpr double kLog2E = 1.4426950408889634074;

/// Uninitialised memory, aligned for vectors.
class Scratch {
 public:
  explicit Scratch(int64_t floats)
      : data_(static_cast<float*>(
            ::operator new(static_cast<std::size_t>(std::max<int64_t>(floats, 1)) * sizeof(float), kAlignment))) {}
  ~Scratch() { ::operator delete(data_, kAlignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  float* data_;
};

/// The parameters as the vector code reads them. Logs are to base 2 there: 2^-t'^2 with
/// t' = t sqrt(log2(e) / 2) is exp(-t^2 / 2).
struct Plan {
  int64_t components;
  int64_t dims;
  int64_t lanes;
  int64_t vectors;          // of components; the last is filled up with components of no weight
  int64_t stride;           // floats from one row of terms to the next; no power of two, which would share cache sets
  const float* peaks;       // (vectors, lanes), base 2; -inf for no weight
  const float* parameters;  // (vectors, dims, 2, lanes): mean, and 1 / scale times sqrt(log2(e) / 2)
};

/// A tile of rows.
struct Tile {
  int64_t rows;
  float* x;      // (kTileRows, dims); zeros from `rows` on and where a row is left to the slow path
  float* terms;  // (kTileRows, stride): log joints, then exp(log joint - max), then weighted responsibilities
  // Past the last row there is room for a vector.
  float max[kTileRows + 16];    // base 2
  float sum[kTileRows + 16];    // of the exponentials; 0 if all joints are -inf
  float y[kTileRows + 16];      // log marginal, unless sum is 0
  float scale[kTileRows + 16];  // w / sum, from the caller; 0 for a row that adds nothing
};

}  // namespace
}  // namespace dgm::kernels
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/diagonal_mixture.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"
#include "host/cpu/reduce_rows-inl.hpp"
#include "host/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {  // names of one file must not meet those of another: each target has one namespace

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::Exp2Below0;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::Larger;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::Plus;
using cpu::HWY_NAMESPACE::ReduceRows;
using cpu::HWY_NAMESPACE::VecF32;

// Register tiles for 32 registers or for 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kVectors = 2;
constexpr int kDims = 4;
#else
constexpr int kVectors = 1;
constexpr int kDims = 4;
#endif

int64_t VectorLanes() { return static_cast<int64_t>(hn::Lanes(F32())); }

/// Copies count floats and tells whether all of them are in reach of the fast path.
bool CopyNear(const float* HWY_RESTRICT from, int64_t count, float* HWY_RESTRICT to) {
  const F32 d;
  const auto lanes = VectorLanes();
  const VecF32 farthest = hn::Set(d, kFarthest);
  auto near = hn::FirstN(d, static_cast<std::size_t>(lanes));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const VecF32 x = hn::LoadU(d, from + i);
    near = hn::And(near, hn::Le(hn::Abs(x), farthest));  // false for NaN
    hn::StoreU(x, d, to + i);
  }
  bool result = hn::AllTrue(d, near);
  for (; i < count; ++i) {
    result = result && std::abs(from[i]) <= kFarthest;
    to[i] = from[i];
  }
  return result;
}

/// Log joints of kRowGroup rows and V vectors of components.
template <int V>
HWY_INLINE void LogJoints(const Plan& plan, const float* HWY_RESTRICT x, int64_t vector, float* HWY_RESTRICT terms) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  VecF32 sum[kRowGroup][V];
  DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) { DGM_UNROLL for (int v = 0; v < V; ++v) sum[p][v] = hn::Zero(d); }
  const float* HWY_RESTRICT parameters = plan.parameters + vector * plan.dims * 2 * lanes;
  const int64_t next = plan.dims * 2 * lanes;
  for (int64_t i = 0; i < plan.dims; ++i) {
    VecF32 mean[V], inverse[V];
    DGM_UNROLL for (int v = 0; v < V; ++v) {
      mean[v] = hn::Load(d, parameters + v * next + 2 * i * lanes);
      inverse[v] = hn::Load(d, parameters + v * next + (2 * i + 1) * lanes);
    }
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) {
      const VecF32 value = hn::Set(d, x[p * plan.dims + i]);
      DGM_UNROLL for (int v = 0; v < V; ++v) {
        const VecF32 t = hn::Mul(hn::Sub(value, mean[v]), inverse[v]);
        sum[p][v] = hn::MulAdd(t, t, sum[p][v]);
      }
    }
  }
  DGM_UNROLL for (int v = 0; v < V; ++v) {
    const VecF32 peak = hn::Load(d, plan.peaks + (vector + v) * lanes);
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) {
      hn::Store(hn::Sub(peak, sum[p][v]), d, terms + p * plan.stride + (vector + v) * lanes);
    }
  }
}

/// The same for few dimensions: all components of kRowGroup rows, the dimensions unrolled.
template <int D>
HWY_INLINE void LogJointsOfFew(const Plan& plan, const float* HWY_RESTRICT x, float* HWY_RESTRICT terms) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  const int64_t stride = plan.stride;
  const float* HWY_RESTRICT parameters = plan.parameters;
  for (int64_t k = 0; k < plan.vectors * lanes; k += lanes, parameters += 2 * D * lanes) {
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
      hn::Store(hn::Sub(peak, sum), d, terms + p * stride + k);
    }
  }
}

/// Log joints of kRowGroup rows to exponentials, with their maxima and sums.
HWY_INLINE void ExponentialsOfGroup(float* HWY_RESTRICT terms, int64_t stride, int64_t count, float* HWY_RESTRICT max,
                                    float* HWY_RESTRICT sum) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  VecF32 fold[kRowGroup];
  // From the lowest float on: -inf less -inf would be NaN.
  DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) fold[p] = hn::Set(d, std::numeric_limits<float>::lowest());
  for (int64_t k = 0; k < count; k += lanes) {
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) fold[p] = hn::Max(fold[p], hn::Load(d, terms + p * stride + k));
  }
  ReduceRows(fold, Larger(), max);
  DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) fold[p] = hn::Zero(d);
  for (int64_t k = 0; k < count; k += lanes) {
    DGM_UNROLL for (int p = 0; p < kRowGroup; ++p) {
      const VecF32 e = Exp2Below0(d, hn::Sub(hn::Load(d, terms + p * stride + k), hn::Set(d, max[p])));
      fold[p] = hn::Add(fold[p], e);
      hn::Store(e, d, terms + p * stride + k);
    }
  }
  ReduceRows(fold, Plus(), sum);
}

void LogJointsOfTile(const Plan& plan, const Tile& tile, int64_t rows) {
  if (plan.dims <= 3) {
    for (int64_t n = 0; n < rows; n += kRowGroup) {
      const float* const x = tile.x + n * plan.dims;
      float* const terms = tile.terms + n * plan.stride;
      if (plan.dims == 1) LogJointsOfFew<1>(plan, x, terms);
      if (plan.dims == 2) LogJointsOfFew<2>(plan, x, terms);
      if (plan.dims == 3) LogJointsOfFew<3>(plan, x, terms);
    }
    return;
  }
  int64_t vector = 0;
  for (; vector + kVectors <= plan.vectors; vector += kVectors) {
    for (int64_t n = 0; n < rows; n += kRowGroup) {
      LogJoints<kVectors>(plan, tile.x + n * plan.dims, vector, tile.terms + n * plan.stride);
    }
  }
  for (; vector < plan.vectors; ++vector) {
    for (int64_t n = 0; n < rows; n += kRowGroup) {
      LogJoints<1>(plan, tile.x + n * plan.dims, vector, tile.terms + n * plan.stride);
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
    ExponentialsOfGroup(tile.terms + n * plan.stride, plan.stride, plan.vectors * lanes, tile.max + n, tile.sum + n);
  }
  for (int64_t n = 0; n < rows; n += lanes) {
    const VecF32 log_sum = Lanes::log(hn::LoadU(d, tile.sum + n));
    hn::StoreU(hn::MulAdd(hn::LoadU(d, tile.max + n), hn::Set(d, static_cast<float>(1.0 / kLog2E)), log_sum), d,
               tile.y + n);
  }
}

/// Whether every row has a log marginal within floats.
bool AllOrdinary(const Tile& tile) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  auto all = hn::FirstN(d, static_cast<std::size_t>(lanes));
  for (int64_t n = 0; n < tile.rows; n += lanes) {
    const auto there = hn::FirstN(d, static_cast<std::size_t>(std::min(lanes, tile.rows - n)));
    const auto ordinary = hn::And(hn::Gt(hn::LoadU(d, tile.sum + n), hn::Zero(d)),
                                  hn::Ge(hn::LoadU(d, tile.y + n), hn::Set(d, kLowestOrdinary)));
    all = hn::And(all, hn::Or(ordinary, hn::Not(there)));
  }
  return hn::AllTrue(d, all);
}

/// scale = w / sum for ordinary rows, of weights w, or 1 if there are none; returns the sum of w y.
double Weigh(Tile& tile, const float* weights) {
  const F32 d;
  const int64_t lanes = VectorLanes();
  float w_of[kTileRows + 16];
  for (int64_t n = 0; n < tile.rows; n += lanes) {
    const auto count = static_cast<std::size_t>(std::min(lanes, tile.rows - n));
    const VecF32 w = weights != nullptr ? LoadFirst(d, weights + n, count, hn::Zero(d)) : hn::Set(d, 1.0f);
    hn::StoreU(w, d, w_of + n);
    hn::StoreU(hn::Div(w, hn::LoadU(d, tile.sum + n)), d, tile.scale + n);
  }
  double sum[4] = {};  // chains of additions side by side
  for (int64_t n = 0; n < tile.rows; ++n) sum[n % 4] += double{w_of[n]} * tile.y[n];
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

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
  float* HWY_RESTRICT terms = tile.terms + vector * lanes;
  for (int64_t n = 0; n < tile.rows; ++n, x += plan.dims, terms += plan.stride) {
    VecF32 r[V];
    DGM_UNROLL for (int v = 0; v < V; ++v) {
      r[v] = hn::Load(d, terms + v * lanes);
      if (kFirst) {
        r[v] = hn::Mul(r[v], hn::Set(d, tile.scale[n]));
        sum0[v] = hn::Add(sum0[v], r[v]);
        hn::Store(r[v], d, terms + v * lanes);
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

template <int V>
HWY_INLINE void AddStatistics(const Plan& plan, const Tile& tile, int64_t vector, float* s0, float* s12) {
  int64_t i = 0;
  if (plan.dims >= 2) {
    AddStatistics<V, 2, true>(plan, tile, vector, 0, s0, s12);
    i = 2;
  } else {
    AddStatistics<V, 1, true>(plan, tile, vector, 0, s0, s12);
    i = 1;
  }
  for (; i + kDims <= plan.dims; i += kDims) AddStatistics<V, kDims, false>(plan, tile, vector, i, s0, s12);
  for (; i + 2 <= plan.dims; i += 2) AddStatistics<V, 2, false>(plan, tile, vector, i, s0, s12);
  if (i < plan.dims) AddStatistics<V, 1, false>(plan, tile, vector, i, s0, s12);
}

/// s0 (vectors, lanes), s12 (vectors, dims, 2, lanes): sums of r, r (x - mean) and r (x - mean)^2.
void Statistics(const Plan& plan, const Tile& tile, float* s0, float* s12) {
  int64_t vector = 0;
  for (; vector + kVectors <= plan.vectors; vector += kVectors) AddStatistics<kVectors>(plan, tile, vector, s0, s12);
  for (; vector < plan.vectors; ++vector) AddStatistics<1>(plan, tile, vector, s0, s12);
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
      r[p] = hn::Load(d, tile.terms + (n + p) * plan.stride + vector * lanes);
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

}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(VectorLanes);
HWY_EXPORT(CopyNear);
HWY_EXPORT(Exponentials);
HWY_EXPORT(AllOrdinary);
HWY_EXPORT(Weigh);
HWY_EXPORT(Statistics);
HWY_EXPORT(DataGradients);

namespace {

/// log pi; all -inf where no component has weight.
std::vector<double> log_weights(const DiagonalMixture& mixture) {
  const auto count = static_cast<std::size_t>(mixture.components);
  std::vector<double> result(mixture.logits, mixture.logits + count);
  double max = -INFINITY;
  for (const double logit : result) max = logit > max || std::isnan(logit) ? logit : max;
  if (max == -INFINITY) return result;
  double sum = 0;
  for (const double logit : result) sum += std::exp(logit - max);
  const double log_norm = max + std::log(sum);
  for (double& logit : result) logit -= log_norm;
  return result;
}

/// log pi_k - sum_d (log_scale_kd + log(2 pi) / 2); -inf for a component of no weight.
std::vector<double> peaks(const DiagonalMixture& mixture) {
  std::vector<double> result = log_weights(mixture);
  for (std::size_t k = 0; k < result.size(); ++k) {
    if (result[k] == -INFINITY) continue;
    const float* const log_scale = mixture.log_scale + static_cast<int64_t>(k) * mixture.dims;
    for (int64_t d = 0; d < mixture.dims; ++d) result[k] -= log_scale[d] + kLogTwoPi / 2;
  }
  return result;
}

double residual(const DiagonalMixture& mixture, int64_t k, int64_t d, double x) {
  return (x - mixture.mean[k * mixture.dims + d]) * std::exp(-double{mixture.log_scale[k * mixture.dims + d]});
}

/// log p(x, k) in double; a component of no weight is not looked at.
double log_joint(const DiagonalMixture& mixture, double peak, int64_t k, const float* x) {
  if (peak == -INFINITY) return peak;
  double sum = 0;
  for (int64_t d = 0; d < mixture.dims; ++d) {
    const double t = residual(mixture, k, d, x[d]);
    sum += t * t;
  }
  return peak - 0.5 * sum;
}

/// log p(x) in double, and the responsibilities; zeros where log p(x) is -inf in f32.
float posterior(const DiagonalMixture& mixture, const std::vector<double>& peak, const float* x, double* r) {
  bool nan = false;
  bool infinite = false;
  for (int64_t d = 0; d < mixture.dims; ++d) {
    nan = nan || std::isnan(x[d]);
    infinite = infinite || std::isinf(x[d]);
  }
  const double edge = nan ? NAN : -INFINITY;
  double max = -INFINITY;
  for (int64_t k = 0; k < mixture.components && !nan && !infinite; ++k) {
    r[k] = log_joint(mixture, peak[static_cast<std::size_t>(k)], k, x);
    max = r[k] > max || std::isnan(r[k]) ? r[k] : max;
  }
  if (nan || infinite || max == -INFINITY) {
    std::fill(r, r + mixture.components, nan ? NAN : 0.0);
    return static_cast<float>(edge);
  }
  double sum = 0;
  for (int64_t k = 0; k < mixture.components; ++k) sum += r[k] = std::exp(r[k] - max);
  const auto y = static_cast<float>(max + std::log(sum));
  for (int64_t k = 0; k < mixture.components; ++k) r[k] = y == -INFINITY ? 0.0 : r[k] / sum;
  return y;
}

/// Everything the fast path needs for one call.
class Engine {
 public:
  explicit Engine(const DiagonalMixture& mixture)
      : mixture_(mixture),
        peak_(peaks(mixture)),
        plan_(plan_of(mixture)),
        packed_(plan_.vectors * plan_.lanes * (1 + 2 * plan_.dims)) {
    pack();
  }

  const DiagonalMixture& mixture() const { return mixture_; }
  const Plan& plan() const { return plan_; }
  const std::vector<double>& peak() const { return peak_; }
  /// False if a parameter is too extreme for the fast path: then every row is slow.
  bool ordinary() const { return ordinary_; }

  /// Rows of a tile: as many as fit the first-level cache beside their parameters, unless these do not fit
  /// themselves; a multiple of kRowGroup.
  int64_t tile_rows() const {
    constexpr int64_t kTermsInCache = 6 * 1024;
    if (plan_.vectors * plan_.lanes * plan_.dims > 4096) return kTileRows;
    return std::clamp(kTermsInCache / plan_.stride / kRowGroup * kRowGroup, kRowGroup, kTileRows);
  }
  int64_t tile_floats() const { return kTileRows * (plan_.stride + (plan_.dims + 15) / 16 * 16); }

  Tile tile(float* memory) const {
    Tile result = {};
    result.terms = memory;
    result.x = memory + kTileRows * plan_.stride;
    return result;
  }

  /// Fills the tile with rows x[0..rows) and makes their exponentials. True if all is done; else slow[n]
  /// tells which rows are to be done over in double; their terms are zero times something finite.
  bool exponentials(const float* x, int64_t rows, Tile& tile, bool* slow) const {
    const int64_t dims = plan_.dims;
    tile.rows = rows;
    if (!ordinary_) {
      std::fill(slow, slow + rows, true);
      return false;
    }
    const auto copy_near = HWY_DYNAMIC_DISPATCH(CopyNear);
    const bool near = copy_near(x, rows * dims, tile.x);
    if (!near) {
      for (int64_t n = 0; n < rows; ++n) {
        slow[n] = !copy_near(x + n * dims, dims, tile.x + n * dims);
        if (slow[n]) std::fill(tile.x + n * dims, tile.x + (n + 1) * dims, 0.0f);
      }
    }
    const int64_t computed = (rows + kRowGroup - 1) / kRowGroup * kRowGroup;
    std::fill(tile.x + rows * dims, tile.x + computed * dims, 0.0f);
    HWY_DYNAMIC_DISPATCH(Exponentials)(plan_, tile);
    if (near && HWY_DYNAMIC_DISPATCH(AllOrdinary)(tile)) return true;
    for (int64_t n = 0; n < rows; ++n) {
      slow[n] = (!near && slow[n]) || !(tile.sum[n] > 0.0f) || !(tile.y[n] >= kLowestOrdinary);
    }
    return false;
  }

 private:
  static Plan plan_of(const DiagonalMixture& mixture) {
    Plan plan = {};
    plan.components = mixture.components;
    plan.dims = mixture.dims;
    plan.lanes = HWY_DYNAMIC_DISPATCH(VectorLanes)();
    plan.vectors = (mixture.components + plan.lanes - 1) / plan.lanes;
    plan.stride = (plan.vectors + 1) * plan.lanes;
    return plan;
  }

  void pack() {
    const int64_t lanes = plan_.lanes;
    const int64_t dims = plan_.dims;
    float* const to_peaks = packed_.data();
    float* const to_parameters = to_peaks + plan_.vectors * lanes;
    plan_.peaks = to_peaks;
    plan_.parameters = to_parameters;
    std::atomic<bool> ordinary = true;
    const int64_t grain = std::max<int64_t>(1, (1 << 13) / (dims * lanes));
    cpu::parallel_ranges(plan_.vectors, grain, [&](int64_t begin, int64_t end, int) {
      for (int64_t k = begin * lanes; k < end * lanes; ++k) {
        const double peak = k < mixture_.components ? peak_[static_cast<std::size_t>(k)] : -INFINITY;
        to_peaks[k] = static_cast<float>(peak * kLog2E);
        float* const to = to_parameters + (k / lanes * dims * 2) * lanes + k % lanes;
        bool fine = peak < INFINITY;  // false for NaN
        for (int64_t d = 0; d < dims; ++d) {
          const bool used = peak != -INFINITY;
          const float mean = used ? mixture_.mean[k * dims + d] : 0.0f;
          const float log_scale = used ? mixture_.log_scale[k * dims + d] : 0.0f;
          fine = fine && std::abs(mean) <= kFarthest && std::abs(log_scale) <= kExtremeLogScale;
          to[2 * d * lanes] = mean;
          to[(2 * d + 1) * lanes] = static_cast<float>(std::sqrt(kLog2E / 2) * std::exp(-double{log_scale}));
        }
        if (!fine) ordinary = false;
      }
    });
    ordinary_ = ordinary;
  }

  DiagonalMixture mixture_;
  std::vector<double> peak_;
  Plan plan_;
  Scratch packed_;
  bool ordinary_ = true;
};

/// Lets blocks be worked on by any thread at once and finished in their order.
class InOrder {
 public:
  int64_t claim() { return next_.fetch_add(1, std::memory_order_relaxed); }
  /// Waits until all blocks before this one are finished.
  void wait_for_turn(int64_t block) const {
    for (int spins = 0; finished_.load(std::memory_order_acquire) != block; ++spins) {
      if (spins > 1000) std::this_thread::yield();
    }
  }
  void finish(int64_t block) { finished_.store(block + 1, std::memory_order_release); }

 private:
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> finished_{0};
};

/// Rows of a block: enough that adding its sums to the result costs little, few enough that small batches
/// have blocks for several threads. A multiple of the tile; must not depend on the number of threads.
int64_t block_rows(int64_t rows, int64_t tile) { return std::clamp<int64_t>(rows / 8, 240, 2016) / tile * tile; }

/// Visits all rows, tile by tile, block by block: tile_body(first row, rows, thread) in any order,
/// block_body(first row, rows, thread) in order and one at a time.
template <class TileBody, class BlockBody>
void visit(int64_t rows, int64_t tile_rows, int threads, const TileBody& tile_body, const BlockBody& block_body) {
  const int64_t size = block_rows(rows, tile_rows);
  const int64_t blocks = (rows + size - 1) / size;
  InOrder order;
  cpu::parallel_ranges(std::min<int64_t>(threads, blocks), 1, [&](int64_t, int64_t, int thread) {
    for (int64_t block = order.claim(); block < blocks; block = order.claim()) {
      const int64_t begin = block * size;
      const int64_t end = std::min(rows, begin + size);
      for (int64_t n = begin; n < end; n += tile_rows) tile_body(n, std::min(tile_rows, end - n), thread);
      order.wait_for_turn(block);
      block_body(begin, end - begin, thread);
      order.finish(block);
    }
  });
}

/// Threads worth having for that many terms.
int useful_threads(int64_t rows, const DiagonalMixture& mixture) {
  constexpr double kTermsPerThread = 1 << 17;
  const double terms = static_cast<double>(rows) * static_cast<double>(mixture.components * mixture.dims);
  return static_cast<int>(std::clamp<double>(terms / kTermsPerThread, 1, cpu_threads()));
}

float weight(const float* weights, int64_t n) { return weights != nullptr ? weights[n] : 1.0f; }

}  // namespace

void run_cpu(const DiagonalMixtureMarginal& args) {
  if (args.total != nullptr) *args.total = 0.0f;
  if (args.rows == 0) return;
  const Engine engine(args.mixture);
  const int threads = useful_threads(args.rows, args.mixture);
  const Scratch memory(threads * engine.tile_floats());
  std::vector<double> block_total(static_cast<std::size_t>(threads) * 8);  // a cache line each
  std::vector<std::vector<double>> r(static_cast<std::size_t>(threads));
  for (auto& row : r) row.resize(engine.peak().size());
  double total = 0;
  visit(
      args.rows, engine.tile_rows(), threads,
      [&](int64_t first, int64_t rows, int thread) {
        Tile tile = engine.tile(memory.data() + thread * engine.tile_floats());
        bool slow[kTileRows];
        const float* const x = args.x + first * args.mixture.dims;
        double& sum = block_total[static_cast<std::size_t>(thread) * 8];
        if (engine.exponentials(x, rows, tile, slow)) {
          sum += HWY_DYNAMIC_DISPATCH(Weigh)(tile, args.weights != nullptr ? args.weights + first : nullptr);
        } else {
          for (int64_t n = 0; n < rows; ++n) {
            if (slow[n]) {
              tile.y[n] = posterior(args.mixture, engine.peak(), x + n * args.mixture.dims,
                                    r[static_cast<std::size_t>(thread)].data());
            }
            const float w = weight(args.weights, first + n);
            if (w != 0.0f) sum += double{w} * tile.y[n];
          }
        }
        if (args.y != nullptr) std::copy(tile.y, tile.y + rows, args.y + first);
      },
      [&](int64_t, int64_t, int thread) {
        total += block_total[static_cast<std::size_t>(thread) * 8];
        block_total[static_cast<std::size_t>(thread) * 8] = 0;
      });
  if (args.total != nullptr) *args.total = static_cast<float>(total);
}

namespace {

/// One thread's share of the statistics: sums of the block it is working on.
struct Worker {
  Tile tile;
  float* s0;
  float* s12;
  double total = 0;
  std::vector<int64_t> slow;  // rows of the block that are left to double
  std::vector<double> r;
};

class StatisticsRun {
 public:
  explicit StatisticsRun(const DiagonalMixtureStatistics& args)
      : args_(args),
        engine_(args.mixture),
        threads_(useful_threads(args.rows, args.mixture)),
        padded_(engine_.plan().vectors * engine_.plan().lanes),
        floats_(engine_.tile_floats() + padded_ * (1 + 2 * args.mixture.dims)),
        memory_(threads_ * floats_),
        workers_(static_cast<std::size_t>(threads_)) {
    for (int t = 0; t < threads_; ++t) {
      float* const memory = memory_.data() + t * floats_;
      Worker& worker = workers_[static_cast<std::size_t>(t)];
      worker.tile = engine_.tile(memory);
      worker.s0 = memory + engine_.tile_floats();
      worker.s12 = worker.s0 + padded_;
      std::fill(worker.s0, worker.s0 + padded_ * (1 + 2 * args.mixture.dims), 0.0f);
      worker.r.resize(engine_.peak().size());
    }
  }

  void run() {
    visit(
        args_.rows, engine_.tile_rows(), threads_,
        [&](int64_t first, int64_t rows, int thread) {
          add_tile(first, rows, workers_[static_cast<std::size_t>(thread)]);
        },
        [&](int64_t, int64_t, int thread) { add_block(workers_[static_cast<std::size_t>(thread)]); });
    standardise();
  }
  double total() const { return total_; }

 private:
  void add_tile(int64_t first, int64_t rows, Worker& worker) {
    Tile& tile = worker.tile;
    const int64_t dims = args_.mixture.dims;
    bool slow[kTileRows];
    if (engine_.exponentials(args_.x + first * dims, rows, tile, slow)) {
      worker.total += HWY_DYNAMIC_DISPATCH(Weigh)(tile, args_.weights != nullptr ? args_.weights + first : nullptr);
    } else {
      weigh_without_slow(first, tile, slow, worker);
    }
    if (args_.y != nullptr) std::copy(tile.y, tile.y + rows, args_.y + first);
    if (!engine_.ordinary()) return;
    HWY_DYNAMIC_DISPATCH(Statistics)(engine_.plan(), tile, worker.s0, worker.s12);
    if (args_.dx != nullptr) {
      HWY_DYNAMIC_DISPATCH(DataGradients)(engine_.plan(), tile, args_.dx + first * dims);
    }
  }

  void weigh_without_slow(int64_t first, Tile& tile, const bool* slow, Worker& worker) {
    for (int64_t n = 0; n < tile.rows; ++n) {
      const float w = weight(args_.weights, first + n);
      tile.scale[n] = slow[n] ? 0.0f : w / tile.sum[n];
      if (slow[n]) worker.slow.push_back(first + n);
      if (!slow[n] && w != 0.0f) worker.total += double{w} * tile.y[n];
    }
  }

  void add_block(Worker& worker) {
    const Plan& plan = engine_.plan();
    total_ += worker.total;
    worker.total = 0;
    for (int64_t k = 0; k < plan.components; ++k) {
      args_.s0[k] += worker.s0[k];
      const float* const from = worker.s12 + k / plan.lanes * plan.lanes * plan.dims * 2 + k % plan.lanes;
      double* const s1 = args_.s1 + k * plan.dims;
      double* const s2 = args_.s2 + k * plan.dims;
      for (int64_t d = 0; d < plan.dims; ++d) {
        s1[d] += from[2 * d * plan.lanes];
        s2[d] += from[(2 * d + 1) * plan.lanes];
      }
    }
    std::fill(worker.s0, worker.s0 + padded_ * (1 + 2 * plan.dims), 0.0f);
    for (const int64_t n : worker.slow) add_slow_row(n, worker.r.data());
    worker.slow.clear();
  }

  void add_slow_row(int64_t n, double* r) {
    const DiagonalMixture& mixture = args_.mixture;
    const int64_t dims = mixture.dims;
    const float* const x = args_.x + n * dims;
    const float y = posterior(mixture, engine_.peak(), x, r);
    if (args_.y != nullptr) args_.y[n] = y;
    if (args_.dx != nullptr) std::fill(args_.dx + n * dims, args_.dx + (n + 1) * dims, 0.0f);
    const float w = weight(args_.weights, n);
    if (w == 0.0f) return;
    total_ += double{w} * y;
    if (y == -INFINITY) return;
    for (int64_t k = 0; k < mixture.components; ++k) {
      if (engine_.peak()[static_cast<std::size_t>(k)] == -INFINITY || r[k] == 0.0) continue;
      const double wr = w * r[k];
      args_.s0[k] += wr;
      for (int64_t d = 0; d < dims; ++d) {
        // In the units of the fast path, if that ran at all.
        const double t = residual(mixture, k, d, x[d]);
        const double value = engine_.ordinary() ? double{x[d]} - mixture.mean[k * dims + d] : t;
        args_.s1[k * dims + d] += wr * value;
        args_.s2[k * dims + d] += wr * value * value;
      }
    }
    for (int64_t d = 0; args_.dx != nullptr && d < dims; ++d) {
      double sum = 0;
      for (int64_t k = 0; k < mixture.components; ++k) {
        if (engine_.peak()[static_cast<std::size_t>(k)] == -INFINITY || r[k] == 0.0) continue;
        sum -= r[k] * residual(mixture, k, d, x[d]) * std::exp(-double{mixture.log_scale[k * dims + d]});
      }
      args_.dx[n * dims + d] = static_cast<float>(w * sum);
    }
  }

  /// From differences to residuals.
  void standardise() {
    if (!engine_.ordinary()) return;
    const Plan& plan = engine_.plan();
    cpu::parallel_ranges(
        plan.components, std::max<int64_t>(1, (1 << 14) / plan.dims), [&](int64_t begin, int64_t end, int) {
          for (int64_t k = begin; k < end; ++k) {
            const float* const inverses =
                plan.parameters + k / plan.lanes * plan.lanes * plan.dims * 2 + k % plan.lanes + plan.lanes;
            for (int64_t d = 0; d < plan.dims; ++d) {
              const double inverse = inverses[2 * d * plan.lanes] * std::sqrt(2 / kLog2E);
              args_.s1[k * plan.dims + d] *= inverse;
              args_.s2[k * plan.dims + d] *= inverse * inverse;
            }
          }
        });
  }

  const DiagonalMixtureStatistics& args_;
  const Engine engine_;
  const int threads_;
  const int64_t padded_;
  const int64_t floats_;
  const Scratch memory_;
  std::vector<Worker> workers_;
  double total_ = 0;
};

}  // namespace

void run_cpu(const DiagonalMixtureStatistics& args) {
  const int64_t size = args.mixture.components * args.mixture.dims;
  std::fill(args.s0, args.s0 + args.mixture.components, 0.0);
  std::fill(args.s1, args.s1 + size, 0.0);
  std::fill(args.s2, args.s2 + size, 0.0);
  if (args.total != nullptr) *args.total = 0.0f;
  if (args.rows == 0) return;
  // y_given is not needed: a row's maximum and sum cost little beside its exponentials, and make its
  // responsibilities sum to 1 whatever was rounded.
  StatisticsRun statistics(args);
  statistics.run();
  if (args.total != nullptr) *args.total = static_cast<float>(statistics.total());
}

void run_cpu(const DiagonalMixtureGradients& args) {
  const DiagonalMixture& mixture = args.mixture;
  const double upstream = args.upstream != nullptr ? *args.upstream : 1.0;
  if (args.d_logits != nullptr) {
    const std::vector<double> log_pi = log_weights(mixture);
    double sum = 0;
    for (int64_t k = 0; k < mixture.components; ++k) sum += args.s0[k];
    for (int64_t k = 0; k < mixture.components; ++k) {
      args.d_logits[k] =
          static_cast<float>(upstream * (args.s0[k] - std::exp(log_pi[static_cast<std::size_t>(k)]) * sum));
    }
  }
  cpu::parallel_ranges(
      mixture.components, std::max<int64_t>(1, (1 << 13) / mixture.dims), [&](int64_t begin, int64_t end, int) {
        for (int64_t k = begin; k < end; ++k) {
          for (int64_t i = k * mixture.dims; i < (k + 1) * mixture.dims; ++i) {
            // A sum of exactly 0 stays 0 whatever the scale is: a component of no weight has no gradient.
            if (args.d_mean != nullptr) {
              args.d_mean[i] =
                  args.s1[i] == 0.0
                      ? 0.0f
                      : static_cast<float>(upstream * args.s1[i] * std::exp(-double{mixture.log_scale[i]}));
            }
            if (args.d_log_scale != nullptr) {
              args.d_log_scale[i] = static_cast<float>(upstream * (args.s2[i] - args.s0[k]));
            }
          }
        }
      });
}

namespace {

/// Calls body(row, y, e, 1 / sum) for each row, with the row's terms e[k] for k below K; from a slow row
/// these are the responsibilities themselves.
template <class Body>
void for_each_posterior(const DiagonalMixture& mixture, const float* x, int64_t rows, const Body& body) {
  const Engine engine(mixture);
  const int64_t tile_rows = engine.tile_rows();
  const int threads = useful_threads(rows, mixture);
  const int64_t grain = (rows + threads - 1) / threads;
  cpu::parallel_ranges(rows, std::max<int64_t>(grain, 1), tile_rows, [&](int64_t begin, int64_t end, int) {
    const Scratch memory(engine.tile_floats());
    Tile tile = engine.tile(memory.data());
    bool slow[kTileRows];
    std::vector<double> r(engine.peak().size());
    for (int64_t first = begin; first < end; first += tile_rows) {
      const int64_t count = std::min(tile_rows, end - first);
      if (engine.exponentials(x + first * mixture.dims, count, tile, slow)) std::fill(slow, slow + count, false);
      for (int64_t n = 0; n < count; ++n) {
        float* const terms = tile.terms + n * engine.plan().stride;
        if (slow[n]) {
          const float y = posterior(mixture, engine.peak(), x + (first + n) * mixture.dims, r.data());
          std::copy(r.begin(), r.end(), terms);
          body(first + n, y, terms, 1.0f);
        } else {
          body(first + n, tile.y[n], terms, 1.0f / tile.sum[n]);
        }
      }
    }
  });
}

}  // namespace

void run_cpu(const DiagonalMixtureResponsibilities& args) {
  const int64_t components = args.mixture.components;
  for_each_posterior(args.mixture, args.x, args.rows, [&](int64_t n, float, const float* e, float scale) {
    float* const r = args.r + n * components;
    for (int64_t k = 0; k < components; ++k) r[k] = e[k] * scale;
  });
}

void run_cpu(const DiagonalMixturePosteriorSample& args) {
  const int64_t components = args.mixture.components;
  for_each_posterior(args.mixture, args.x, args.rows, [&](int64_t n, float y, const float* e, float) {
    if (args.y != nullptr) args.y[n] = y;
    int32_t* const z = args.z + n * args.samples;
    if (std::isnan(y) || y == -INFINITY) {
      std::fill(z, z + args.samples, -1);
      return;
    }
    double total = 0;
    for (int64_t k = 0; k < components; ++k) total += e[k];
    const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
    PhiloxWords words = {};
    for (int64_t s = 0; s < args.samples; ++s) {
      if (s % 4 == 0) {
        words = draw_words(args.draws.seed, {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step),
                                             static_cast<uint32_t>(s / 4)});
      }
      // The first running sum that reaches the target: its own term is above zero, since the target
      // is, and the last sum is the total itself.
      const double target = double{uniform_from_word(words.w[s % 4])} * total;
      int64_t k = 0;
      for (double sum = e[0]; sum < target; sum += e[k]) ++k;
      z[s] = static_cast<int32_t>(k);
    }
  });
}

void run_cpu(const DiagonalMixtureJoint& args) {
  const std::vector<double> peak = peaks(args.mixture);
  const int64_t grain = std::max<int64_t>(1, (1 << 13) / (args.samples * args.mixture.dims));
  cpu::parallel_ranges(args.rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * args.samples; i < end * args.samples; ++i) {
      const int32_t k = args.z[i];
      args.y[i] = k < 0 || k >= args.mixture.components
                      ? NAN
                      : static_cast<float>(log_joint(args.mixture, peak[static_cast<std::size_t>(k)], k,
                                                     args.x + i / args.samples * args.mixture.dims));
    }
  });
}

void run_cpu(const DiagonalMixtureJointStatistics& args) {
  const DiagonalMixture& mixture = args.mixture;
  const int64_t dims = mixture.dims;
  std::fill(args.s0, args.s0 + mixture.components, 0.0);
  std::fill(args.s1, args.s1 + mixture.components * dims, 0.0);
  std::fill(args.s2, args.s2 + mixture.components * dims, 0.0);
  const auto contributes = [&](int64_t i) {
    const int32_t k = args.z[i];
    return args.g[i] != 0.0f && k >= 0 && k < mixture.components && mixture.logits[k] != -INFINITY;
  };
  for (int64_t i = 0; i < args.rows * args.samples; ++i) {
    if (contributes(i)) args.s0[args.z[i]] += args.g[i];
  }
  // A thread owns a range of the sums and reads all of the data: no scratch, and one order of adding
  // for any number of threads.
  const int64_t size = mixture.components * dims;
  const int64_t grain = std::max<int64_t>(1, size * (1 << 13) / std::max<int64_t>(1, args.rows * args.samples * dims));
  cpu::parallel_ranges(size, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < args.rows * args.samples; ++i) {
      if (!contributes(i)) continue;
      const int64_t k = args.z[i];
      const float* const x = args.x + i / args.samples * dims;
      for (int64_t j = std::max(begin, k * dims); j < std::min(end, (k + 1) * dims); ++j) {
        const double t = residual(mixture, k, j - k * dims, x[j - k * dims]);
        args.s1[j] += args.g[i] * t;
        args.s2[j] += args.g[i] * t * t;
      }
    }
  });
  if (args.dx == nullptr) return;
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, (1 << 12) / dims), [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t d = 0; d < dims; ++d) {
        double sum = 0;
        for (int64_t i = n * args.samples; i < (n + 1) * args.samples; ++i) {
          if (!contributes(i)) continue;
          const int64_t k = args.z[i];
          sum -= args.g[i] * residual(mixture, k, d, args.x[n * dims + d]) *
                 std::exp(-double{mixture.log_scale[k * dims + d]});
        }
        args.dx[n * dims + d] = static_cast<float>(sum);
      }
    }
  });
}

void run_cpu(const DiagonalMixtureAncestral& args) {
  const DiagonalMixture& mixture = args.mixture;
  const int64_t dims = mixture.dims;
  std::vector<double> cumulative = log_weights(mixture);
  double sum = 0;
  for (double& value : cumulative) value = sum += std::exp(value);
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, (1 << 10) / dims), [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      float* const x = args.x + n * dims;
      DrawIndex index = {args.draws.site, static_cast<uint64_t>(n), static_cast<uint64_t>(*args.draws.step), 0};
      if (!(sum > 0)) {  // no component of weight, or a NaN logit
        args.z[n] = -1;
        std::fill(x, x + dims, std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const double target = double{uniform_from_word(draw_words(args.draws.seed, index).w[0])} * sum;
      const int64_t k = std::lower_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin();
      args.z[n] = static_cast<int32_t>(k);
      for (int64_t d = 0; d < dims; d += 2) {
        if (d % 4 == 0) ++index.block;
        const PhiloxWords words = draw_words(args.draws.seed, index);
        const NormalPair normals = normals_from_words(words.w[d % 4], words.w[d % 4 + 1]);
        for (int64_t i = d; i < std::min(d + 2, dims); ++i) {
          const float normal = i == d ? normals.first : normals.second;
          x[i] = mixture.mean[k * dims + i] + std::exp(mixture.log_scale[k * dims + i]) * normal;
        }
      }
    }
  });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
