// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/sequences.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <numeric>

namespace dgm::test {
namespace {

class Sequences : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& x, Shape shape) {
    return Tensor<float>::from(x, std::move(shape), device());
  }
};

const std::vector<std::vector<int64_t>> kLengths = {
    {}, {0}, {1}, {0, 0}, {2, 3, 0}, {3, 3, 3}, {1, 0, 7, 2, 7, 1, 4}, {5, 4, 4, 1, 0}};

std::string text_of(const std::vector<int64_t>& lengths) {
  std::string text = "lengths";
  for (const int64_t n : lengths) text += " " + std::to_string(n);
  return text;
}

TEST_P(Sequences, PackedOrderIsStepByStepAndTheLongestFirst) {
  const SequenceLayout layout({2, 3, 0}, device());
  const auto values = Tensor<int32_t>::from({10, 11, 20, 21, 22}, {5}, device());
  EXPECT_EQ(pack(values, layout).to_host(), (std::vector<int32_t>{20, 10, 21, 11, 22}));
  EXPECT_EQ(layout.step_begin(), (std::vector<int64_t>{0, 2, 4, 5}));
  EXPECT_EQ(layout.batch(), 3);
  EXPECT_EQ(layout.total(), 5);
  EXPECT_EQ(layout.steps(), 3);
  EXPECT_FALSE(layout.sorted());
  const SequenceLayout backward({2, 3, 0}, device(), SequenceLayout::Direction::backward);
  EXPECT_EQ(pack(values, backward).to_host(), (std::vector<int32_t>{22, 11, 21, 10, 20}));
}

TEST_P(Sequences, EqualLengthsKeepTheirOrder) {
  const SequenceLayout layout = SequenceLayout::uniform(2, 3, device());
  EXPECT_TRUE(layout.sorted());
  const auto values = Tensor<int32_t>::from({0, 1, 2, 3, 4, 5}, {6}, device());
  EXPECT_EQ(pack(values, layout).to_host(), (std::vector<int32_t>{0, 3, 1, 4, 2, 5}));
}

TEST_P(Sequences, UnpackUndoesPackWithItsGradientInBothDirections) {
  for (const auto& lengths : kLengths) {
    for (const auto direction : {SequenceLayout::Direction::forward, SequenceLayout::Direction::backward}) {
      const SequenceLayout layout(lengths, device(), direction);
      const auto x = random_normals(layout.total() * 3, 1);
      const auto g = random_normals(layout.total() * 3, 2);
      Tape tape;
      const Variable leaf = tape.watch(tensor(x, {layout.total(), 3}));
      const Variable packed = pack(leaf, layout);
      const Variable back = unpack(packed, layout);
      EXPECT_EQ(back.value().to_host(), x) << text_of(lengths);
      tape.backward(back, tensor(g, {layout.total(), 3}));
      EXPECT_EQ(tape.grad(leaf).to_host(), g) << text_of(lengths);
    }
  }
}

TEST_P(Sequences, SumSpreadAndLastMatchLoopsWithTheirGradients) {
  for (const auto& lengths : kLengths) {
    for (const int64_t cols : {1, 3}) {
      const SequenceLayout layout(lengths, device());
      const auto batch = static_cast<int64_t>(lengths.size());
      const auto x = random_normals(layout.total() * cols, 1);
      const auto g = random_normals(batch * cols, 2);
      Reals sums(static_cast<std::size_t>(batch * cols));
      std::vector<float> lasts(static_cast<std::size_t>(batch * cols)), spread, last_gradient;
      std::size_t at = 0;
      for (int64_t b = 0; b < batch; ++b) {
        const int64_t n = lengths[static_cast<std::size_t>(b)];
        for (int64_t t = 0; t < n; ++t) {
          for (int64_t c = 0; c < cols; ++c, ++at) {
            const auto i = static_cast<std::size_t>(b * cols + c);
            sums[i] += x[at];
            lasts[i] = x[at];
            spread.push_back(g[i]);
            last_gradient.push_back(t == n - 1 ? g[i] : 0.0f);
          }
        }
      }
      Tape by_sum;
      const Variable leaf = by_sum.watch(tensor(x, {layout.total(), cols}));
      const Variable y = sequence_sum(pack(leaf, layout), layout);
      expect_close(y.value().to_host(), sums, kSequenceSumError, text_of(lengths));
      by_sum.backward(y, tensor(g, {batch, cols}));
      EXPECT_EQ(by_sum.grad(leaf).to_host(), spread) << text_of(lengths);

      Tape by_last;
      const Variable last_leaf = by_last.watch(tensor(x, {layout.total(), cols}));
      const Variable last = sequence_last(pack(last_leaf, layout), layout);
      EXPECT_EQ(last.value().to_host(), lasts) << text_of(lengths);
      by_last.backward(last, tensor(g, {batch, cols}));
      EXPECT_EQ(by_last.grad(last_leaf).to_host(), last_gradient) << text_of(lengths);

      Tape by_spread;
      const Variable each = by_spread.watch(tensor(g, {batch, cols}));
      const Variable everywhere = unpack(sequence_spread(each, layout), layout);
      EXPECT_EQ(everywhere.value().to_host(), spread) << text_of(lengths);
      by_spread.backward(everywhere, tensor(x, {layout.total(), cols}));
      expect_close(by_spread.grad(each).to_host(), sums, kSequenceSumError, text_of(lengths));
    }
  }
}

TEST_P(Sequences, SumsOfManySequencesCrossBlockAndStretchEdges) {
  std::vector<int64_t> lengths;
  for (int64_t b = 0; b < 1500; ++b) lengths.push_back(b * 7 % 5);
  const SequenceLayout layout(lengths, device());
  const auto ones = Tensor<float>::full({layout.total()}, 1.0f, device());
  const auto y = sequence_sum(ones, layout).value().to_host();
  for (std::size_t b = 0; b < lengths.size(); ++b) ASSERT_EQ(y[b], static_cast<float>(lengths[b])) << "b = " << b;
}

TEST_P(Sequences, RefusesWhatDoesNotFit) {
  EXPECT_THROW(SequenceLayout({1, -1}, device()), ArgumentError);
  EXPECT_THROW(SequenceLayout({int64_t{1} << 30, int64_t{1} << 30}, device()), ArgumentError);
  const SequenceLayout layout({2, 1}, device());
  try {
    pack(Tensor<float>::zeros({4, 2}, device()), layout);
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "pack: values has shape (4, 2); (T, ...) with T = 3 is needed");
  }
  EXPECT_THROW(sequence_sum(Tensor<float>::zeros({2}, device()), layout), ShapeError);
  EXPECT_THROW(sequence_spread(Tensor<float>::zeros({3}, device()), layout), ShapeError);
  EXPECT_THROW(unpack(Tensor<float>::zeros({3}, Stream::create(device())), layout), DeviceError);
}

DGM_ON_EVERY_DEVICE(Sequences);

}  // namespace
}  // namespace dgm::test
