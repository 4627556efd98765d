// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/diagonal_mixture/tile.hpp"

#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/diagonal_mixture/tile.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/diagonal_mixture/joints-inl.hpp"
#include "host/cpu/diagonal_mixture/sums-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::diagonal::HWY_NAMESPACE {
namespace {

using cpu::HWY_NAMESPACE::LoadFirst;

int64_t LanesOfVector() { return VectorLanes(); }

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
  const hn::ScalableTag<double> wide;
  const hn::Rebind<float, decltype(wide)> narrow;
  const auto wide_lanes = static_cast<int64_t>(hn::Lanes(wide));
  auto sums = hn::Zero(wide);
  int64_t n = 0;
  for (; n + wide_lanes <= tile.rows; n += wide_lanes) {
    sums = hn::MulAdd(hn::PromoteTo(wide, hn::LoadU(narrow, w_of + n)),
                      hn::PromoteTo(wide, hn::LoadU(narrow, tile.y + n)), sums);
  }
  double sum = hn::GetLane(hn::SumOfLanes(wide, sums));
  for (; n < tile.rows; ++n) sum += double{w_of[n]} * tile.y[n];
  return sum;
}

}  // namespace
}  // namespace dgm::kernels::diagonal::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels::diagonal {

HWY_EXPORT(LanesOfVector);
HWY_EXPORT(CopyNear);
HWY_EXPORT(Exponentials);
HWY_EXPORT(AllOrdinary);
HWY_EXPORT(Weigh);
HWY_EXPORT(Statistics);
HWY_EXPORT(DataGradients);

int64_t vector_lanes() { return HWY_DYNAMIC_DISPATCH(LanesOfVector)(); }
bool copy_near(const float* from, int64_t count, float* to) { return HWY_DYNAMIC_DISPATCH(CopyNear)(from, count, to); }
void exponentials(const Plan& plan, Tile& tile) { HWY_DYNAMIC_DISPATCH(Exponentials)(plan, tile); }
bool all_ordinary(const Tile& tile) { return HWY_DYNAMIC_DISPATCH(AllOrdinary)(tile); }
double weigh(Tile& tile, const float* weights) { return HWY_DYNAMIC_DISPATCH(Weigh)(tile, weights); }
void add_statistics(const Plan& plan, const Tile& tile, float* s0, float* s12) {
  HWY_DYNAMIC_DISPATCH(Statistics)(plan, tile, s0, s12);
}
void data_gradients(const Plan& plan, const Tile& tile, float* dx) {
  HWY_DYNAMIC_DISPATCH(DataGradients)(plan, tile, dx);
}

}  // namespace dgm::kernels::diagonal
#endif  // HWY_ONCE
