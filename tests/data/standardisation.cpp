// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/standardisation.hpp>

#include <gtest/gtest.h>

#include <cmath>

namespace dgm::test {
namespace {

TEST(Standardisation, GivesColumnsOfMeanZeroAndDeviationOne) {
  const Table table = {4, 2, {1, 10, 2, 30, 3, 20, 4, 40}, {}};
  const Standardisation s = Standardisation::of(table);
  EXPECT_EQ(s.shift, (std::vector<double>{2.5, 25}));
  EXPECT_NEAR(s.scale[0], std::sqrt(1.25), 1e-15);
  EXPECT_NEAR(s.log_volume(), std::log(std::sqrt(1.25)) + std::log(std::sqrt(125.0)), 1e-15);
  const std::vector<float> x = s.apply(table);
  double sum = 0;
  double squares = 0;
  for (std::size_t i = 0; i < 8; i += 2) sum += x[i], squares += double{x[i]} * x[i];
  EXPECT_NEAR(sum, 0, 1e-6);
  EXPECT_NEAR(squares / 4, 1, 1e-6);
  EXPECT_NEAR(s.restore(1, x[3]), 30, 1e-5);
}

TEST(Standardisation, LeavesConstantColumnsUnscaled) {
  const double odd = 0.1 + 1e-17;
  const Standardisation s = Standardisation::of({3, 2, {5, odd, 5, odd, 5, odd}, {}});
  EXPECT_EQ(s.scale, (std::vector<double>{1, 1}));
  EXPECT_EQ(s.apply({1, 2, {5, odd}, {}})[0], 0.0f);
}

TEST(Standardisation, KeepsSmallDifferencesOfLargeNumbers) {
  const Table seconds = {3, 1, {1.6e9, 1.6e9 + 1, 1.6e9 + 2}, {}};
  const std::vector<float> x = Standardisation::of(seconds).apply(seconds);
  EXPECT_NEAR(x[2] - x[1], x[1] - x[0], 1e-6);
  EXPECT_NEAR(x[2], std::sqrt(1.5), 1e-6);
}

TEST(Standardisation, RefusesWhatDoesNotFit) {
  EXPECT_THROW(Standardisation::of({0, 2, {}, {}}), ArgumentError);
  EXPECT_THROW(Standardisation::of({1, 2, {1, 2}, {}}).apply({1, 1, {1}, {}}), ShapeError);
}

}  // namespace
}  // namespace dgm::test
