// SPDX-License-Identifier: Apache-2.0
// The exponentials of the CPU backend, on every instruction set that this machine has. Besides the largest error,
// which rounding hides a little in, the mean error over small ranges is held to a bound: there, rounding cancels
// and what a coefficient is off by remains.
#include "tests/support/every_float.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/cpu/exponentials.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"
#include "tests/support/every_target.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::test::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::F32;

template <class Function>
HWY_INLINE void Map(const float* x, std::size_t count, float* y, const Function& function) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t i = 0; i < count; i += lanes) {
    const std::size_t rest = std::min(lanes, count - i);
    cpu::HWY_NAMESPACE::StoreFirst(d, function(cpu::HWY_NAMESPACE::LoadFirst(d, x + i, rest, hn::Zero(d))), y + i,
                                   rest);
  }
}

void MapExp(const float* x, std::size_t count, float* y) {
  Map(x, count, y, [](auto v) HWY_ATTR { return cpu::HWY_NAMESPACE::ExpBelow88(F32(), v); });
}

void MapExp2(const float* x, std::size_t count, float* y) {
  Map(x, count, y, [](auto v) HWY_ATTR { return cpu::HWY_NAMESPACE::Exp2Below0(F32(), v); });
}

}  // namespace dgm::test::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::test {

HWY_EXPORT(MapExp);
HWY_EXPORT(MapExp2);

namespace {

std::vector<float> exp_of(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  HWY_DYNAMIC_DISPATCH(MapExp)(x.data(), x.size(), y.data());
  return y;
}

std::vector<float> exp2_of(const std::vector<float>& x) {
  std::vector<float> y(x.size());
  HWY_DYNAMIC_DISPATCH(MapExp2)(x.data(), x.size(), y.data());
  return y;
}

struct Errors {
  double largest = 0;  // relative
  float where = 0;
  double mean = 0;  // the largest of the means over a 32nd of [-1, 0]
};

template <class Function, class Exact>
Errors errors_between(float lowest, float highest, const Function& function, const Exact& exact) {
  Errors errors;
  std::vector<float> x = floats_of_the_whole_range(1021);
  std::erase_if(x, [&](float v) { return !(v >= lowest && v <= highest); });
  const auto relative = [&](float at, float y) {
    const long double wanted = exact(static_cast<long double>(at));
    return static_cast<double>((y - wanted) / wanted);
  };
  const std::vector<float> y = function(x);
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double error = std::abs(relative(x[i], y[i]));
    if (error <= errors.largest) continue;
    errors.largest = error;
    errors.where = x[i];
  }
  constexpr int kRanges = 32;
  constexpr int kPoints = 8192;
  for (int range = 0; range < kRanges; ++range) {
    std::vector<float> at(kPoints);
    for (int i = 0; i < kPoints; ++i) {
      at[static_cast<std::size_t>(i)] =
          -(static_cast<float>(range) + (static_cast<float>(i) + 0.5f) / kPoints) / kRanges;
    }
    const std::vector<float> got = function(at);
    double sum = 0;
    for (std::size_t i = 0; i < at.size(); ++i) sum += relative(at[i], got[i]);
    errors.mean = std::max(errors.mean, std::abs(sum / kPoints));
  }
  return errors;
}

TEST(Exponentials, ExpIsWithinItsBoundOverItsRange) {
  on_every_target([](const std::string& target) {
    const Errors errors = errors_between(-87.33f, 88.3f, exp_of, [](long double x) { return std::exp(x); });
    EXPECT_LE(errors.largest, 1e-7) << target << ": exp(" << errors.where << ")";
    EXPECT_LE(errors.mean, 6e-9) << target;
  });
}

TEST(Exponentials, Exp2IsWithinItsBoundOverItsRange) {
  on_every_target([](const std::string& target) {
    const Errors errors = errors_between(-125.9f, 0.0f, exp2_of, [](long double x) { return std::exp2(x); });
    EXPECT_LE(errors.largest, 1.8e-7) << target << ": 2^" << errors.where;
    EXPECT_LE(errors.mean, 1e-7) << target;
  });
}

TEST(Exponentials, EdgesAreExact) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  on_every_target([](const std::string& target) {
    const auto y = exp_of({0.0f, -0.0f, -87.34f, -200.0f, -3e38f, -kInf});
    EXPECT_EQ(y, (std::vector<float>{1, 1, 0, 0, 0, 0})) << target;
    EXPECT_TRUE(std::isnan(exp_of({std::numeric_limits<float>::quiet_NaN()})[0])) << target;
    const auto z = exp2_of({0.0f, -0.0f, -1.0f, -126.0f, -151.0f, -3e38f, -kInf});
    EXPECT_EQ(z, (std::vector<float>{1, 1, 0.5f, 0x1p-126f, 0, 0, 0})) << target;
  });
}

}  // namespace
}  // namespace dgm::test
#endif  // HWY_ONCE
