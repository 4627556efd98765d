// SPDX-License-Identifier: Apache-2.0
// Log-sum-exp of rows of every length and number, and their way into columns and back, on every instruction set that
// this machine has: the ops' own tests see one.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/cpu/rows.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/log_sum-inl.hpp"
#include "tests/support/every_target.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::test::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
namespace simd = cpu::HWY_NAMESPACE;

int64_t RowsAtOnce(int64_t cols) { return simd::RowsAtATime(cols); }

// max and sum of at most RowsAtOnce(cols) rows.
void RowSums(const float* x, int64_t cols, int64_t rows, float* max, float* sum) {
  const simd::F32 d;
  if (cols <= simd::kShortRow) {
    simd::ShortRows columns;
    columns.load(x, cols, rows);
    simd::VecF32 m, s;
    simd::ShortLogSums(columns, cols, &m, &s, [](int64_t, simd::VecF32, simd::VecF32) HWY_ATTR {});
    simd::StoreFirst(d, m, max, static_cast<std::size_t>(rows));
    simd::StoreFirst(d, s, sum, static_cast<std::size_t>(rows));
    return;
  }
  simd::RowLogSum total;
  simd::RowLogSums(x, cols, rows, &total);
  for (int64_t r = 0; r < rows; ++r) max[r] = total.max[r], sum[r] = total.sum[r];
}

// x with all terms doubled, through columns and back.
void Doubled(const float* x, int64_t cols, int64_t rows, float* y) {
  simd::ShortRows columns;
  columns.load(x, cols, rows);
  for (int64_t i = 0; i < cols; ++i) columns.set(i, hn::Add(columns.get(i), columns.get(i)));
  columns.store(y, cols, rows);
}

}  // namespace dgm::test::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::test {

HWY_EXPORT(RowsAtOnce);
HWY_EXPORT(RowSums);
HWY_EXPORT(Doubled);

namespace {

constexpr float kInf = INFINITY;

// A term at each place that is -inf, and now and then a row that is all -inf, has +inf or a NaN.
std::vector<float> terms(int64_t rows, int64_t cols, std::mt19937* generator) {
  std::normal_distribution<float> normal(0.0f, 20.0f);
  std::vector<float> x(static_cast<std::size_t>(rows * cols));
  for (float& v : x) v = (*generator)() % 16 == 0 ? -kInf : normal(*generator);
  for (int64_t r = 0; r < rows; ++r) {
    float* const row = x.data() + r * cols;
    const auto place = static_cast<int64_t>((*generator)() % static_cast<uint32_t>(cols));
    switch ((*generator)() % 12) {
      case 0:
        std::fill(row, row + cols, -kInf);
        break;
      case 1:
        row[place] = kInf;
        break;
      case 2:
        row[place] = NAN;
        break;
      default:
        break;
    }
  }
  return x;
}

long double log_sum_exp(const float* row, int64_t cols) {
  long double max = -kInf;
  for (int64_t i = 0; i < cols; ++i) {
    if (std::isnan(row[i])) return NAN;
    max = std::max<long double>(max, row[i]);
  }
  if (std::isinf(max)) return max;
  long double sum = 0;
  for (int64_t i = 0; i < cols; ++i) sum += std::exp(row[i] - max);
  return max + std::log(sum);
}

TEST(Rows, HaveTheirLogSumExpOnEveryTarget) {
  on_every_target([](const char* target) {
    std::mt19937 generator(1);
    for (const int64_t cols :
         {1, 2, 3, 4, 5, 7, 8, 10, 15, 16, 17, 23, 24, 25, 31, 33, 64, 100, 127, 128, 129, 250, 512, 513, 4100}) {
      const int64_t most = HWY_DYNAMIC_DISPATCH(RowsAtOnce)(cols);
      for (int64_t rows = 1; rows <= most; ++rows) {
        const std::vector<float> x = terms(rows, cols, &generator);
        std::vector<float> max(static_cast<std::size_t>(rows)), sum(static_cast<std::size_t>(rows));
        HWY_DYNAMIC_DISPATCH(RowSums)(x.data(), cols, rows, max.data(), sum.data());
        for (int64_t r = 0; r < rows; ++r) {
          const auto at = static_cast<std::size_t>(r);
          const float y = max[at] + std::log(sum[at]);
          const long double expected = log_sum_exp(x.data() + r * cols, cols);
          if (std::isnan(expected)) {
            EXPECT_TRUE(std::isnan(y)) << target << ", " << cols << " terms, row " << r << " of " << rows;
          } else if (std::isinf(expected)) {
            EXPECT_EQ(y, static_cast<float>(expected))
                << target << ", " << cols << " terms, row " << r << " of " << rows;
          } else {
            EXPECT_NEAR(y, static_cast<double>(expected), 1e-6 * std::max(1.0, std::abs(static_cast<double>(expected))))
                << target << ", " << cols << " terms, row " << r << " of " << rows;
          }
        }
      }
    }
  });
}

TEST(ShortRows, ComeBackFromColumnsOnEveryTarget) {
  on_every_target([](const char* target) {
    for (int64_t cols = 1; cols <= 24; ++cols) {
      const int64_t most = HWY_DYNAMIC_DISPATCH(RowsAtOnce)(cols);
      for (int64_t rows = 1; rows <= most; ++rows) {
        const auto count = static_cast<std::size_t>(rows * cols);
        std::vector<float> x(count), y(count + 1, -1.0f);
        for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<float>(i + 1);
        HWY_DYNAMIC_DISPATCH(Doubled)(x.data(), cols, rows, y.data());
        for (std::size_t i = 0; i < count; ++i) ASSERT_EQ(y[i], 2 * x[i]) << target << ", " << rows << " x " << cols;
        ASSERT_EQ(y[count], -1.0f) << target << ", " << rows << " x " << cols << ": written past the end";
      }
    }
  });
}

}  // namespace
}  // namespace dgm::test
#endif  // HWY_ONCE
