// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/dropout.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/philox.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

class DropoutOp : public OnEveryDevice {
 protected:
  Tensor<float> ones(Shape shape) { return Tensor<float>::full(std::move(shape), 1.0f, device()); }
};

TEST_P(DropoutOp, DropsWhatTheContractOfDrawsSays) {
  constexpr uint64_t kSeed = 0x123456789abcdefull;
  for (const int64_t cols : {1, 2, 3, 4, 5, 31, 64, 65, 130}) {
    for (const int64_t rows : {1, 3, 37}) {
      Draws draws = Draws(kSeed, device()).at(9);
      draws.set_step(5);
      const float p = 0.3f;
      const auto x = random_normals(rows * cols, 1);
      const auto y = dropout(Tensor<float>::from(x, {rows, cols}, device()), p, draws).value().to_host();
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          const uint32_t word = philox(kSeed, (uint64_t{9} << 48) | static_cast<uint64_t>(r), 5,
                                       static_cast<uint32_t>(c / 4))[static_cast<std::size_t>(c % 4)];
          const auto i = static_cast<std::size_t>(r * cols + c);
          const float kept = x[i] * static_cast<float>(1 / (1 - double{p}));
          ASSERT_EQ(y[i], word < 0.3f * 4294967296.0 ? 0.0f : kept)
              << "row " << r << ", column " << c << " of " << rows << " x " << cols;
        }
      }
    }
  }
}

TEST_P(DropoutOp, GradientPassesWhereTheValueDid) {
  Tape tape;
  const Draws draws(7, device());
  const Variable x = tape.watch(ones({50, 21}));
  const Variable y = dropout(x, 0.5f, draws);
  tape.backward(y, ones({50, 21}));
  EXPECT_EQ(tape.grad(x).to_host(), y.value().to_host());
}

TEST_P(DropoutOp, ZerosComeAtTheirRate) {
  for (const float p : {0.01f, 0.5f, 0.9f}) {
    const int64_t n = 400 * 250;
    const auto y = dropout(ones({400, 250}), p, Draws(3, device())).value().to_host();
    const auto zeros = static_cast<double>(std::count(y.begin(), y.end(), 0.0f));
    const double deviation = std::sqrt(static_cast<double>(n) * p * (1 - p));
    EXPECT_NEAR(zeros, static_cast<double>(n) * p, 5 * deviation) << "p = " << p << ", seed 3";
  }
}

TEST_P(DropoutOp, RowsFollowTheirDatum) {
  const Draws draws(11, device());
  const auto whole = dropout(ones({10, 9}), 0.5f, draws).value().to_host();
  const auto data = Tensor<int64_t>::from({7, 2}, {2}, device());
  const auto some = dropout(ones({2, 9}), 0.5f, draws, true, &data).value().to_host();
  for (std::size_t c = 0; c < 9; ++c) {
    EXPECT_EQ(some[c], whole[7 * 9 + c]);
    EXPECT_EQ(some[9 + c], whole[2 * 9 + c]);
  }
}

TEST_P(DropoutOp, StepAndSiteChangeTheMask) {
  Draws draws(11, device());
  const auto first = dropout(ones({4, 40}), 0.5f, draws).value().to_host();
  EXPECT_EQ(dropout(ones({4, 40}), 0.5f, draws).value().to_host(), first);
  EXPECT_NE(dropout(ones({4, 40}), 0.5f, draws.at(1)).value().to_host(), first);
  draws.set_step(1);
  EXPECT_NE(dropout(ones({4, 40}), 0.5f, draws).value().to_host(), first);
}

TEST_P(DropoutOp, IsTheIdentityOutsideTrainingAndForNoProbability) {
  const auto x = ones({3, 5});
  const Draws draws(1, device());
  EXPECT_EQ(dropout(x, 0.5f, draws, false).value().data(), x.data());
  EXPECT_EQ(dropout(x, 0.0f, draws).value().data(), x.data());
}

TEST_P(DropoutOp, ADroppedInfinityIsZero) {
  const float inf = std::numeric_limits<float>::infinity();
  const auto y = dropout(Tensor<float>::full({100}, inf, device()), 0.5f, Draws(2, device())).value().to_host();
  for (const float v : y) EXPECT_TRUE(v == 0.0f || v == inf) << v;
}

TEST_P(DropoutOp, EmptyTensorsAndMisuse) {
  const Draws draws(1, device());
  EXPECT_EQ(dropout(ones({0, 5}), 0.5f, draws).shape(), (Shape{0, 5}));
  EXPECT_EQ(dropout(ones({5, 0}), 0.5f, draws).shape(), (Shape{5, 0}));
  EXPECT_THROW(dropout(ones({2}), 1.0f, draws), ArgumentError);
  EXPECT_THROW(dropout(ones({2}), -0.1f, draws), ArgumentError);
  EXPECT_THROW(dropout(ones({2}), std::numeric_limits<float>::quiet_NaN(), draws), ArgumentError);
  const auto data = Tensor<int64_t>::zeros({3}, device());
  EXPECT_THROW(dropout(ones({2, 4}), 0.5f, draws, true, &data), ShapeError);
}

DGM_ON_EVERY_DEVICE(DropoutOp);

}  // namespace
}  // namespace dgm::test
