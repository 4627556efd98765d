// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/pick.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

namespace dgm::test {
namespace {

class Pick : public OnEveryDevice {};

TEST_P(Pick, TakesTheIndexedEntriesAndScattersTheirGradients) {
  for (const int64_t cols : {1, 3, 33}) {
    for (const int64_t samples : {1, 2, 5}) {
      const int64_t rows = 7;
      const auto x = random_normals(rows * cols, 1);
      const auto g = random_normals(rows * samples, 2);
      std::vector<int32_t> index;
      for (int64_t i = 0; i < rows * samples; ++i) index.push_back(static_cast<int32_t>((i * 7 + i / 3) % cols));
      Tape tape;
      const Variable leaf = tape.watch(Tensor<float>::from(x, {rows, cols}, device()));
      const Variable y = pick(leaf, Tensor<int32_t>::from(index, {rows, samples}, device()));
      tape.backward(y, Tensor<float>::from(g, {rows, samples}, device()));

      Reals wanted(static_cast<std::size_t>(rows * samples));
      Reals wanted_gradient(x.size());
      for (int64_t i = 0; i < rows * samples; ++i) {
        const auto at = static_cast<std::size_t>(i / samples * cols + index[static_cast<std::size_t>(i)]);
        wanted[static_cast<std::size_t>(i)] = x[at];
        wanted_gradient[at] += g[static_cast<std::size_t>(i)];
      }
      const std::string what = "K = " + std::to_string(cols) + ", S = " + std::to_string(samples);
      expect_close(y.value().to_host(), wanted, 0, what);
      expect_close(tape.grad(leaf).to_host(), wanted_gradient, 1e-6, "gradient, " + what);
    }
  }
}

TEST_P(Pick, IndexOutOfRangeGivesNaNAndNoGradient) {
  Tape tape;
  const Variable x = tape.watch(Tensor<float>::from({1, 2, 3, 4}, {2, 2}, device()));
  const Variable y = pick(x, Tensor<int32_t>::from({2, 1, -1, 0}, {2, 2}, device()));
  const auto values = y.value().to_host();
  EXPECT_TRUE(std::isnan(values[0]));
  EXPECT_TRUE(std::isnan(values[2]));
  EXPECT_EQ(values[1], 2.0f);
  tape.backward(y, Tensor<float>::full({2, 2}, 1.0f, device()));
  EXPECT_EQ(tape.grad(x).to_host(), (std::vector<float>{0, 1, 1, 0}));
}

TEST_P(Pick, EmptyBatchGivesEmptyResult) {
  const auto y = pick(Tensor<float>::zeros({0, 3}, device()), Tensor<int32_t>::zeros({0, 2}, device()));
  EXPECT_EQ(y.shape(), (Shape{0, 2}));
}

TEST_P(Pick, RefusesShapesThatDoNotMatch) {
  const auto x = Tensor<float>::zeros({2, 3}, device());
  EXPECT_THROW(pick(x, Tensor<int32_t>::zeros({3, 1}, device())), ShapeError);
  EXPECT_THROW(pick(x, Tensor<int32_t>::zeros({2}, device())), ShapeError);
  EXPECT_THROW(pick(x, Tensor<int32_t>::zeros({2, 0}, device())), ShapeError);
  EXPECT_THROW(pick(x, Tensor<int32_t>::zeros({2, 1}, Stream::create(device()))), DeviceError);
}

DGM_ON_EVERY_DEVICE(Pick);

}  // namespace
}  // namespace dgm::test
