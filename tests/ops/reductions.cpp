// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <cmath>
#include <limits>

namespace dgm::test {
namespace {

class Reductions : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& x, Shape shape) {
    return Tensor<float>::from(x, std::move(shape), device());
  }
};

// Sums over the middle axis of (outer, count, inner), and of absolute values for the bound.
struct Sums {
  Reals sum;
  Reals absolute;
};
Sums sums_of(const std::vector<float>& x, int64_t outer, int64_t count, int64_t inner) {
  Sums result;
  for (int64_t o = 0; o < outer; ++o) {
    for (int64_t i = 0; i < inner; ++i) {
      Real sum = 0;
      Real absolute = 0;
      for (int64_t c = 0; c < count; ++c) {
        const Real v = x[static_cast<std::size_t>((o * count + c) * inner + i)];
        sum += v;
        absolute += std::abs(v);
      }
      result.sum.push_back(sum);
      result.absolute.push_back(absolute);
    }
  }
  return result;
}

void expect_sums(const std::vector<float>& got, const Sums& wanted, Real scale, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.sum.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const Real sum = wanted.sum[i] * scale;
    const Real bound = kSumError * std::abs(sum) + 1e-12L * wanted.absolute[i] * scale + 1e-44L;
    ASSERT_LE(std::abs(got[i] - sum), bound) << what << ": element " << i << " of " << got.size() << ": got " << got[i]
                                             << ", wanted " << static_cast<double>(sum);
  }
}

TEST_P(Reductions, SumOfAllMatchesTheReferenceAtEveryVectorAndChunkEdge) {
  for (const int64_t n :
       {0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 63, 65, 127, 129, 1023, 1025, 8191, 16384, 16385, 100003}) {
    const auto x = random_normals(n, static_cast<uint64_t>(n) + 1, 3.0, 1.0);
    const std::string what = "n = " + std::to_string(n);
    expect_sums(sum(tensor(x, {n})).value().to_host(), sums_of(x, 1, n, 1), 1, what);
    if (n > 0) expect_sums({mean(tensor(x, {n})).value().item()}, sums_of(x, 1, n, 1), 1.0L / n, "mean, " + what);
  }
}

TEST_P(Reductions, SumOverAnyAxisMatchesTheReference) {
  const std::vector<std::vector<int64_t>> shapes = {{1, 1, 1},   {3, 5, 7},    {1, 300, 33}, {2, 65, 129}, {5, 1, 128},
                                                    {300, 3, 2}, {1, 9000, 3}, {4, 2, 2100}, {70, 31, 1},  {2, 3000, 1},
                                                    {3, 0, 2},   {0, 4, 3},    {1, 2000, 64}};
  for (const auto& extents : shapes) {
    const Shape shape(extents);
    const auto x = random_normals(shape.size(), 17, 1.0, 0.5);
    for (int axis = 0; axis < 3; ++axis) {
      int64_t outer = 1;
      int64_t inner = 1;
      for (int i = 0; i < axis; ++i) outer *= extents[static_cast<std::size_t>(i)];
      for (int i = axis + 1; i < 3; ++i) inner *= extents[static_cast<std::size_t>(i)];
      const int64_t count = shape[axis];
      const std::string what = shape.str() + " over axis " + std::to_string(axis);
      expect_sums(sum(tensor(x, shape), axis).value().to_host(), sums_of(x, outer, count, inner), 1, what);
      if (count == 0) continue;
      expect_sums(mean(tensor(x, shape), axis - 3).value().to_host(), sums_of(x, outer, count, inner), 1.0L / count,
                  "mean, " + what);
    }
  }
}

TEST_P(Reductions, TheSumOfManySmallTermsIsNotSwallowedByALargeOne) {
  std::vector<float> x(1 << 20, 1.0f);
  x[0] = 16777216.0f;  // 2^24: adding 1 to it in float changes nothing
  EXPECT_EQ(sum(tensor(x, {1 << 20})).value().item(), 16777216.0f + 1048575.0f);
}

TEST_P(Reductions, GradientsSpreadTheUpstreamGradient) {
  for (const auto& extents : std::vector<std::vector<int64_t>>{{3, 5, 7}, {2, 1, 33}, {40, 130, 3}}) {
    const Shape shape(extents);
    const auto x = random_normals(shape.size(), 5);
    for (int axis = 0; axis < 3; ++axis) {
      Tape tape;
      const Variable leaf = tape.watch(tensor(x, shape));
      const Variable y = mean(leaf, axis);
      const auto g = random_normals(y.shape().size(), 6);
      tape.backward(y, tensor(g, y.shape()));
      int64_t inner = 1;
      for (int i = axis + 1; i < 3; ++i) inner *= extents[static_cast<std::size_t>(i)];
      const int64_t count = shape[axis];
      Reals wanted;
      for (int64_t at = 0; at < shape.size(); ++at) {
        wanted.push_back(Real{g[static_cast<std::size_t>(at / (count * inner) * inner + at % inner)]} / count);
      }
      expect_close(tape.grad(leaf).to_host(), wanted, 1e-7, shape.str() + " over axis " + std::to_string(axis));
    }
  }
  Tape tape;
  const Variable leaf = tape.watch(tensor({1, 2, 3}, {3}));
  tape.backward(sum(leaf));
  EXPECT_EQ(tape.grad(leaf).to_host(), (std::vector<float>{1, 1, 1}));
}

TEST_P(Reductions, InfinityAndNaNReachTheSum) {
  const float inf = std::numeric_limits<float>::infinity();
  for (const int64_t at : {0, 5, 69}) {
    std::vector<float> x(70, 1.0f);
    x[static_cast<std::size_t>(at)] = inf;
    EXPECT_EQ(sum(tensor(x, {70})).value().item(), inf);
    x[30] = -inf;
    EXPECT_TRUE(std::isnan(sum(tensor(x, {70})).value().item()));
    const auto columns = sum(tensor(x, {35, 2}), 0).value().to_host();
    EXPECT_EQ(std::isnan(columns[0]), at % 2 == 0) << "inf at " << at;
    EXPECT_FALSE(std::isnan(columns[1]));
  }
}

TEST_P(Reductions, RowMaxIsTheLargestEntryAndItsGradientGoesToTheFirstOfEquals) {
  for (const int64_t cols : {1, 2, 7, 8, 9, 31, 32, 33, 64, 129, 1000}) {
    for (const int64_t rows : {0, 1, 9, 40}) {
      // Few different values: most rows have several largest entries.
      std::vector<float> x = random_normals(rows * cols, static_cast<uint64_t>(cols), 2.0, -3.0);
      for (float& value : x) value = std::round(value);
      const auto g = random_normals(rows, 4);
      Tape tape;
      const Variable leaf = tape.watch(tensor(x, {rows, 1, cols}));
      const Variable y = row_max(leaf);
      ASSERT_EQ(y.shape(), (Shape{rows, 1}));
      tape.backward(y, tensor(g, {rows, 1}));
      std::vector<float> wanted;
      std::vector<float> gradient(x.size());
      for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
        std::size_t best = r * static_cast<std::size_t>(cols);
        for (std::size_t i = best; i < (r + 1) * static_cast<std::size_t>(cols); ++i) best = x[i] > x[best] ? i : best;
        wanted.push_back(x[best]);
        gradient[best] = g[r];
      }
      EXPECT_EQ(y.value().to_host(), wanted) << rows << " x " << cols;
      EXPECT_EQ(tape.grad(leaf).to_host(), gradient) << rows << " x " << cols;
    }
  }
}

TEST_P(Reductions, RowMaxOfNaNsAndInfinities) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::size_t cols : {std::size_t{3}, std::size_t{70}}) {
    std::vector<float> x(4 * cols, -inf);
    x[cols + 1] = inf;
    x[2 * cols + 1] = nan;
    x[2 * cols + 2] = inf;
    x[3 * cols + 1] = nan;
    x[4 * cols - 1] = nan;
    Tape tape;
    const Variable leaf = tape.watch(tensor(x, {4, static_cast<int64_t>(cols)}));
    const Variable y = row_max(leaf);
    const auto got = y.value().to_host();
    EXPECT_EQ(got[0], -inf);
    EXPECT_EQ(got[1], inf);
    EXPECT_TRUE(std::isnan(got[2]));
    EXPECT_TRUE(std::isnan(got[3]));
    tape.backward(y, tensor({1, 2, 3, 4}, {4}));
    std::vector<float> wanted(x.size());
    wanted[0] = 1;
    wanted[cols + 1] = 2;
    wanted[2 * cols + 1] = 3;
    wanted[3 * cols + 1] = 4;
    EXPECT_EQ(tape.grad(leaf).to_host(), wanted) << cols << " columns";
  }
  EXPECT_THROW(row_max(tensor({1}, {})), ShapeError);
  EXPECT_THROW(row_max(Tensor<float>::zeros({3, 0}, device())), ShapeError);
}

TEST_P(Reductions, GiveTheSameBitsWhateverTheThreads) {
  const auto x = random_normals(300 * 1000, 8, 100.0);
  const int threads = cpu_threads();
  std::vector<std::vector<float>> results;
  for (const int count : {1, 2, 3}) {
    set_cpu_threads(count);
    auto y = sum(tensor(x, {1000, 300}), 0).value().to_host();
    y.push_back(sum(tensor(x, {300000})).value().item());
    results.push_back(y);
  }
  set_cpu_threads(threads);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST_P(Reductions, RefuseAnAxisThatIsNotThereAndAMeanOfNothing) {
  const auto x = Tensor<float>::zeros({2, 0}, device());
  EXPECT_THROW(sum(x, 2), ShapeError);
  EXPECT_THROW(sum(x, -3), ShapeError);
  EXPECT_THROW(mean(x), ShapeError);
  EXPECT_THROW(mean(x, 1), ShapeError);
  EXPECT_EQ(sum(x).value().item(), 0.0f);
  EXPECT_TRUE(mean(x, 0).value().to_host().empty());
}

DGM_ON_EVERY_DEVICE(Reductions);

}  // namespace
}  // namespace dgm::test
