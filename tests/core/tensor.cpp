// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/ragged.hpp>
#include <dgm/core/tensor.hpp>

#include "tests/support/devices.hpp"

namespace dgm::test {
namespace {

class Tensors : public OnEveryDevice {};

TEST_P(Tensors, GoToTheDeviceAndBackUnchanged) {
  const auto x = Tensor<float>::from({1, 2, 3, 4, 5, 6}, {2, 3}, device());
  EXPECT_EQ(x.to_host(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(x.to(Device::cpu()).to_host(), x.to_host());
  EXPECT_EQ(x.to(Stream::create(device())).to_host(), x.to_host());
}

TEST_P(Tensors, ViewsShareStorageAndClonesDoNot) {
  auto x = Tensor<int32_t>::from({1, 2, 3, 4, 5, 6}, {3, 2}, device());
  auto view = x.rows(1, 2);
  EXPECT_EQ(view.to_host(), (std::vector<int32_t>{3, 4}));
  auto copy = x.clone();
  view.copy_from(Tensor<int32_t>::from({7, 8}, {1, 2}, device()));
  EXPECT_EQ(x.reshape({6}).to_host(), (std::vector<int32_t>{1, 2, 7, 8, 5, 6}));
  EXPECT_EQ(copy.to_host(), (std::vector<int32_t>{1, 2, 3, 4, 5, 6}));
}

TEST_P(Tensors, OfNoElementsAreFine) {
  const auto x = Tensor<float>::zeros({0, 3}, device());
  EXPECT_TRUE(x.to_host().empty());
  EXPECT_EQ(x.rows(0, 0).shape(), (Shape{0, 3}));
  EXPECT_TRUE(x.clone().to_host().empty());
}

TEST_P(Tensors, RefuseWhatDoesNotFit) {
  const auto x = Tensor<float>::zeros({2, 3}, device());
  EXPECT_THROW(x.reshape({4}), ShapeError);
  EXPECT_THROW(x.rows(1, 3), ShapeError);
  EXPECT_THROW(x.rows(2, 1), ShapeError);
  EXPECT_THROW(x.item(), ShapeError);
  EXPECT_THROW(Tensor<float>::from({1, 2}, {3}, device()), ShapeError);
  EXPECT_THROW((Shape{2, -1}), ShapeError);
  EXPECT_THROW((Shape{int64_t{1} << 40, int64_t{1} << 40}), ShapeError);
}

TEST_P(Tensors, TooLargeForTheDeviceIsAnErrorAndNotACrash) {
  EXPECT_THROW(Tensor<float>::empty({int64_t{1} << 50}, device()), OutOfMemory);
  EXPECT_EQ(Tensor<float>::zeros({3}, device()).to_host(), std::vector<float>(3, 0.0f));
}

TEST_P(Tensors, FreedMemoryIsUsedAgain) {
  const Stream stream = Stream::create(device());
  { const auto warm = Tensor<float>::empty({1000}, stream); }
  const auto before = stream.memory();
  for (int i = 0; i < 10; ++i) const auto x = Tensor<float>::empty({1000}, stream);
  EXPECT_EQ(stream.memory().reserved, before.reserved);
  EXPECT_EQ(stream.memory().used, 0u);
}

DGM_ON_EVERY_DEVICE(Tensors);

class RaggedBatches : public OnEveryDevice {};

TEST_P(RaggedBatches, KeepSequencesOfAnyLength) {
  const std::vector<std::vector<int32_t>> sequences = {{1, 2, 3}, {}, {4}};
  const auto ragged = Ragged<int32_t>::from(sequences, device());
  EXPECT_EQ(ragged.batch(), 3);
  EXPECT_EQ(ragged.longest(), 3);
  EXPECT_EQ(ragged.to_host(), sequences);
  EXPECT_EQ(Ragged<int32_t>::from({}, device()).batch(), 0);
}

TEST_P(RaggedBatches, NameTheFirstBadOffset) {
  const auto values = Tensor<float>::zeros({4}, device());
  try {
    Ragged<float>(values, {0, 3, 2, 4});
    FAIL() << "no exception";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "Ragged: offsets[2] = 2 but offsets[1] = 3; offsets must not decrease");
  }
  EXPECT_THROW(Ragged<float>(values, {}), ArgumentError);
  EXPECT_THROW(Ragged<float>(values, {1, 4}), ArgumentError);
  EXPECT_THROW(Ragged<float>(values, {0, 3}), ArgumentError);
}

DGM_ON_EVERY_DEVICE(RaggedBatches);

TEST(Devices, AreNamedAndParsed) {
  EXPECT_EQ(Device::parse("cpu"), Device::cpu());
  EXPECT_EQ(Device::cpu().name(), "cpu");
  EXPECT_NO_THROW(Device::parse("auto"));
  EXPECT_THROW(Device::parse("gpu"), ArgumentError);
  EXPECT_THROW(Device::parse("cuda:x"), ArgumentError);
  EXPECT_THROW(Device::parse("cuda:999"), BackendUnavailable);
  EXPECT_EQ(Device::all().size(), 1u + static_cast<std::size_t>(cuda_device_count()));
}

}  // namespace
}  // namespace dgm::test
