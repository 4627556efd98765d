// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/log_sum_exp.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

class LogSumExp : public OnEveryDevice {
 protected:
  std::vector<float> forward(const std::vector<float>& x, int64_t rows, int64_t cols) {
    return log_sum_exp(Tensor<float>::from(x, {rows, cols}, device())).value().to_host();
  }
  std::vector<float> gradient(const std::vector<float>& x, int64_t rows, int64_t cols, const std::vector<float>& g) {
    Tape tape;
    const Variable leaf = tape.watch(Tensor<float>::from(x, {rows, cols}, device()));
    tape.backward(log_sum_exp(leaf), Tensor<float>::from(g, {rows}, device()));
    return tape.grad(leaf).to_host();
  }
};

std::vector<Reals> rows_of(const std::vector<float>& x, int64_t rows) {
  std::vector<Reals> result;
  const auto cols = static_cast<std::ptrdiff_t>(x.size()) / std::max<std::ptrdiff_t>(rows, 1);
  for (std::ptrdiff_t b = 0; b < rows; ++b) result.emplace_back(x.begin() + b * cols, x.begin() + (b + 1) * cols);
  return result;
}

TEST_P(LogSumExp, MatchesTheReferenceAtEveryVectorWarpAndChunkEdge) {
  for (const int64_t cols :
       {1, 2, 7, 8, 15, 16, 17, 24, 25, 31, 32, 33, 127, 128, 129, 255, 256, 257, 1000, 4095, 4096, 4097, 10000}) {
    for (const double scale : {1.0, 30.0}) {
      const int64_t rows = 21;  // of every group of rows a part
      const auto x = random_normals(rows * cols, 7 * static_cast<uint64_t>(cols), scale);
      Reals wanted;
      for (const Reals& row : rows_of(x, rows)) wanted.push_back(test::log_sum_exp(row));
      expect_close(forward(x, rows, cols), wanted, kLogSumExpError, "K = " + std::to_string(cols));
    }
  }
}

TEST_P(LogSumExp, MatchesTheReferenceOverManyRows) {
  for (const int64_t cols : {5, 67, 600}) {
    const int64_t rows = on_simulated_device() ? 131 : 1031;
    const auto x = random_normals(rows * cols, 3);
    Reals wanted;
    for (const Reals& row : rows_of(x, rows)) wanted.push_back(test::log_sum_exp(row));
    expect_close(forward(x, rows, cols), wanted, kLogSumExpError, "many rows, K = " + std::to_string(cols));
  }
}

TEST_P(LogSumExp, RowsThatClimbOrFallSlowlyOrSteeplyLoseNothing) {
  for (const int64_t cols : {23, 300, 5003}) {
    for (const float slope : {1e-4f, 3e-3f, 0.01f, 0.2f, 0.99f, 1.01f, 40.0f}) {
      std::vector<float> x(static_cast<std::size_t>(2 * cols));
      for (std::size_t i = 0; i < x.size() / 2; ++i) {
        x[i] = slope * static_cast<float>(i);
        x[x.size() - 1 - i] = x[i];
      }
      Reals wanted;
      for (const Reals& row : rows_of(x, 2)) wanted.push_back(test::log_sum_exp(row));
      expect_close(forward(x, 2, cols), wanted, kLogSumExpError,
                   "K = " + std::to_string(cols) + ", slope " + std::to_string(slope));
    }
  }
}

TEST_P(LogSumExp, GradientAgreesWithCentralDifferencesOfTheReference) {
  for (const int64_t cols : {1, 3, 16, 37}) {
    const int64_t rows = 3;
    const auto x = random_normals(rows * cols, 11, 2.0);
    const std::vector<float> g = {0.5f, -2.0f, 1.0f};
    Reals wanted;
    const auto all = rows_of(x, rows);
    for (std::size_t b = 0; b < all.size(); ++b) {
      for (const Real d : central_differences([](const Reals& row) { return test::log_sum_exp(row); }, all[b])) {
        wanted.push_back(g[b] * d);
      }
    }
    expect_close(gradient(x, rows, cols, g), wanted, 2 * kLogSumExpError, "gradient, K = " + std::to_string(cols));
  }
}

TEST_P(LogSumExp, RowOfMinusInfinityGivesMinusInfinityAndZeroGradient) {
  const std::vector<float> x = {-kInf, -kInf, -kInf, 0.0f, -kInf, 1.0f};
  EXPECT_EQ(forward(x, 2, 3)[0], -kInf);
  const auto dx = gradient(x, 2, 3, {1.0f, 1.0f});
  for (const std::size_t i : {0, 1, 2, 4}) EXPECT_EQ(dx[i], 0.0f) << "element " << i;
  EXPECT_NEAR(dx[3] + dx[5], 1.0f, 1e-6);
}

TEST_P(LogSumExp, AnyNaNGivesNaNInItsRowAlone) {
  for (const std::size_t cols : {9, 41, 700}) {
    for (const std::size_t at : {std::size_t{0}, std::size_t{1}, cols / 2, cols - 1}) {
      std::vector<float> x(3 * cols, 0.0f);
      x[cols + at] = kNaN;
      const std::string what = "K = " + std::to_string(cols) + ", NaN at " + std::to_string(at);
      const auto count = static_cast<int64_t>(cols);
      const auto y = forward(x, 3, count);
      EXPECT_TRUE(std::isnan(y[1])) << what;
      EXPECT_TRUE(std::isfinite(y[0]) && std::isfinite(y[2])) << what << ": " << y[0] << ", " << y[2];
      x[cols + 7] = kInf;
      EXPECT_TRUE(std::isnan(forward(x, 3, count)[1]) || at == 7) << what << " beside +inf";
    }
  }
}

TEST_P(LogSumExp, PlusInfinityGivesPlusInfinity) {
  EXPECT_EQ(forward({0.0f, kInf, kInf, -kInf}, 1, 4)[0], kInf);
  for (const std::size_t cols : {9, 41, 700}) {
    std::vector<float> x(2 * cols, -1.0f);
    x[5] = x[cols - 1] = kInf;
    x[6] = -kInf;
    const auto y = forward(x, 2, static_cast<int64_t>(cols));
    EXPECT_EQ(y[0], kInf) << "K = " << cols;
    EXPECT_NEAR(y[1], -1 + std::log(static_cast<double>(cols)), 1e-5) << "K = " << cols;
  }
}

TEST_P(LogSumExp, MinusInfinityAndTheLowestFloatAreToldApart) {
  constexpr float kLowest = std::numeric_limits<float>::lowest();
  for (const std::size_t cols : {9, 41, 700}) {
    std::vector<float> x(cols, -kInf);
    EXPECT_EQ(forward(x, 1, static_cast<int64_t>(cols))[0], -kInf) << "K = " << cols;
    x[cols / 2] = kLowest;
    EXPECT_EQ(forward(x, 1, static_cast<int64_t>(cols))[0], kLowest) << "K = " << cols;
    x[cols / 2] = 2.0f;
    EXPECT_EQ(forward(x, 1, static_cast<int64_t>(cols))[0], 2.0f) << "K = " << cols;
  }
}

TEST_P(LogSumExp, TermsFarApartDoNotDisturbTheLargest) {
  EXPECT_EQ(forward({1e30f, -1e30f, 0.0f}, 1, 3)[0], 1e30f);
  EXPECT_EQ(forward({-1e30f, -2e30f}, 1, 2)[0], -1e30f);
}

TEST_P(LogSumExp, EmptyBatchGivesEmptyResult) { EXPECT_TRUE(forward({}, 0, 4).empty()); }

TEST_P(LogSumExp, WorksOnTheLastAxisOfAnyRank) {
  const auto x = random_normals(2 * 3 * 4, 5);
  const auto y = log_sum_exp(Tensor<float>::from(x, {2, 3, 4}, device()));
  EXPECT_EQ(y.shape(), (Shape{2, 3}));
  Reals wanted;
  for (const Reals& row : rows_of(x, 6)) wanted.push_back(test::log_sum_exp(row));
  expect_close(y.value().to_host(), wanted, kLogSumExpError, "rank 3");
}

TEST_P(LogSumExp, LogMeanExpIsLowerByTheLogOfTheCount) {
  const auto x = random_normals(3 * 50, 9);
  const auto tensor = Tensor<float>::from(x, {3, 50}, device());
  Reals wanted;
  for (const Reals& row : rows_of(x, 3)) wanted.push_back(test::log_sum_exp(row) - std::log(50.0L));
  expect_close(log_mean_exp(tensor).value().to_host(), wanted, kLogSumExpError, "log_mean_exp");

  Tape tape;
  const Variable leaf = tape.watch(tensor);
  tape.backward(log_mean_exp(leaf), Tensor<float>::full({3}, 1.0f, device()));
  const auto dx = tape.grad(leaf).to_host();
  for (int64_t b = 0; b < 3; ++b) {
    double sum = 0;
    for (int64_t k = 0; k < 50; ++k) sum += dx[static_cast<std::size_t>(b * 50 + k)];
    EXPECT_NEAR(sum, 1.0, 1e-6) << "responsibilities of row " << b;
  }
}

TEST_P(LogSumExp, RefusesRowsWithoutTerms) {
  const auto x = Tensor<float>::empty({64, 0}, device());
  try {
    log_sum_exp(x);
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "log_sum_exp: x has shape (64, 0); at least 1 column is needed");
  }
  EXPECT_THROW(log_sum_exp(Tensor<float>::zeros({}, device())), ShapeError);
}

DGM_ON_EVERY_DEVICE(LogSumExp);

}  // namespace
}  // namespace dgm::test
