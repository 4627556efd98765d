// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads and visited in tiles of kPoints, transposed so that a vector holds one
// dimension of consecutive points. For each component a tile is whitened, t = L^-1 (x - mean), in
// registers four dimensions at a time. Where the whitened tile of all components fits the
// second-level cache it is kept until the responsibilities are known; otherwise it is computed twice.
// The second moments are products of four rows by four columns, over all points of the tile in
// registers, then added to float sums that go to double every kFlush tiles.
//
// Arithmetic (FMA a row and component): D(D+1)/2 to whiten, as many for s2, as many for dx.
// Memory: the tile (at most kKeptBytes), and the sums: about K D^2 (2 + 8) bytes a thread.
// Order: fixed by the tiles and the number of threads.
#include "kernels/full_mixture.hpp"

#include "host/cpu/full_mixture_parts.hpp"
#include "host/cpu/mixture_weights.hpp"
#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <hwy/aligned_allocator.h>

#include <cmath>
#include <cstring>
#include <numeric>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/full_mixture.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"
#include "host/cpu/transpose-inl.hpp"

#include <hwy/contrib/math/math-inl.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {  // names of one file must not meet those of another: each target has one namespace
namespace {  // every op has a namespace of this name

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::Transpose;
using cpu::HWY_NAMESPACE::VecF32;
using full::Prepared;
using full::Sums;

constexpr int64_t kPoints = 128;
constexpr int64_t kKeptBytes = 512 << 10;
constexpr int64_t kFlush = 16;
// Vectors of points that are whitened together, and rows of a block of s2: what the registers hold.
#if HWY_TARGET <= HWY_AVX3 || HWY_ARCH_ARM
constexpr int kGroup = 4;
constexpr int kRows = 4;
#else
constexpr int kGroup = 2;
constexpr int kRows = 2;
#endif

int64_t Lanes() { return static_cast<int64_t>(hn::Lanes(F32())); }

// Rows first..first+R-1 of t = inverse * d for one group of vectors; adds their squares to q.
template <int R, bool kStore>
HWY_INLINE void WhitenRows(const float* HWY_RESTRICT inverse, int64_t dims, int64_t first, const float* HWY_RESTRICT d,
                           int64_t points, float* HWY_RESTRICT t, VecF32 (&q)[kGroup]) {
  const F32 f;
  const int64_t lanes = Lanes();
  VecF32 sum[R][kGroup];
  for (auto& row : sum) {
    for (VecF32& v : row) v = hn::Zero(f);
  }
  const float* const rows = inverse + first * dims;
  for (int64_t j = 0; j < first; ++j) {
    VecF32 x[kGroup];
    for (int v = 0; v < kGroup; ++v) x[v] = hn::Load(f, d + j * points + v * lanes);
    for (int r = 0; r < R; ++r) {
      const VecF32 c = hn::Set(f, rows[r * dims + j]);
      for (int v = 0; v < kGroup; ++v) sum[r][v] = hn::MulAdd(c, x[v], sum[r][v]);
    }
  }
  for (int b = 0; b < R; ++b) {
    VecF32 x[kGroup];
    for (int v = 0; v < kGroup; ++v) x[v] = hn::Load(f, d + (first + b) * points + v * lanes);
    for (int r = b; r < R; ++r) {
      const VecF32 c = hn::Set(f, rows[r * dims + first + b]);
      for (int v = 0; v < kGroup; ++v) sum[r][v] = hn::MulAdd(c, x[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kGroup; ++v) {
      if constexpr (kStore) hn::Store(sum[r][v], f, t + (first + r) * points + v * lanes);
      q[v] = hn::MulAdd(sum[r][v], sum[r][v], q[v]);
    }
  }
}

// Columns first..first+R-1 of dx -= inverse^T u for one group of vectors.
template <int R>
HWY_INLINE void PullBackColumns(const float* HWY_RESTRICT inverse, int64_t dims, int64_t first,
                                const float* HWY_RESTRICT u, int64_t points, float* HWY_RESTRICT dx) {
  const F32 f;
  const int64_t lanes = Lanes();
  VecF32 sum[R][kGroup];
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kGroup; ++v) sum[r][v] = hn::Load(f, dx + (first + r) * points + v * lanes);
  }
  const float* const columns = inverse + first;
  for (int b = 0; b < R; ++b) {
    VecF32 x[kGroup];
    for (int v = 0; v < kGroup; ++v) x[v] = hn::Load(f, u + (first + b) * points + v * lanes);
    for (int r = 0; r <= b; ++r) {
      const VecF32 c = hn::Set(f, columns[(first + b) * dims + r]);
      for (int v = 0; v < kGroup; ++v) sum[r][v] = hn::NegMulAdd(c, x[v], sum[r][v]);
    }
  }
  for (int64_t i = first + R; i < dims; ++i) {
    VecF32 x[kGroup];
    for (int v = 0; v < kGroup; ++v) x[v] = hn::Load(f, u + i * points + v * lanes);
    for (int r = 0; r < R; ++r) {
      const VecF32 c = hn::Set(f, columns[i * dims + r]);
      for (int v = 0; v < kGroup; ++v) sum[r][v] = hn::NegMulAdd(c, x[v], sum[r][v]);
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < kGroup; ++v) hn::Store(sum[r][v], f, dx + (first + r) * points + v * lanes);
  }
}

HWY_INLINE void AddTo(float* to, VecF32 v) {
  const F32 f;
  hn::Store(hn::Add(hn::Load(f, to), v), f, to);
}

// Floats of four running sums: each is spread over lanes c, c + 4, ...
int64_t FourSums() { return std::max<int64_t>(4, Lanes()); }

// Adds the lanes of a to the first of four running sums, those of b to the second, and so on.
HWY_INLINE void AddToFour(float* to, VecF32 a, VecF32 b, VecF32 c, VecF32 e) {
#if HWY_TARGET == HWY_SCALAR
  AddTo(to, a), AddTo(to + 1, b), AddTo(to + 2, c), AddTo(to + 3, e);
#else
  const F32 f;
  const hn::Repartition<uint64_t, F32> pairs;
  const VecF32 ab = hn::Add(hn::InterleaveLower(f, a, b), hn::InterleaveUpper(f, a, b));
  const VecF32 ce = hn::Add(hn::InterleaveLower(f, c, e), hn::InterleaveUpper(f, c, e));
  const auto x = hn::BitCast(pairs, ab);
  const auto y = hn::BitCast(pairs, ce);
  AddTo(to,
        hn::Add(hn::BitCast(f, hn::InterleaveLower(pairs, x, y)), hn::BitCast(f, hn::InterleaveUpper(pairs, x, y))));
#endif
}

// Rows i..i+R-1 of u by columns j..j+3 of t, summed over the points, in full.
template <int R>
HWY_INLINE void AddProducts(const float* HWY_RESTRICT u, const float* HWY_RESTRICT t, int64_t points, int64_t used,
                            float* const (&to)[R]) {
  const F32 f;
  const int64_t lanes = Lanes();
  VecF32 sum[R][4];
  for (auto& row : sum) {
    for (VecF32& v : row) v = hn::Zero(f);
  }
  for (int64_t p = 0; p < used; p += lanes) {
    VecF32 column[4];
    for (int c = 0; c < 4; ++c) column[c] = hn::Load(f, t + c * points + p);
    for (int r = 0; r < R; ++r) {
      const VecF32 row = hn::Load(f, u + r * points + p);
      for (int c = 0; c < 4; ++c) sum[r][c] = hn::MulAdd(row, column[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) AddToFour(to[r], sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
}

// The same for the R rows of a block on the diagonal: column c of row r only for c <= r.
template <int R>
HWY_INLINE void AddTriangle(const float* HWY_RESTRICT u, const float* HWY_RESTRICT t, int64_t points, int64_t used,
                            float* const (&to)[R]) {
  const F32 f;
  const int64_t lanes = Lanes();
  VecF32 sum[R][4];
  for (auto& row : sum) {
    for (VecF32& v : row) v = hn::Zero(f);
  }
  for (int64_t p = 0; p < used; p += lanes) {
    VecF32 column[R];
    for (int c = 0; c < R; ++c) column[c] = hn::Load(f, t + c * points + p);
    for (int r = 0; r < R; ++r) {
      const VecF32 row = hn::Load(f, u + r * points + p);
      for (int c = 0; c <= r; ++c) sum[r][c] = hn::MulAdd(row, column[c], sum[r][c]);
    }
  }
  for (int r = 0; r < R; ++r) AddToFour(to[r], sum[r][0], sum[r][1], sum[r][2], sum[r][3]);
}

// Calls body with the number of rows of each block of four, which a template argument must be.
template <class Body>
HWY_INLINE void ForBlocksOfFour(int64_t dims, const Body& body) {
  int64_t i = 0;
  for (; i + 4 <= dims; i += 4) body(i, std::integral_constant<int, 4>());
  if (dims - i == 3) body(i, std::integral_constant<int, 3>());
  if (dims - i == 2) body(i, std::integral_constant<int, 2>());
  if (dims - i == 1) body(i, std::integral_constant<int, 1>());
}

// A tile of points and all that is computed from it.
class Tile {
 public:
  enum Row : uint8_t { kFinite, kInfinite, kNaN };

  // kept: components whose whitened tile is kept; at least 1.
  Tile(const Prepared& mixture, int64_t points, int64_t kept, bool with_dx)
      : m_(mixture), dims_(mixture.dims), active_(static_cast<int64_t>(mixture.active.size())), points_(points) {
    const int64_t rows = dims_ * (kept + (with_dx ? 3 : 2)) + active_ + 6;
    memory_ = hwy::AllocateAligned<float>(static_cast<std::size_t>(rows * points));
    float* next = memory_.get();
    const auto take = [&](int64_t count) {
      float* const result = next;
      next += count * points;
      return result;
    };
    x_ = take(dims_);
    d_ = take(dims_);
    t_ = take(dims_ * kept);
    dx_ = with_dx ? take(dims_) : nullptr;
    l = take(active_);
    y = take(1);
    w = take(1);
    max_ = take(1);
    row_factor = take(1);
    wr = take(1);
    spare_ = take(1);
  }

  // Points first..first+count-1 of an (N, D) array, or those that index names.
  void Load(const float* x, const int64_t* index, int64_t count) {
    const F32 f;
    const int64_t lanes = Lanes();
    count_ = count;
    used_ = (count + kGroup * lanes - 1) / (kGroup * lanes) * (kGroup * lanes);
    if (index == nullptr) Transpose(x, dims_, count, dims_, x_, points_);
    for (int64_t p = 0; p < count && index != nullptr; ++p)
      Transpose(x + index[p] * dims_, dims_, 1, dims_, x_ + p, points_);
    for (int64_t i = 0; i < dims_; ++i) {
      for (int64_t p = count; p < used_; ++p) x_[i * points_ + p] = 0.0f;
    }
    // Infinities and NaN are taken out, for inf - inf and 0 * inf would spoil what the edges promise.
    VecF32 bad = hn::Zero(f);
    for (int64_t i = 0; i < dims_; ++i) {
      for (int64_t p = 0; p < used_; p += lanes) {
        bad = hn::MulAdd(hn::Load(f, x_ + i * points_ + p), hn::Zero(f), bad);
      }
    }
    odd_rows = !hn::AllTrue(f, hn::Eq(bad, hn::Zero(f)));
    if (!odd_rows) return;
    for (int64_t p = 0; p < points_; ++p) kind[p] = kFinite;
    for (int64_t p = 0; p < count; ++p) {
      for (int64_t i = 0; i < dims_; ++i) {
        const float value = x_[i * points_ + p];
        if (std::isnan(value)) kind[p] = kNaN;
        if (std::isinf(value) && kind[p] == kFinite) kind[p] = kInfinite;
      }
      if (kind[p] == kFinite) continue;
      for (int64_t i = 0; i < dims_; ++i) x_[i * points_ + p] = 0.0f;
    }
  }

  // log p(x, component) of the tile to `log_joint`, and t if it is to be kept. A point so far off that its
  // squared distance overflows gets -inf and t = 0: 0 * inf would be NaN later.
  template <bool kStore>
  void Whiten(int64_t slot, float* t, float* log_joint) {
    const F32 f;
    const int64_t lanes = Lanes();
    const float* const mean = m_.mean.data() + slot * dims_;
    const float* const inverse = m_.inverse.data() + slot * dims_ * dims_;
    const VecF32 log_norm = hn::Set(f, m_.log_norm[static_cast<std::size_t>(slot)]);
    const VecF32 infinity = hn::Set(f, INFINITY);
    for (int64_t p = 0; p < used_; p += kGroup * lanes) {
      for (int64_t i = 0; i < dims_; ++i) {
        const VecF32 m = hn::Set(f, mean[i]);
        for (int v = 0; v < kGroup; ++v) {
          const int64_t at = i * points_ + p + v * lanes;
          hn::Store(hn::Sub(hn::Load(f, x_ + at), m), f, d_ + at);
        }
      }
      VecF32 q[kGroup];
      for (VecF32& v : q) v = hn::Zero(f);
      ForBlocksOfFour(dims_, [&](int64_t i, auto rows) HWY_ATTR {
        WhitenRows<rows.value, kStore>(inverse, dims_, i, d_ + p, points_, kStore ? t + p : nullptr, q);
      });
      for (int v = 0; v < kGroup; ++v) {
        float* const joint = log_joint + p + v * lanes;
        hn::Store(hn::NegMulAdd(q[v], hn::Set(f, 0.5f), log_norm), f, joint);
        const auto near = hn::Lt(q[v], infinity);
        if (hn::AllTrue(f, near) || !is_number(slot)) continue;
        // inf - inf in t makes the distance NaN although the point is a number: as far as inf.
        hn::Store(hn::IfThenElse(near, hn::Load(f, joint), hn::Set(f, -INFINITY)), f, joint);
        for (int64_t i = 0; i < dims_ && kStore; ++i) {
          float* const at = t + i * points_ + p + v * lanes;
          hn::Store(hn::IfThenElseZero(near, hn::Load(f, at)), f, at);
        }
      }
    }
  }

  // For all components: l = exp(log joint - largest), so that r = l * factor with factor in
  // row_factor; y = the log marginal. With kStore t of every component is kept.
  template <bool kStore>
  void Densities() {
    const F32 f;
    const int64_t lanes = Lanes();
    const VecF32 lowest = hn::Set(f, -INFINITY);
    for (int64_t p = 0; p < used_; p += lanes) hn::Store(lowest, f, max_ + p);
    for (int64_t slot = 0; slot < active_; ++slot) {
      float* const log_joint = l + slot * points_;
      Whiten<kStore>(slot, kStore ? t_ + slot * dims_ * points_ : t_, log_joint);
      for (int64_t p = 0; p < used_; p += lanes) {
        hn::Store(hn::Max(hn::Load(f, max_ + p), hn::Load(f, log_joint + p)), f, max_ + p);
      }
    }
    for (int64_t p = 0; p < used_; p += lanes) {
      const VecF32 max = hn::Load(f, max_ + p);
      // -inf - -inf would be NaN: a point without mass is shifted by 0.
      const VecF32 shift = hn::IfThenZeroElse(hn::Eq(max, lowest), max);
      VecF32 sum = hn::Zero(f);
      for (int64_t slot = 0; slot < active_; ++slot) {
        float* const at = l + slot * points_ + p;
        const VecF32 e = ExpBelow88(f, hn::Sub(hn::Load(f, at), shift));
        hn::Store(e, f, at);
        sum = hn::Add(sum, e);
      }
      const auto none = hn::Eq(sum, hn::Zero(f));
      // The sum times zero: NaN where a parameter is NaN, whatever Log makes of it.
      const VecF32 log_sum = hn::MulAdd(sum, hn::Zero(f), hn::Add(shift, hn::Log(f, sum)));
      hn::Store(hn::IfThenElse(none, lowest, log_sum), f, y + p);
      hn::Store(hn::IfThenZeroElse(none, hn::Div(hn::Set(f, 1.0f), sum)), f, row_factor + p);
    }
    if (odd_rows) {
      for (int64_t p = 0; p < count_; ++p) {
        if (kind[p] == kFinite) continue;
        y[p] = kind[p] == kNaN ? NAN : -INFINITY;
        row_factor[p] = kind[p] == kNaN ? NAN : 0.0f;
      }
    }
  }

  // w from the given weights, 0 past the end.
  void LoadWeights(const float* weights) {
    for (int64_t p = 0; p < count_; ++p) w[p] = weights != nullptr ? weights[p] : 1.0f;
    for (int64_t p = count_; p < used_; ++p) w[p] = 0.0f;
  }

  // t of a component after Densities<false>, or without it.
  void WhitenAgain(int64_t slot) { Whiten<true>(slot, t_, spare_); }
  const float* kept(int64_t slot) const { return t_ + slot * dims_ * points_; }
  const float* again() const { return t_; }
  const float* log_joint_again() const { return spare_; }

  void ClearGradient() {
    for (int64_t i = 0; i < dims_; ++i)
      std::memset(dx_ + i * points_, 0, sizeof(float) * static_cast<std::size_t>(used_));
  }
  const float* dx() const { return dx_; }  // (D, points)

  int64_t points() const { return points_; }
  int64_t count() const { return count_; }
  int64_t used() const { return used_; }

  // Whether a component's parameters are all finite.
  bool is_number(int64_t slot) const {
    float sum = m_.log_norm[static_cast<std::size_t>(slot)] * 0.0f;
    for (int64_t i = 0; i < dims_; ++i) sum += m_.mean[static_cast<std::size_t>(slot * dims_ + i)] * 0.0f;
    const float* const inverse = m_.inverse.data() + slot * dims_ * dims_;
    for (int64_t i = 0; i < dims_ * dims_; ++i) sum += inverse[i] * 0.0f;
    return sum == 0.0f;
  }

  float* l;           // (A, points)
  float* y;           // (points)
  float* w;           // (points)
  float* row_factor;  // (points)
  float* wr;          // (points) weights times responsibilities of one component
  bool odd_rows = false;
  uint8_t kind[kPoints];  // where odd_rows

 private:
  friend class Accumulator;
  const Prepared& m_;
  int64_t dims_;
  int64_t active_;
  int64_t points_;
  int64_t count_ = 0;
  int64_t used_ = 0;
  hwy::AlignedFreeUniquePtr<float[]> memory_;
  float* x_;
  float* d_;  // x - mean, then w r t
  float* t_;
  float* dx_;
  float* max_;
  float* spare_;
};

// Sums of w r, w r t and w r t t^T: in float over kFlush tiles, then in double.
class Accumulator {
 public:
  Accumulator(const Prepared& mixture, Sums& sums)
      : m_(mixture),
        sums_(sums),
        dims_(mixture.dims),
        active_(static_cast<int64_t>(mixture.active.size())),
        fours_((dims_ + 3) / 4),
        groups_(full::groups_before_row(dims_)) {
    size_ = active_ * (1 + fours_ + groups_) * FourSums();
    memory_ = hwy::AllocateAligned<float>(static_cast<std::size_t>(size_ + 1));  // of 0 it makes a failure
    std::memset(memory_.get(), 0, sizeof(float) * static_cast<std::size_t>(size_));
    sums_.s0.assign(static_cast<std::size_t>(active_), 0.0);
    sums_.s1.assign(static_cast<std::size_t>(active_ * fours_ * 4), 0.0);
    sums_.s2.assign(static_cast<std::size_t>(active_ * groups_ * 4), 0.0);
  }

  // One component's share of a tile, from tile.wr and the whitened tile.
  void Add(Tile& tile, int64_t slot, const float* t, bool with_dx) {
    const F32 f;
    const int64_t lanes = Lanes();
    const int64_t points = tile.points_;
    const int64_t used = tile.used_;
    const int64_t four = FourSums();
    float* const first = memory_.get() + slot * (1 + fours_ + groups_) * four;
    float* const s1 = first + four;
    float* const s2 = s1 + fours_ * four;
    float* const u = tile.d_;

    VecF32 s0 = hn::Zero(f);
    for (int64_t p = 0; p < used; p += lanes) s0 = hn::Add(s0, hn::Load(f, tile.wr + p));
    AddTo(first, s0);

    ForBlocksOfFour(dims_, [&](int64_t i, auto rows) HWY_ATTR {
      constexpr int R = rows.value;
      VecF32 sum[4] = {hn::Zero(f), hn::Zero(f), hn::Zero(f), hn::Zero(f)};
      for (int64_t p = 0; p < used; p += lanes) {
        const VecF32 r = hn::Load(f, tile.wr + p);
        for (int c = 0; c < R; ++c) {
          const VecF32 product = hn::Mul(r, hn::Load(f, t + (i + c) * points + p));
          hn::Store(product, f, u + (i + c) * points + p);
          sum[c] = hn::Add(sum[c], product);
        }
      }
      AddToFour(s1 + i / 4 * four, sum[0], sum[1], sum[2], sum[3]);
    });

    ForBlocksOfFour(dims_, [&](int64_t i, auto rows) HWY_ATTR {
      constexpr int R = rows.value;
      float* row[R];
      for (int r = 0; r < R; ++r) row[r] = s2 + full::groups_before_row(i + r) * four;
      for (int64_t j = 0; j < i; j += 4) {
        if constexpr (R <= kRows) {
          AddProducts<R>(u + i * points, t + j * points, points, used, row);
        } else {
          float* const upper[2] = {row[0], row[1]};
          AddProducts<2>(u + i * points, t + j * points, points, used, upper);
          float* lower[R - 2];
          for (int r = 2; r < R; ++r) lower[r - 2] = row[r];
          AddProducts<R - 2>(u + (i + 2) * points, t + j * points, points, used, lower);
        }
        for (float*& at : row) at += four;
      }
      AddTriangle<R>(u + i * points, t + i * points, points, used, row);
    });

    if (with_dx) {
      const float* const inverse = m_.inverse.data() + slot * dims_ * dims_;
      for (int64_t p = 0; p < used; p += kGroup * lanes) {
        ForBlocksOfFour(dims_, [&](int64_t i, auto rows) HWY_ATTR {
          PullBackColumns<rows.value>(inverse, dims_, i, u + p, points, tile.dx_ + p);
        });
      }
    }
  }

  void EndTile() {
    if (++tiles_ == kFlush) Flush();
  }

  void Flush() {
    tiles_ = 0;
    const int64_t lanes = Lanes();
    const float* at = memory_.get();
    for (int64_t slot = 0; slot < active_; ++slot) {
      for (int64_t i = 0; i < lanes; ++i) sums_.s0[static_cast<std::size_t>(slot)] += at[i];
      at += FourSums();
      at = AddFours(at, fours_, sums_.s1.data() + slot * fours_ * 4);
      at = AddFours(at, groups_, sums_.s2.data() + slot * groups_ * 4);
    }
    std::memset(memory_.get(), 0, sizeof(float) * static_cast<std::size_t>(size_));
  }

 private:
  static const float* AddFours(const float* at, int64_t vectors, double* to) {
    const int64_t four = FourSums();
    for (int64_t v = 0; v < vectors; ++v, at += four, to += 4) {
      for (int64_t b = 0; b < four; b += 4) {
        for (int c = 0; c < 4; ++c) to[c] += at[b + c];
      }
    }
    return at;
  }

  const Prepared& m_;
  Sums& sums_;
  int64_t dims_;
  int64_t active_;
  int64_t fours_;   // vectors of s1
  int64_t groups_;  // vectors of s2
  int64_t size_;
  int64_t tiles_ = 0;
  hwy::AlignedFreeUniquePtr<float[]> memory_;
};

// L^-1 of one component, in double: the residuals' error then does not grow with the elimination.
void Invert(const FullMixture& mixture, int64_t slot, Prepared& prepared) {
  const int64_t dims = mixture.dims;
  const int64_t k = prepared.active[static_cast<std::size_t>(slot)];
  const float* const factor = mixture.factor + k * dims * dims;
  float* const to = prepared.inverse.data() + slot * dims * dims;
  std::vector<double> inverse(static_cast<std::size_t>(dims * dims), 0.0);
  double log_det = 0;
  for (int64_t i = 0; i < dims; ++i) {
    double* const row = inverse.data() + i * dims;
    for (int64_t j = 0; j < i; ++j) {
      const double c = factor[i * dims + j];
      const double* const above = inverse.data() + j * dims;
      for (int64_t col = 0; col <= j; ++col) row[col] -= c * above[col];
    }
    const double log_diagonal = factor[i * dims + i];
    const double scale = std::exp(-log_diagonal);
    log_det += log_diagonal;
    for (int64_t col = 0; col < i; ++col) row[col] *= scale;
    row[i] = scale;
    for (int64_t col = 0; col < dims; ++col) to[i * dims + col] = static_cast<float>(row[col]);
  }
  constexpr double kHalfLogTwoPi = 0.91893853320467274178;
  prepared.log_norm[static_cast<std::size_t>(slot)] = static_cast<float>(
      prepared.log_norm[static_cast<std::size_t>(slot)] - log_det - kHalfLogTwoPi * static_cast<double>(dims));
  std::memcpy(prepared.mean.data() + slot * dims, mixture.mean + k * dims,
              sizeof(float) * static_cast<std::size_t>(dims));
}

double WeightedTotal(const Tile& tile) {
  double sum = 0;
  for (int64_t p = 0; p < tile.count(); ++p) {
    if (tile.w[p] != 0.0f) sum += static_cast<double>(tile.w[p]) * tile.y[p];
  }
  return sum;
}

void MarginalRows(const Prepared& m, const FullMixtureMarginal& args, int64_t begin, int64_t end, double* total) {
  const int64_t dims = m.dims;
  Tile tile(m, kPoints, 1, false);
  *total = 0;
  for (int64_t n = begin; n < end; n += kPoints) {
    const int64_t count = std::min(kPoints, end - n);
    tile.Load(args.x + n * dims, nullptr, count);
    tile.Densities<false>();
    if (args.y != nullptr) std::memcpy(args.y + n, tile.y, sizeof(float) * static_cast<std::size_t>(count));
    if (args.total != nullptr || args.exact_total != nullptr) {
      tile.LoadWeights(args.weights != nullptr ? args.weights + n : nullptr);
      *total += WeightedTotal(tile);
    }
  }
}

void StatisticsRows(const Prepared& m, const FullMixtureStatistics& args, int64_t begin, int64_t end, Sums& sums) {
  const F32 f;
  const int64_t lanes = Lanes();
  const int64_t dims = m.dims;
  const auto active = static_cast<int64_t>(m.active.size());
  const bool given = args.y_given != nullptr;
  const bool with_dx = args.dx != nullptr;
  int64_t points = kPoints;
  bool keep = !given && active > 0;
  if (keep) {
    const auto bytes = [&](int64_t p) { return 4 * p * dims * active; };
    if (bytes(points) > kKeptBytes) points /= 2;
    if (bytes(points) > kKeptBytes) {
      points = kPoints;
      keep = false;
    }
  }
  Tile tile(m, points, keep ? active : 1, with_dx);
  Accumulator accumulator(m, sums);
  for (int64_t n = begin; n < end; n += points) {
    const int64_t count = std::min(points, end - n);
    tile.Load(args.x + n * dims, nullptr, count);
    tile.LoadWeights(args.weights != nullptr ? args.weights + n : nullptr);
    if (given) {
      for (int64_t p = 0; p < count; ++p) tile.y[p] = args.y_given[n + p];
    } else if (keep) {
      tile.Densities<true>();
    } else {
      tile.Densities<false>();
    }
    if (args.y != nullptr) std::memcpy(args.y + n, tile.y, sizeof(float) * static_cast<std::size_t>(count));
    if (args.total != nullptr || args.exact_total != nullptr) sums.total += WeightedTotal(tile);

    // row_factor: what l must be multiplied with (w / sum), or what log joints are lowered by.
    for (int64_t p = 0; p < tile.used(); p += lanes) {
      const VecF32 w = hn::Load(f, tile.w + p);
      const auto none = hn::Eq(w, hn::Zero(f));
      if (given) {
        const VecF32 y = hn::Load(f, tile.y + p);
        const auto dead = hn::Or(none, hn::Eq(y, hn::Set(f, -INFINITY)));
        hn::Store(hn::IfThenElse(dead, hn::Set(f, INFINITY), y), f, tile.row_factor + p);
      } else {
        hn::Store(hn::IfThenZeroElse(none, hn::Mul(w, hn::Load(f, tile.row_factor + p))), f, tile.row_factor + p);
      }
    }
    if (with_dx) tile.ClearGradient();
    for (int64_t slot = 0; slot < active; ++slot) {
      if (!keep) tile.WhitenAgain(slot);
      if (given) {
        const float* const log_joint = tile.log_joint_again();
        for (int64_t p = 0; p < tile.used(); p += lanes) {
          const VecF32 r = ExpBelow88(f, hn::Sub(hn::Load(f, log_joint + p), hn::Load(f, tile.row_factor + p)));
          hn::Store(hn::Mul(r, hn::Load(f, tile.w + p)), f, tile.wr + p);
        }
      } else {
        const float* const e = tile.l + slot * points;
        for (int64_t p = 0; p < tile.used(); p += lanes) {
          hn::Store(hn::Mul(hn::Load(f, e + p), hn::Load(f, tile.row_factor + p)), f, tile.wr + p);
        }
      }
      accumulator.Add(tile, slot, keep ? tile.kept(slot) : tile.again(), with_dx);
    }
    if (with_dx) Transpose(tile.dx(), points, dims, count, args.dx + n * dims, dims);
    accumulator.EndTile();
  }
  accumulator.Flush();
}

void ResponsibilitiesRows(const Prepared& m, const FullMixtureResponsibilities& args, int64_t begin, int64_t end) {
  Tile tile(m, kPoints, 1, false);
  for (int64_t n = begin; n < end; n += kPoints) {
    const int64_t count = std::min(kPoints, end - n);
    tile.Load(args.x + n * m.dims, nullptr, count);
    tile.Densities<false>();
    for (int64_t p = 0; p < count; ++p) {
      float* const r = args.r + (n + p) * m.components;
      for (int64_t k = 0; k < m.components; ++k) {
        const int64_t slot = m.slot[static_cast<std::size_t>(k)];
        r[k] = (slot < 0 ? 0.0f : tile.l[slot * kPoints + p]) * tile.row_factor[p];
      }
    }
  }
}

void PosteriorRows(const Prepared& m, const FullMixturePosteriorSample& args, int64_t begin, int64_t end) {
  Tile tile(m, kPoints, 1, false);
  const std::size_t active = m.active.size();
  std::vector<float> cumulative(active);
  const auto step = static_cast<uint64_t>(*args.draws.step);
  for (int64_t n = begin; n < end; n += kPoints) {
    const int64_t count = std::min(kPoints, end - n);
    tile.Load(args.x + n * m.dims, nullptr, count);
    tile.Densities<false>();
    if (args.y != nullptr) std::memcpy(args.y + n, tile.y, sizeof(float) * static_cast<std::size_t>(count));
    for (int64_t p = 0; p < count; ++p) {
      int32_t* const z = args.z + (n + p) * args.samples;
      if (std::isnan(tile.y[p]) || tile.y[p] == -INFINITY) {
        std::fill(z, z + args.samples, -1);
        continue;
      }
      float sum = 0;
      for (std::size_t slot = 0; slot < active; ++slot) {
        sum += tile.l[static_cast<int64_t>(slot) * kPoints + p];
        cumulative[slot] = sum;
      }
      const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n + p] : n + p);
      PhiloxWords words = {};
      for (int64_t s = 0; s < args.samples; ++s) {
        if (s % 4 == 0)
          words = draw_words(args.draws.seed, {args.draws.site, datum, step, static_cast<uint32_t>(s / 4)});
        // The target is above zero, so what reaches it first has weight; the last sum is the total.
        const float target = uniform_from_word(words.w[s % 4]) * sum;
        z[s] = m.active[static_cast<std::size_t>(std::lower_bound(cumulative.begin(), cumulative.end(), target) -
                                                 cumulative.begin())];
      }
    }
  }
}

// Pairs of a row and a given component, sorted by component so that each is whitened in tiles.
class Buckets {
 public:
  explicit Buckets(const Prepared& m) : m_(m), first_(m.active.size() + 1) {}

  // Pairs begin..end-1 of z; those with an out-of-range or weightless component are left out.
  void Sort(const int32_t* z, int64_t begin, int64_t end, int64_t samples) {
    std::fill(first_.begin(), first_.end(), 0);
    const auto slot_of = [&](int64_t pair) {
      const int64_t k = z[pair];
      return 0 <= k && k < m_.components ? m_.slot[static_cast<std::size_t>(k)] : -1;
    };
    for (int64_t pair = begin; pair < end; ++pair) {
      if (const int32_t slot = slot_of(pair); slot >= 0) ++first_[static_cast<std::size_t>(slot) + 1];
    }
    std::partial_sum(first_.begin(), first_.end(), first_.begin());
    pairs_.resize(static_cast<std::size_t>(first_.back()));
    rows_.resize(pairs_.size());
    next_.assign(first_.begin(), first_.end());
    for (int64_t pair = begin; pair < end; ++pair) {
      const int32_t slot = slot_of(pair);
      if (slot < 0) continue;
      const auto at = static_cast<std::size_t>(next_[static_cast<std::size_t>(slot)]++);
      pairs_[at] = pair;
      rows_[at] = pair / samples;
    }
  }

  // body(slot, pairs, rows, count) for each tile.
  template <class Body>
  void ForTiles(const Body& body) const {
    for (std::size_t slot = 0; slot + 1 < first_.size(); ++slot) {
      for (int64_t at = first_[slot]; at < first_[slot + 1]; at += kPoints) {
        body(static_cast<int64_t>(slot), pairs_.data() + at, rows_.data() + at,
             std::min(kPoints, first_[slot + 1] - at));
      }
    }
  }

 private:
  const Prepared& m_;
  std::vector<int64_t> first_;
  std::vector<int64_t> next_;
  std::vector<int64_t> pairs_;
  std::vector<int64_t> rows_;
};

constexpr int64_t kPairs = 4096;

void JointRows(const Prepared& m, const FullMixtureJoint& args, int64_t begin, int64_t end) {
  Tile tile(m, kPoints, 1, false);
  Buckets buckets(m);
  for (int64_t pair = begin * args.samples; pair < end * args.samples; pair += kPairs) {
    const int64_t last = std::min(pair + kPairs, end * args.samples);
    for (int64_t i = pair; i < last; ++i) {
      args.y[i] = args.z[i] < 0 || args.z[i] >= m.components ? NAN : -INFINITY;
    }
    buckets.Sort(args.z, pair, last, args.samples);
    buckets.ForTiles([&](int64_t slot, const int64_t* pairs, const int64_t* rows, int64_t count) HWY_ATTR {
      tile.Load(args.x, rows, count);
      tile.Whiten<false>(slot, nullptr, tile.wr);
      for (int64_t p = 0; p < count; ++p) {
        const uint8_t kind = tile.odd_rows ? tile.kind[p] : uint8_t{Tile::kFinite};
        args.y[pairs[p]] = kind == Tile::kFinite ? tile.wr[p] : kind == Tile::kNaN ? NAN : -INFINITY;
      }
    });
  }
}

void JointStatisticsRows(const Prepared& m, const FullMixtureJointStatistics& args, int64_t begin, int64_t end,
                         Sums& sums) {
  const int64_t dims = m.dims;
  const bool with_dx = args.dx != nullptr;
  Tile tile(m, kPoints, 1, with_dx);
  Accumulator accumulator(m, sums);
  Buckets buckets(m);
  if (with_dx) std::fill(args.dx + begin * dims, args.dx + end * dims, 0.0f);
  for (int64_t pair = begin * args.samples; pair < end * args.samples; pair += kPairs) {
    buckets.Sort(args.z, pair, std::min(pair + kPairs, end * args.samples), args.samples);
    buckets.ForTiles([&](int64_t slot, const int64_t* pairs, const int64_t* rows, int64_t count) HWY_ATTR {
      tile.Load(args.x, rows, count);
      tile.WhitenAgain(slot);
      for (int64_t p = 0; p < tile.used(); ++p) {
        const float g = p < count ? args.g[pairs[p]] : 0.0f;
        const uint8_t kind = tile.odd_rows && p < count ? tile.kind[p] : uint8_t{Tile::kFinite};
        const bool nothing = g == 0.0f || kind == Tile::kInfinite || tile.log_joint_again()[p] == -INFINITY;
        tile.wr[p] = nothing ? 0.0f : kind == Tile::kNaN ? NAN : g;
      }
      if (with_dx) tile.ClearGradient();
      accumulator.Add(tile, slot, tile.again(), with_dx);
      if (with_dx) {
        for (int64_t p = 0; p < count; ++p) {
          for (int64_t i = 0; i < dims; ++i) args.dx[rows[p] * dims + i] += tile.dx()[i * kPoints + p];
        }
      }
      accumulator.EndTile();
    });
  }
  accumulator.Flush();
}

}  // namespace
}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Invert);
HWY_EXPORT(MarginalRows);
HWY_EXPORT(StatisticsRows);
HWY_EXPORT(ResponsibilitiesRows);
HWY_EXPORT(PosteriorRows);
HWY_EXPORT(JointRows);
HWY_EXPORT(JointStatisticsRows);

namespace {

using full::Prepared;
using full::Sums;

constexpr int64_t kTile = 128;

Prepared prepare(const FullMixture& mixture) {
  const auto size = static_cast<std::size_t>(mixture.components);
  const auto dims = static_cast<std::size_t>(mixture.dims);
  Prepared prepared = {mixture.components, mixture.dims, {}, std::vector<int32_t>(size, -1), {}, {}, {}};
  const std::vector<double> weights = log_mixture_weights(mixture.logits, mixture.components);
  for (std::size_t k = 0; k < size; ++k) {
    if (weights[k] == -INFINITY) continue;
    prepared.slot[k] = static_cast<int32_t>(prepared.active.size());
    prepared.active.push_back(static_cast<int32_t>(k));
    prepared.log_norm.push_back(static_cast<float>(weights[k]));
  }
  const std::size_t active = prepared.active.size();
  prepared.mean.resize(active * dims);
  prepared.inverse.resize(active * dims * dims);
  const auto invert = HWY_DYNAMIC_DISPATCH(Invert);
  const int64_t grain = 1 + (1 << 16) / (mixture.dims * mixture.dims * mixture.dims);
  cpu::parallel_ranges(static_cast<int64_t>(active), grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t slot = begin; slot < end; ++slot) invert(mixture, slot, prepared);
  });
  return prepared;
}

// Rows that are worth a thread: about 30 us of work.
int64_t grain_rows(const FullMixture& mixture) {
  return std::max(kTile, (int64_t{1} << 20) / (mixture.components * mixture.dims * (mixture.dims + 8)));
}

// Adds the threads' sums in their order and spreads them over K.
void finish(const Prepared& prepared, const std::vector<Sums>& threads, double* s0, double* s1, double* s2) {
  const int64_t dims = prepared.dims;
  const int64_t fours = (dims + 3) / 4;
  const int64_t groups = full::groups_before_row(dims);
  for (int64_t k = 0; k < prepared.components; ++k) {
    const int64_t slot = prepared.slot[static_cast<std::size_t>(k)];
    s0[k] = 0;
    std::fill(s1 + k * dims, s1 + (k + 1) * dims, 0.0);
    std::fill(s2 + k * dims * dims, s2 + (k + 1) * dims * dims, 0.0);
    if (slot < 0) continue;
    for (const Sums& sums : threads) {
      if (sums.s0.empty()) continue;
      s0[k] += sums.s0[static_cast<std::size_t>(slot)];
      for (int64_t i = 0; i < dims; ++i) {
        s1[k * dims + i] += sums.s1[static_cast<std::size_t>(slot * fours * 4 + i)];
        const double* const row = sums.s2.data() + (slot * groups + full::groups_before_row(i)) * 4;
        for (int64_t j = 0; j <= i; ++j) s2[(k * dims + i) * dims + j] += row[j];
      }
    }
  }
}

}  // namespace

void run_cpu(const FullMixtureMarginal& args) {
  const Prepared prepared = prepare(args.mixture);
  const auto rows = HWY_DYNAMIC_DISPATCH(MarginalRows);
  std::vector<double> totals(static_cast<std::size_t>(cpu_threads()), 0.0);
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture), kTile, [&](int64_t begin, int64_t end, int thread) {
    rows(prepared, args, begin, end, &totals[static_cast<std::size_t>(thread)]);
  });
  set_total(args, std::accumulate(totals.begin(), totals.end(), 0.0));
}

void run_cpu(const FullMixtureStatistics& args) {
  const Prepared prepared = prepare(args.mixture);
  const auto rows = HWY_DYNAMIC_DISPATCH(StatisticsRows);
  std::vector<Sums> threads(static_cast<std::size_t>(cpu_threads()));
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture), kTile, [&](int64_t begin, int64_t end, int thread) {
    rows(prepared, args, begin, end, threads[static_cast<std::size_t>(thread)]);
  });
  finish(prepared, threads, args.s0, args.s1, args.s2);
  double total = 0;
  for (const Sums& sums : threads) total += sums.total;
  set_total(args, total);
}

void run_cpu(const FullMixtureGradients& args) {
  const int64_t components = args.mixture.components;
  const int64_t dims = args.mixture.dims;
  const double upstream = args.upstream != nullptr ? *args.upstream : 1.0;
  if (args.d_logits != nullptr) {
    mixture_logit_gradients(args.mixture.logits, components, args.s0, upstream, args.d_logits);
  }
  if (args.d_mean == nullptr && args.d_factor == nullptr) return;
  const int64_t grain = 1 + (1 << 16) / (dims * dims * dims);
  cpu::parallel_ranges(components, grain, [&](int64_t begin, int64_t end, int) {
    // One right-hand side a column: s1, and s2 - s0 I; solved in place for L^-T times them.
    const int64_t columns = dims + 1;
    std::vector<double> solved(static_cast<std::size_t>(dims * columns));
    for (int64_t k = begin; k < end; ++k) {
      const float* const factor = args.mixture.factor + k * dims * dims;
      const double* const s2 = args.s2 + k * dims * dims;
      const bool weightless = args.s0[k] == 0 && std::all_of(s2, s2 + dims * dims, [](double v) { return v == 0; });
      for (int64_t i = 0; i < dims; ++i) {
        double* const row = solved.data() + i * columns;
        for (int64_t j = 0; j < dims; ++j) row[j] = j <= i ? s2[i * dims + j] : s2[j * dims + i];
        row[i] -= args.s0[k];
        row[dims] = args.s1[k * dims + i];
      }
      for (int64_t i = dims - 1; i >= 0 && !weightless; --i) {
        double* const row = solved.data() + i * columns;
        for (int64_t j = i + 1; j < dims; ++j) {
          const double c = factor[j * dims + i];
          const double* const below = solved.data() + j * columns;
          for (int64_t col = 0; col < columns; ++col) row[col] -= c * below[col];
        }
        const double scale = std::exp(-static_cast<double>(factor[i * dims + i]));
        for (int64_t col = 0; col < columns; ++col) row[col] *= scale;
      }
      for (int64_t i = 0; i < dims; ++i) {
        const double* const row = solved.data() + i * columns;
        if (args.d_mean != nullptr) {
          args.d_mean[k * dims + i] = weightless ? 0.0f : static_cast<float>(upstream * row[dims]);
        }
        if (args.d_factor == nullptr) continue;
        float* const to = args.d_factor + (k * dims + i) * dims;
        for (int64_t j = 0; j < dims; ++j) {
          const double diagonal = j == i ? std::exp(static_cast<double>(factor[i * dims + i])) : 1.0;
          to[j] = j <= i && !weightless ? static_cast<float>(upstream * row[j] * diagonal) : 0.0f;
        }
      }
    }
  });
}

void run_cpu(const FullMixtureResponsibilities& args) {
  const Prepared prepared = prepare(args.mixture);
  const auto rows = HWY_DYNAMIC_DISPATCH(ResponsibilitiesRows);
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture), kTile,
                       [&](int64_t begin, int64_t end, int) { rows(prepared, args, begin, end); });
}

void run_cpu(const FullMixturePosteriorSample& args) {
  const Prepared prepared = prepare(args.mixture);
  const auto rows = HWY_DYNAMIC_DISPATCH(PosteriorRows);
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture), kTile,
                       [&](int64_t begin, int64_t end, int) { rows(prepared, args, begin, end); });
}

void run_cpu(const FullMixtureJoint& args) {
  const Prepared prepared = prepare(args.mixture);
  const auto rows = HWY_DYNAMIC_DISPATCH(JointRows);
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture),
                       [&](int64_t begin, int64_t end, int) { rows(prepared, args, begin, end); });
}

void run_cpu(const FullMixtureJointStatistics& args) {
  const Prepared prepared = prepare(args.mixture);
  const auto rows = HWY_DYNAMIC_DISPATCH(JointStatisticsRows);
  std::vector<Sums> threads(static_cast<std::size_t>(cpu_threads()));
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture), [&](int64_t begin, int64_t end, int thread) {
    rows(prepared, args, begin, end, threads[static_cast<std::size_t>(thread)]);
  });
  finish(prepared, threads, args.s0, args.s1, args.s2);
}

void run_cpu(const FullMixtureAncestral& args) {
  const int64_t components = args.mixture.components;
  const int64_t dims = args.mixture.dims;
  const std::vector<double> weights = log_mixture_weights(args.mixture.logits, components);
  std::vector<float> cumulative(weights.size());
  float sum = 0;
  for (std::size_t k = 0; k < weights.size(); ++k) cumulative[k] = sum += std::exp(static_cast<float>(weights[k]));
  std::vector<float> scale(static_cast<std::size_t>(components * dims));
  for (int64_t i = 0; i < components * dims; ++i) {
    scale[static_cast<std::size_t>(i)] = std::exp(args.mixture.factor[i * dims + i % dims]);
  }
  const auto step = static_cast<uint64_t>(*args.draws.step);
  const uint64_t site = args.draws.site;
  const int64_t grain = 1 + (1 << 14) / (dims * (dims + 16));
  cpu::parallel_ranges(args.rows, grain, [&](int64_t begin, int64_t end, int) {
    std::vector<float> e(static_cast<std::size_t>((dims + 3) / 4 * 4));
    for (int64_t n = begin; n < end; ++n) {
      const auto datum = static_cast<uint64_t>(n);
      float* const x = args.x + n * dims;
      if (!(sum > 0)) {  // false for NaN, too
        args.z[n] = -1;
        std::fill(x, x + dims, NAN);
        continue;
      }
      const float target = uniform_from_word(draw_words(args.draws.seed, {site, datum, step, 0}).w[0]) * sum;
      const int64_t k = std::lower_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin();
      args.z[n] = static_cast<int32_t>(k);
      for (int64_t i = 0; i < dims; i += 4) {
        const PhiloxWords words = draw_words(args.draws.seed, {site, datum, step, static_cast<uint32_t>(1 + i / 4)});
        const NormalPair low = normals_from_words(words.w[0], words.w[1]);
        const NormalPair high = normals_from_words(words.w[2], words.w[3]);
        float* const four = e.data() + i;
        four[0] = low.first, four[1] = low.second, four[2] = high.first, four[3] = high.second;
      }
      const float* const factor = args.mixture.factor + k * dims * dims;
      for (int64_t i = 0; i < dims; ++i) {
        float value = scale[static_cast<std::size_t>(k * dims + i)] * e[static_cast<std::size_t>(i)];
        for (int64_t j = 0; j < i; ++j) value += factor[i * dims + j] * e[static_cast<std::size_t>(j)];
        x[i] = args.mixture.mean[k * dims + i] + value;
      }
    }
  });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
