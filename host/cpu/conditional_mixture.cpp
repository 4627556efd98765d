// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads and visited in tiles of one vector: a lane is a row, so that short rows, the
// usual case, fill the vectors too. Parameters are transposed on the way in and gradients on the way out,
// one component at a time. Traffic: forward reads 4K(2D + 1) bytes a row; backward reads as many and
// writes as many. One exp for each of the K x D scales.
#include "kernels/conditional_mixture.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <hwy/aligned_allocator.h>

#include <cmath>
#include <cstring>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/conditional_mixture.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"
#include "host/cpu/transpose-inl.hpp"

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::Transpose;
using cpu::HWY_NAMESPACE::VecF32;

int64_t Lanes() { return static_cast<int64_t>(hn::Lanes(F32())); }

// Vectors of columns that are transposed together.
constexpr int64_t kColumns = 64;

// Columns of a tile from rows that are `stride` apart; 0 in the lanes past the last row.
HWY_INLINE void LoadColumns(const float* rows, int64_t stride, int64_t cols, int64_t count, float* columns) {
  const int64_t lanes = Lanes();
  Transpose(rows, stride, count, cols, columns, lanes);
  for (int64_t row = count; row < lanes; ++row) {
    for (int64_t i = 0; i < cols; ++i) columns[i * lanes + row] = 0.0f;
  }
}

HWY_INLINE void StoreColumns(const float* columns, int64_t stride, int64_t cols, int64_t count, float* rows) {
  Transpose(columns, Lanes(), cols, count, rows, stride);
}

// As many rows as a vector has lanes, and what is computed from them; (K) and (D) count vectors.
class Tile {
 public:
  explicit Tile(const ConditionalMixture& mixture)
      : group(std::clamp<int64_t>(kColumns / mixture.dims, 1, mixture.components)), m_(mixture) {
    const int64_t columns = group * m_.dims;
    const int64_t vectors = 3 * m_.components + 4 * columns + 4 * m_.dims + 1;
    memory_ = hwy::AllocateAligned<float>(static_cast<std::size_t>(vectors * Lanes()));
    float* next = memory_.get();
    for (float** part : {&log_weight, &log_joint, &d_logits}) *part = next, next += m_.components * Lanes();
    for (float** part : {&mean_, &log_scale_, &pull, &stretch}) *part = next, next += columns * Lanes();
    for (float** part : {&x_, &t, &inverse, &d_x}) *part = next, next += m_.dims * Lanes();
    y = next;
  }

  // Rows n..n+count-1: their data and log pi_k.
  void Load(const float* x, int64_t n, int64_t count) {
    const F32 f;
    const int64_t lanes = Lanes();
    first_ = n;
    count_ = count;
    LoadColumns(x + n * m_.dims, m_.dims, m_.dims, count, x_);
    LoadColumns(m_.logits + n * m_.components, m_.components, m_.components, count, log_weight);
    VecF32 max = hn::Set(f, -INFINITY);
    for (int64_t k = 0; k < m_.components; ++k) max = hn::Max(max, hn::Load(f, log_weight + k * lanes));
    const VecF32 shift = Finite(max);
    VecF32 sum = hn::Zero(f);
    for (int64_t k = 0; k < m_.components; ++k) {
      const VecF32 off = hn::Sub(hn::Load(f, log_weight + k * lanes), shift);
      hn::Store(off, f, log_weight + k * lanes);
      sum = hn::Add(sum, ExpBelow88(f, off));
    }
    const VecF32 log_sum = LogOf(sum);
    for (int64_t k = 0; k < m_.components; ++k) {
      const VecF32 off = hn::Load(f, log_weight + k * lanes);
      // A row of nothing but -inf must not become -inf - -inf.
      hn::Store(hn::IfThenElse(hn::Eq(off, hn::Set(f, -INFINITY)), off, hn::Sub(off, log_sum)), f,
                log_weight + k * lanes);
    }
  }

  // log p(x, k), with t and 1 / scale of the component; called for k in order.
  VecF32 LogJoint(int64_t k) {
    const F32 f;
    const int64_t lanes = Lanes();
    if (k % group == 0) {
      const int64_t size = m_.components * m_.dims;
      const int64_t at = first_ * size + k * m_.dims;
      const int64_t columns = std::min(group, m_.components - k) * m_.dims;
      LoadColumns(m_.mean + at, size, columns, count_, mean_);
      LoadColumns(m_.log_scale + at, size, columns, count_, log_scale_);
    }
    const float* const mean = mean_ + k % group * m_.dims * lanes;
    const float* const log_scales = log_scale_ + k % group * m_.dims * lanes;
    constexpr float kHalfLogTwoPi = 0.918938533f;
    VecF32 sum = hn::Set(f, -kHalfLogTwoPi * static_cast<float>(m_.dims));
    VecF32 squares = hn::Zero(f);
    for (int64_t i = 0; i < m_.dims * lanes; i += lanes) {
      const VecF32 log_scale = hn::Load(f, log_scales + i);
      const VecF32 inv = ExpBelow88(f, hn::Min(hn::Neg(log_scale), hn::Set(f, 88.0f)));
      const VecF32 residual = hn::Mul(hn::Sub(hn::Load(f, x_ + i), hn::Load(f, mean + i)), inv);
      hn::Store(inv, f, inverse + i);
      hn::Store(residual, f, t + i);
      squares = hn::MulAdd(residual, residual, squares);
      sum = hn::Sub(sum, log_scale);
    }
    // A component of no weight by selection: its parameters may be anything.
    const VecF32 weight = hn::Load(f, log_weight + k * lanes);
    const VecF32 joint = hn::Add(hn::NegMulAdd(squares, hn::Set(f, 0.5f), sum), weight);
    return hn::IfThenElse(hn::Eq(weight, hn::Set(f, -INFINITY)), weight, joint);
  }

  // log_joint of every component, and y, the log marginal.
  void LogMarginal() {
    const F32 f;
    const int64_t lanes = Lanes();
    VecF32 max = hn::Set(f, -INFINITY);
    for (int64_t k = 0; k < m_.components; ++k) {
      const VecF32 joint = LogJoint(k);
      hn::Store(joint, f, log_joint + k * lanes);
      max = hn::Max(max, joint);
    }
    const VecF32 shift = Finite(max);
    VecF32 sum = hn::Zero(f);
    for (int64_t k = 0; k < m_.components; ++k) {
      sum = hn::Add(sum, ExpBelow88(f, hn::Sub(hn::Load(f, log_joint + k * lanes), shift)));
    }
    hn::Store(hn::Add(shift, LogOf(sum)), f, y);
  }

  const int64_t group;  // components whose parameters are transposed together, G

  float* log_weight;  // (K) log pi_k
  float* log_joint;   // (K)
  float* d_logits;    // (K)
  float* t;           // (D) of one component
  float* inverse;     // (D) 1 / scale
  float* d_x;         // (D)
  float* pull;        // (G, D) gradients by the means
  float* stretch;     // (G, D) and by the log scales
  float* y;           // (1)

 private:
  // -inf made 0: a row without mass is not shifted, for -inf - -inf would be NaN.
  static VecF32 Finite(VecF32 max) { return hn::IfThenZeroElse(hn::Eq(max, hn::Set(F32(), -INFINITY)), max); }
  // -inf for 0, NaN for NaN, whatever Log makes of them.
  static VecF32 LogOf(VecF32 sum) {
    const F32 f;
    const VecF32 log = hn::MulAdd(sum, hn::Zero(f), hn::Log(f, sum));
    return hn::IfThenElse(hn::Eq(sum, hn::Zero(f)), hn::Set(f, -INFINITY), log);
  }

  const ConditionalMixture& m_;
  int64_t first_ = 0;
  int64_t count_ = 0;
  hwy::AlignedFreeUniquePtr<float[]> memory_;
  float* x_;
  float* mean_;       // (G, D)
  float* log_scale_;  // (G, D)
};

void MarginalRows(const ConditionalMixtureMarginal& args, int64_t begin, int64_t end) {
  Tile tile(args.mixture);
  for (int64_t n = begin; n < end; n += Lanes()) {
    const int64_t count = std::min(Lanes(), end - n);
    tile.Load(args.x, n, count);
    tile.LogMarginal();
    std::memcpy(args.y + n, tile.y, sizeof(float) * static_cast<std::size_t>(count));
  }
}

void BackwardRows(const ConditionalMixtureBackward& args, int64_t begin, int64_t end) {
  const F32 f;
  const int64_t lanes = Lanes();
  const int64_t components = args.mixture.components;
  const int64_t dims = args.mixture.dims;
  const int64_t size = components * dims;
  Tile tile(args.mixture);
  for (int64_t n = begin; n < end; n += lanes) {
    const int64_t count = std::min(lanes, end - n);
    tile.Load(args.x, n, count);
    LoadColumns(args.g + n, 1, 1, count, tile.y);
    const VecF32 g = hn::Load(f, tile.y);
    LoadColumns(args.y + n, 1, 1, count, tile.y);
    const VecF32 y = hn::Load(f, tile.y);
    const auto none = hn::Or(hn::Eq(g, hn::Zero(f)), hn::Eq(y, hn::Set(f, -INFINITY)));
    for (int64_t i = 0; i < dims * lanes; i += lanes) hn::Store(hn::Zero(f), f, tile.d_x + i);
    for (int64_t k = 0; k < components; ++k) {
      const VecF32 r = hn::IfThenZeroElse(none, ExpBelow88(f, hn::Sub(tile.LogJoint(k), y)));
      const VecF32 pi = ExpBelow88(f, hn::Load(f, tile.log_weight + k * lanes));
      hn::Store(hn::IfThenZeroElse(none, hn::Mul(g, hn::Sub(r, pi))), f, tile.d_logits + k * lanes);
      const VecF32 weight = hn::Mul(g, r);
      // By selection, for t may have overflowed where r is 0.
      const auto zero = hn::Or(none, hn::Eq(weight, hn::Zero(f)));
      const int64_t within = k % tile.group;
      for (int64_t i = 0; i < dims * lanes; i += lanes) {
        const VecF32 t = hn::Load(f, tile.t + i);
        const VecF32 pull = hn::IfThenZeroElse(zero, hn::Mul(weight, hn::Mul(t, hn::Load(f, tile.inverse + i))));
        const VecF32 stretch = hn::IfThenZeroElse(zero, hn::Mul(weight, hn::MulSub(t, t, hn::Set(f, 1.0f))));
        hn::Store(pull, f, tile.pull + within * dims * lanes + i);
        hn::Store(stretch, f, tile.stretch + within * dims * lanes + i);
        hn::Store(hn::Sub(hn::Load(f, tile.d_x + i), pull), f, tile.d_x + i);
      }
      if (within + 1 < tile.group && k + 1 < components) continue;
      const int64_t at = n * size + (k - within) * dims;
      const int64_t columns = (within + 1) * dims;
      if (args.d_mean != nullptr) StoreColumns(tile.pull, size, columns, count, args.d_mean + at);
      if (args.d_log_scale != nullptr) StoreColumns(tile.stretch, size, columns, count, args.d_log_scale + at);
    }
    if (args.d_logits != nullptr) {
      StoreColumns(tile.d_logits, components, components, count, args.d_logits + n * components);
    }
    if (args.d_x != nullptr) StoreColumns(tile.d_x, dims, dims, count, args.d_x + n * dims);
  }
}

void PosteriorRows(const ConditionalMixturePosteriorSample& args, int64_t begin, int64_t end) {
  const int64_t lanes = Lanes();
  const int64_t components = args.mixture.components;
  const auto step = static_cast<uint64_t>(*args.draws.step);
  Tile tile(args.mixture);
  std::vector<float> cumulative(static_cast<std::size_t>(components));
  for (int64_t n = begin; n < end; ++n) {
    const int64_t lane = (n - begin) % lanes;
    if (lane == 0) {
      tile.Load(args.x, n, std::min(lanes, end - n));
      tile.LogMarginal();
    }
    int32_t* const z = args.z + n * args.samples;
    const float y = tile.y[lane];
    if (std::isnan(y) || std::isinf(y)) {
      std::fill(z, z + args.samples, -1);
      continue;
    }
    float sum = 0;
    for (int64_t k = 0; k < components; ++k) {
      sum += std::exp(tile.log_joint[k * lanes + lane] - y);
      cumulative[static_cast<std::size_t>(k)] = sum;
    }
    const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
    PhiloxWords words = {};
    for (int64_t s = 0; s < args.samples; ++s) {
      if (s % 4 == 0) words = draw_words(args.draws.seed, {args.draws.site, datum, step, static_cast<uint32_t>(s / 4)});
      // The target is above zero, so what reaches it first has weight; the last sum is the total.
      const float target = uniform_from_word(words.w[s % 4]) * sum;
      z[s] = static_cast<int32_t>(std::lower_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin());
    }
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(MarginalRows);
HWY_EXPORT(BackwardRows);
HWY_EXPORT(PosteriorRows);

namespace {
int64_t grain_rows(const ConditionalMixture& mixture) {
  constexpr int64_t kGrainTerms = 1 << 13;
  return 1 + kGrainTerms / (mixture.components * (mixture.dims + 1));
}
}  // namespace

void run_cpu(const ConditionalMixtureMarginal& args) {
  const auto rows = HWY_DYNAMIC_DISPATCH(MarginalRows);
  cpu::parallel_ranges(args.mixture.rows, grain_rows(args.mixture),
                       [&](int64_t begin, int64_t end, int) { rows(args, begin, end); });
}

void run_cpu(const ConditionalMixtureBackward& args) {
  const auto rows = HWY_DYNAMIC_DISPATCH(BackwardRows);
  cpu::parallel_ranges(args.mixture.rows, grain_rows(args.mixture),
                       [&](int64_t begin, int64_t end, int) { rows(args, begin, end); });
}

void run_cpu(const ConditionalMixturePosteriorSample& args) {
  const auto rows = HWY_DYNAMIC_DISPATCH(PosteriorRows);
  cpu::parallel_ranges(args.mixture.rows, grain_rows(args.mixture),
                       [&](int64_t begin, int64_t end, int) { rows(args, begin, end); });
}

void run_cpu(const ConditionalMixtureAncestral& args) {
  const ConditionalMixture& m = args.mixture;
  const auto step = static_cast<uint64_t>(*args.draws.step);
  const uint64_t site = args.draws.site;
  cpu::parallel_ranges(m.rows, grain_rows(m), [&](int64_t begin, int64_t end, int) {
    std::vector<float> cumulative(static_cast<std::size_t>(m.components));
    for (int64_t n = begin; n < end; ++n) {
      const float* const logits = m.logits + n * m.components;
      float max = -INFINITY;
      for (int64_t k = 0; k < m.components; ++k) max = std::max(max, logits[k]);
      float sum = 0;
      for (int64_t k = 0; k < m.components; ++k) {
        if (logits[k] != -INFINITY) sum += std::exp(logits[k] - max);
        cumulative[static_cast<std::size_t>(k)] = sum;
      }
      float* const x = args.x + n * m.dims;
      if (!(sum > 0)) {  // false for NaN, too
        args.z[n] = -1;
        std::fill(x, x + m.dims, NAN);
        continue;
      }
      const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
      const float target = uniform_from_word(draw_words(args.draws.seed, {site, datum, step, 0}).w[0]) * sum;
      const int64_t z = std::lower_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin();
      args.z[n] = static_cast<int32_t>(z);
      const float* const mean = m.mean + (n * m.components + z) * m.dims;
      const float* const log_scale = m.log_scale + (n * m.components + z) * m.dims;
      PhiloxWords words = {};
      for (int64_t d = 0; d < m.dims; ++d) {
        if (d % 4 == 0) words = draw_words(args.draws.seed, {site, datum, step, static_cast<uint32_t>(1 + d / 4)});
        const int first = d % 4 < 2 ? 0 : 2;
        const NormalPair pair = normals_from_words(words.w[first], words.w[first + 1]);
        x[d] = mean[d] + std::exp(log_scale[d]) * (d % 2 == 0 ? pair.first : pair.second);
      }
    }
  });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
