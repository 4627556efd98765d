// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/columns.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

namespace dgm::test {
namespace {

class Columns : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& x, Shape shape) {
    return Tensor<float>::from(x, std::move(shape), device());
  }
};

TEST_P(Columns, TakeTheirPartAndPutItsGradientBack) {
  for (const int64_t rows : {0, 1, 3, 300}) {
    for (const auto& [begin, end] : std::vector<std::pair<int64_t, int64_t>>{{0, 7}, {0, 2}, {3, 4}, {5, 7}, {2, 2}}) {
      const auto x = random_normals(rows * 7, 1);
      const int64_t width = end - begin;
      const auto g = random_normals(rows * width, 2);
      Tape tape;
      const Variable leaf = tape.watch(tensor(x, {rows, 7}));
      const Variable y = columns(leaf, begin, end);
      ASSERT_EQ(y.shape(), (Shape{rows, width}));
      tape.backward(y, tensor(g, {rows, width}));
      std::vector<float> wanted;
      std::vector<float> dx(x.size(), 0.0f);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = begin; c < end; ++c) {
          wanted.push_back(x[static_cast<std::size_t>(r * 7 + c)]);
          dx[static_cast<std::size_t>(r * 7 + c)] = g[static_cast<std::size_t>(r * width + c - begin)];
        }
      }
      EXPECT_EQ(y.value().to_host(), wanted) << rows << " rows, columns " << begin << " to " << end;
      EXPECT_EQ(tape.grad(leaf).to_host(), dx) << rows << " rows, columns " << begin << " to " << end;
    }
  }
}

TEST_P(Columns, ConcatenateUndoesThem) {
  const auto x = random_normals(2 * 5 * 9, 3);
  const auto g = random_normals(2 * 5 * 9, 4);
  Tape tape;
  const Variable leaf = tape.watch(tensor(x, {2, 5, 9}));
  const Variable y = concatenate({columns(leaf, 0, 4), columns(leaf, 4, 4), columns(leaf, 4, 9)});
  EXPECT_EQ(y.shape(), (Shape{2, 5, 9}));
  EXPECT_EQ(y.value().to_host(), x);
  tape.backward(y, tensor(g, {2, 5, 9}));
  EXPECT_EQ(tape.grad(leaf).to_host(), g);
}

TEST_P(Columns, OverlappingPartsAddTheirGradients) {
  Tape tape;
  const Variable leaf = tape.watch(tensor({1, 2, 3}, {3}));
  const Variable y = concatenate({columns(leaf, 0, 2), columns(leaf, 1, 3)});
  EXPECT_EQ(y.value().to_host(), (std::vector<float>{1, 2, 2, 3}));
  tape.backward(y, tensor({1, 10, 100, 1000}, {4}));
  EXPECT_EQ(tape.grad(leaf).to_host(), (std::vector<float>{1, 110, 1000}));
}

TEST_P(Columns, RefuseMisuse) {
  const auto x = Tensor<float>::zeros({2, 3}, device());
  EXPECT_THROW(columns(x, 1, 4), ShapeError);
  EXPECT_THROW(columns(x, -1, 2), ShapeError);
  EXPECT_THROW(columns(x, 2, 1), ShapeError);
  EXPECT_THROW(columns(Tensor<float>::zeros({}, device()), 0, 1), ShapeError);
  EXPECT_THROW(concatenate({}), ArgumentError);
  EXPECT_THROW(concatenate({x, Tensor<float>::zeros({3, 3}, device())}), ShapeError);
  EXPECT_THROW(concatenate({x, Tensor<float>::zeros({2, 3}, Stream::create(device()))}), DeviceError);
}

DGM_ON_EVERY_DEVICE(Columns);

}  // namespace
}  // namespace dgm::test
