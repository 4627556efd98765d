// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/metrics.hpp>

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace dgm {
namespace {

using Labels = std::vector<std::int32_t>;

/// From the definition, over all pairs of items.
long double reference(const Labels& a, const Labels& b) {
  long double both = 0, in_a = 0, in_b = 0, all = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = i + 1; j < a.size(); ++j) {
      both += a[i] == a[j] && b[i] == b[j];
      in_a += a[i] == a[j];
      in_b += b[i] == b[j];
      all += 1;
    }
  }
  const long double expected = in_a * in_b / all;
  return (both - expected) / ((in_a + in_b) / 2 - expected);
}

TEST(AdjustedRandIndex, MatchesTheDefinitionOverAllPairs) {
  std::mt19937 engine(5);
  for (const std::size_t n : {2u, 3u, 10u, 97u, 300u}) {
    for (const int classes : {2, 3, 7}) {
      Labels a(n), b(n);
      for (std::size_t i = 0; i < n; ++i) {
        a[i] = static_cast<int>(engine() % static_cast<unsigned>(classes)) - 1;
        b[i] = engine() % 3 ? a[i] * 1000 : static_cast<int>(engine() % 5);
      }
      a[0] = 0;  // neither all in one nor all apart, where the definition is 0/0
      a[1] = 1;
      b[0] = b[1] = 4;
      const double want = static_cast<double>(reference(a, b));
      EXPECT_NEAR(adjusted_rand_index(a, b), want, 1e-13) << "n " << n << " classes " << classes;
      EXPECT_EQ(adjusted_rand_index(a, b), adjusted_rand_index(b, a));
    }
  }
}

TEST(AdjustedRandIndex, IsOneForEqualPartitionsWhateverTheNames) {
  EXPECT_EQ(adjusted_rand_index(Labels{0, 0, 1, 2, 2}, Labels{7, 7, -3, 0, 0}), 1.);
  EXPECT_EQ(adjusted_rand_index(Labels{1, 1, 1}, Labels{2, 2, 2}), 1.);
  EXPECT_EQ(adjusted_rand_index(Labels{1, 2, 3}, Labels{3, 2, 1}), 1.);
  EXPECT_EQ(adjusted_rand_index(Labels{}, Labels{}), 1.);
  EXPECT_EQ(adjusted_rand_index(Labels{1}, Labels{2}), 1.);
}

TEST(AdjustedRandIndex, IsZeroForOneClusterAgainstSingletons) {
  EXPECT_EQ(adjusted_rand_index(Labels{1, 1, 1, 1}, Labels{1, 2, 3, 4}), 0.);
  EXPECT_LT(adjusted_rand_index(Labels{0, 0, 1, 1}, Labels{0, 1, 0, 1}), 0.);
}

TEST(AdjustedRandIndex, RefusesLabelingsOfDifferentLength) {
  EXPECT_THROW(adjusted_rand_index(Labels{1}, Labels{1, 2}), ShapeError);
}

}  // namespace
}  // namespace dgm
