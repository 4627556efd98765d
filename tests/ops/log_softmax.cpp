// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/log_softmax.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

class LogSoftmax : public OnEveryDevice {
 protected:
  using Op = Variable (*)(const Variable&);

  std::vector<float> forward(Op op, const std::vector<float>& x, int64_t cols) const {
    const auto rows = static_cast<int64_t>(x.size()) / cols;
    return op(Tensor<float>::from(x, {rows, cols}, device())).value().to_host();
  }
  std::vector<float> gradient(Op op, const std::vector<float>& x, int64_t cols, const std::vector<float>& g) const {
    const auto rows = static_cast<int64_t>(x.size()) / cols;
    Tape tape;
    const Variable leaf = tape.watch(Tensor<float>::from(x, {rows, cols}, device()));
    tape.backward(op(leaf), Tensor<float>::from(g, {rows, cols}, device()));
    return tape.grad(leaf).to_host();
  }
};

Reals reference(const Reals& x) {
  const Real norm = test::log_sum_exp(x);
  Reals y;
  for (const Real value : x) y.push_back(value - norm);
  return y;
}

TEST_P(LogSoftmax, MatchesTheReferenceAtEveryVectorWarpAndBlockEdge) {
  for (const int64_t cols :
       {1, 2, 7, 8, 15, 16, 17, 24, 25, 31, 32, 33, 255, 257, 1000, 2047, 2048, 2049, 4097, 5000}) {
    for (const double shift : {0.0, 1000.0}) {
      const int64_t rows = 3;
      const auto x = random_normals(rows * cols, 7 * static_cast<uint64_t>(cols), 5.0, shift);
      Reals wanted;
      for (int64_t b = 0; b < rows; ++b) {
        const Reals row = reference(Reals(x.begin() + b * cols, x.begin() + (b + 1) * cols));
        wanted.insert(wanted.end(), row.begin(), row.end());
      }
      expect_close(forward(log_softmax, x, cols), wanted, kLogSoftmaxError, "K = " + std::to_string(cols));

      const auto y = forward(softmax, x, cols);
      for (std::size_t i = 0; i < y.size(); ++i) {
        const auto exact = static_cast<double>(std::exp(wanted[i]));
        ASSERT_NEAR(y[i], exact, kSoftmaxError * exact + 2e-38) << "softmax, K = " << cols << ", element " << i;
      }
    }
  }
}

TEST_P(LogSoftmax, GradientsAgreeWithCentralDifferencesOfTheReference) {
  for (const int64_t cols : {1, 3, 16, 37, 100}) {
    const auto x = random_normals(cols, 11, 2.0);
    const auto g = random_normals(cols, 12);
    Real g_sum = 0;
    for (const float value : g) g_sum += std::abs(value);
    for (const bool exponentiated : {false, true}) {
      const auto wanted = central_differences(
          [&](const Reals& row) {
            const Reals y = reference(row);
            Real sum = 0;
            for (std::size_t k = 0; k < y.size(); ++k) sum += g[k] * (exponentiated ? std::exp(y[k]) : y[k]);
            return sum;
          },
          to_reals(x));
      const auto got = gradient(exponentiated ? softmax : log_softmax, x, cols, g);
      const Reals y = reference(to_reals(x));
      Real weighted_sum = 0;
      for (std::size_t k = 0; k < g.size(); ++k) weighted_sum += std::exp(y[k]) * std::abs(g[k]);
      for (std::size_t k = 0; k < got.size(); ++k) {
        const Real scale = exponentiated ? std::exp(y[k]) * (std::abs(g[k]) + weighted_sum)
                                         : std::abs(g[k]) + std::exp(y[k]) * (1 + std::abs(y[k])) * g_sum;
        EXPECT_NEAR(got[k], static_cast<double>(wanted[k]),
                    static_cast<double>((exponentiated ? kSoftmaxError : kLogSoftmaxError) * scale) + 1e-12)
            << (exponentiated ? "softmax" : "log_softmax") << ", K = " << cols << ", k = " << k;
      }
    }
  }
}

TEST_P(LogSoftmax, EveryRowOfManyShortOnesIsItsOwn) {
  for (const int64_t cols : {1, 3, 4, 10, 24, 25, 70}) {
    const int64_t rows = 37;
    auto x = random_normals(rows * cols, 21, 3.0);
    for (int64_t k = 0; k < cols; ++k) x[static_cast<std::size_t>(5 * cols + k)] = -kInf;
    x[static_cast<std::size_t>(9 * cols)] = kNaN;
    x[static_cast<std::size_t>(20 * cols)] = kInf;
    const auto g = random_normals(rows * cols, 22);
    for (const Op op : {Op{log_softmax}, Op{softmax}}) {
      const auto y = forward(op, x, cols);
      const auto d = gradient(op, x, cols, g);
      for (int64_t b = 0; b < rows; ++b) {
        const auto first = b * cols;
        const auto slice = [&](const std::vector<float>& v) {
          return std::vector<float>(v.begin() + first, v.begin() + first + cols);
        };
        expect_close(slice(y), to_reals(forward(op, slice(x), cols)), 1e-9, "row " + std::to_string(b) + " alone");
        expect_close(slice(d), to_reals(gradient(op, slice(x), cols, slice(g))), 1e-9,
                     "gradient of row " + std::to_string(b) + " alone");
      }
    }
  }
}

TEST_P(LogSoftmax, GradientOfALongRowAgreesWithItsFormula) {
  const int64_t cols = 3001;
  const auto x = random_normals(cols, 3, 3.0);
  const auto g = random_normals(cols, 4);
  const Reals y = reference(to_reals(x));
  Real g_sum = 0;
  for (const float value : g) g_sum += value;
  Reals wanted;
  for (std::size_t k = 0; k < g.size(); ++k) wanted.push_back(g[k] - std::exp(y[k]) * g_sum);
  expect_close(gradient(log_softmax, x, cols, g), wanted, 1e-5, "log_softmax");
}

TEST_P(LogSoftmax, EntriesOfMinusInfinityStayAndHaveNoGradient) {
  const std::vector<float> x = {-kInf, 1.0f, -kInf, 2.0f};
  const auto y = forward(log_softmax, x, 4);
  EXPECT_EQ(y[0], -kInf);
  EXPECT_EQ(y[2], -kInf);
  EXPECT_NEAR(std::exp(y[1]) + std::exp(y[3]), 1.0f, 1e-6);
  const auto p = forward(softmax, x, 4);
  EXPECT_EQ(p[0], 0.0f);
  // An upstream gradient there must not matter, infinite or not.
  const auto d = gradient(log_softmax, x, 4, {kInf, 1.0f, kNaN, 3.0f});
  EXPECT_EQ(d[0], 0.0f);
  EXPECT_EQ(d[2], 0.0f);
  EXPECT_NEAR(d[1], 1.0f - 4 * p[1], 1e-6);
  const auto e = gradient(softmax, x, 4, {kInf, 1.0f, kNaN, 3.0f});
  EXPECT_EQ(e[0], 0.0f);
  EXPECT_NEAR(e[1], p[1] * (1.0f - p[1] - 3 * p[3]), 1e-6);
}

TEST_P(LogSoftmax, RowOfMinusInfinityHasNoMassAndNoGradient) {
  const std::vector<float> x(5, -kInf);
  const std::vector<float> g(5, 1.0f);
  for (const float value : forward(log_softmax, x, 5)) EXPECT_EQ(value, -kInf);
  for (const float value : forward(softmax, x, 5)) EXPECT_EQ(value, 0.0f);
  for (const float value : gradient(log_softmax, x, 5, g)) EXPECT_EQ(value, 0.0f);
  for (const float value : gradient(softmax, x, 5, g)) EXPECT_EQ(value, 0.0f);
}

TEST_P(LogSoftmax, NaNAndPlusInfinityAreSeen) {
  for (const int64_t cols : {20, 50}) {
    std::vector<float> x(static_cast<std::size_t>(cols), 0.0f);
    x[13] = kNaN;
    for (const float value : forward(log_softmax, x, cols)) EXPECT_TRUE(std::isnan(value));
    for (const float value : forward(softmax, x, cols)) EXPECT_TRUE(std::isnan(value));
    x[13] = kInf;
    const auto y = forward(log_softmax, x, cols);
    const auto p = forward(softmax, x, cols);
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (i == 13) {
        EXPECT_TRUE(std::isnan(y[i]) && std::isnan(p[i]));
      } else {
        EXPECT_EQ(y[i], -kInf) << i;
        EXPECT_EQ(p[i], 0.0f) << i;
      }
    }
  }
}

TEST_P(LogSoftmax, EmptyBatchGivesEmptyResult) {
  EXPECT_EQ(log_softmax(Tensor<float>::empty({0, 4}, device())).shape(), (Shape{0, 4}));
}

TEST_P(LogSoftmax, WorksOnTheLastAxisOfAnyRank) {
  const auto x = random_normals(2 * 3 * 4, 5);
  const auto y = log_softmax(Tensor<float>::from(x, {2, 3, 4}, device()));
  EXPECT_EQ(y.shape(), (Shape{2, 3, 4}));
  EXPECT_EQ(y.value().to_host(), forward(log_softmax, x, 4));
}

TEST_P(LogSoftmax, RefusesRowsWithoutTerms) {
  try {
    softmax(Tensor<float>::empty({64, 0}, device()));
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "softmax: x has shape (64, 0); at least 1 column is needed");
  }
  EXPECT_THROW(log_softmax(Tensor<float>::zeros({}, device())), ShapeError);
}

DGM_ON_EVERY_DEVICE(LogSoftmax);

}  // namespace
}  // namespace dgm::test
