// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/embedding.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

namespace dgm::test {
namespace {

class Embeddings : public OnEveryDevice {
 protected:
  void expect_right(int64_t vocabulary, int64_t dims, const std::vector<int32_t>& ids, const std::string& what) {
    const auto count = static_cast<int64_t>(ids.size());
    const auto table = random_normals(vocabulary * dims, 1);
    const auto g = random_normals(count * dims, 2);
    Tape tape;
    const Variable leaf = tape.watch(Tensor<float>::from(table, {vocabulary, dims}, device()));
    const Variable y = embedding(leaf, Tensor<int32_t>::from(ids, {count}, device()));
    ASSERT_EQ(y.shape(), (Shape{count, dims})) << what;
    tape.backward(y, Tensor<float>::from(g, {count, dims}, device()));
    const auto got = y.value().to_host();
    const auto gradient = tape.grad(leaf).to_host();

    Reals wanted(table.size(), 0);
    Reals absolute(table.size(), 0);
    for (int64_t n = 0; n < count; ++n) {
      const int64_t id = ids[static_cast<std::size_t>(n)];
      for (int64_t c = 0; c < dims; ++c) {
        const auto at = static_cast<std::size_t>(n * dims + c);
        if (id < 0 || id >= vocabulary) {
          ASSERT_EQ(got[at], 0.0f) << what << ": id " << id;
          continue;
        }
        const auto from = static_cast<std::size_t>(id * dims + c);
        ASSERT_EQ(got[at], table[from]) << what << ": place " << n << ", id " << id;
        wanted[from] += g[at];
        absolute[from] += std::abs(g[at]);
      }
    }
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_LE(std::abs(gradient[i] - wanted[i]), kEmbeddingError * std::abs(wanted[i]) + 1e-12L * absolute[i])
          << what << ": gradient of element " << i << " is " << gradient[i] << ", wanted "
          << static_cast<double>(wanted[i]);
    }
  }
  // Many of the first rows, few of the last, as words are.
  static std::vector<int32_t> skewed_ids(int64_t count, int64_t vocabulary, uint64_t seed) {
    std::mt19937_64 generator(seed);
    std::uniform_real_distribution<double> uniform;
    std::vector<int32_t> ids;
    for (int64_t n = 0; n < count; ++n) {
      ids.push_back(static_cast<int32_t>(std::pow(uniform(generator), 3) * static_cast<double>(vocabulary)));
    }
    return ids;
  }
};

TEST_P(Embeddings, MatchTheReferenceAtEveryTileEdge) {
  for (const int64_t count : {1, 2, 3, 31, 257, 1000, 2047, 2048, 2049, 5000}) {
    expect_right(97, 5, skewed_ids(count, 97, static_cast<uint64_t>(count)), "N = " + std::to_string(count));
  }
  for (const int64_t dims : {1, 31, 32, 33, 130}) {
    expect_right(50, dims, skewed_ids(300, 50, 3), "D = " + std::to_string(dims));
  }
}

TEST_P(Embeddings, ARowUsedEverywhereGetsTheWholeSum) { expect_right(3, 40, std::vector<int32_t>(3001, 1), "one id"); }

TEST_P(Embeddings, RowsNeverUsedGetAZeroGradient) { expect_right(5000, 3, {4999, 0, 17}, "few ids"); }

TEST_P(Embeddings, IdsThatAreNoRowsGiveZerosAndTakeNoGradient) {
  expect_right(4, 6, {-1, 0, 4, 3, 2147483647, -2147483647 - 1, 3}, "outside");
  expect_right(4, 6, {-1, -1}, "nothing inside");
}

TEST_P(Embeddings, KeepTheShapeOfTheIds) {
  const auto table = Tensor<float>::full({3, 4}, 1.0f, device());
  EXPECT_EQ(embedding(table, Tensor<int32_t>::zeros({2, 5}, device())).shape(), (Shape{2, 5, 4}));
  EXPECT_EQ(embedding(table, Tensor<int32_t>::zeros({}, device())).shape(), (Shape{4}));
  EXPECT_EQ(embedding(table, Tensor<int32_t>::zeros({0}, device())).shape(), (Shape{0, 4}));
}

TEST_P(Embeddings, AnEmptyBatchGivesAZeroGradient) {
  Tape tape;
  const Variable leaf = tape.watch(Tensor<float>::full({3, 2}, 1.0f, device()));
  const Variable y = embedding(leaf, Tensor<int32_t>::zeros({0}, device()));
  tape.backward(y, Tensor<float>::zeros({0, 2}, device()));
  EXPECT_EQ(tape.grad(leaf).to_host(), std::vector<float>(6, 0.0f));
}

TEST_P(Embeddings, CheckIdsNamesTheFirstThatIsOutside) {
  check_ids(Tensor<int32_t>::from({0, 2}, {2}, device()), 3);
  try {
    check_ids(Tensor<int32_t>::from({0, 3, -1}, {3}, device()), 3);
    FAIL() << "no exception";
  } catch (const ArgumentError& error) {
    EXPECT_STREQ(error.what(), "check_ids: ids[1] = 3; 0 <= id < 3 is needed");
  }
}

TEST_P(Embeddings, RefuseATableThatIsNoMatrix) {
  const auto ids = Tensor<int32_t>::zeros({2}, device());
  EXPECT_THROW(embedding(Tensor<float>::zeros({4}, device()), ids), ShapeError);
  EXPECT_THROW(embedding(Tensor<float>::zeros({4, 2}, Stream::create(device())), ids), DeviceError);
}

DGM_ON_EVERY_DEVICE(Embeddings);

}  // namespace
}  // namespace dgm::test
