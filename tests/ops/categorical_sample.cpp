// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/categorical_sample.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class CategoricalSample : public OnEveryDevice {
 protected:
  std::vector<int32_t> sample(const std::vector<float>& logits, int64_t cols, int64_t samples, int64_t step = 0) {
    const auto rows = static_cast<int64_t>(logits.size()) / cols;
    Draws draws(99, device());
    draws.set_step(step);
    return categorical_sample(Tensor<float>::from(logits, {rows, cols}, device()), draws.at(5), samples).to_host();
  }
};

TEST_P(CategoricalSample, FrequenciesAreTheProbabilities) {
  for (const int64_t cols : {2, 5, 32, 33, 70}) {
    const int64_t samples = 4000;
    const auto logits = random_normals(cols, 17);
    const auto z = sample(logits, cols, samples);
    const Real norm = test::log_sum_exp(to_reals(logits));
    std::vector<double> counts(static_cast<std::size_t>(cols));
    for (const int32_t k : z) counts.at(static_cast<std::size_t>(k)) += 1;
    for (std::size_t k = 0; k < counts.size(); ++k) {
      const auto p = static_cast<double>(std::exp(logits[k] - norm));
      EXPECT_NEAR(counts[k] / samples, p, 5 * std::sqrt(p * (1 - p) / samples) + 1e-6)
          << "K = " << cols << ", k = " << k << ": 5 standard deviations";
    }
  }
}

TEST_P(CategoricalSample, NeverDrawsAComponentOfNoWeight) {
  std::vector<float> logits(40, -kInf);
  logits[3] = 0.0f;
  logits[36] = 1.0f;
  for (const int32_t k : sample(logits, 40, 500)) EXPECT_TRUE(k == 3 || k == 36) << k;
}

TEST_P(CategoricalSample, DependsOnDatumStepAndSampleAlone) {
  const std::vector<float> row = random_normals(50, 4);
  std::vector<float> twice = row;
  twice.insert(twice.end(), row.begin(), row.end());
  const auto z = sample(twice, 50, 9);
  EXPECT_NE(std::vector<int32_t>(z.begin(), z.begin() + 9), std::vector<int32_t>(z.begin() + 9, z.end()));
  EXPECT_EQ(sample(twice, 50, 9), z);
  EXPECT_NE(sample(twice, 50, 9, 1), z);

  Draws draws(99, device());
  const auto same_datum = Tensor<int64_t>::from({1, 1}, {2}, device());
  const auto pair =
      categorical_sample(Tensor<float>::from(twice, {2, 50}, device()), draws.at(5), 9, &same_datum).to_host();
  EXPECT_EQ(std::vector<int32_t>(pair.begin(), pair.begin() + 9), std::vector<int32_t>(z.begin() + 9, z.end()));
  EXPECT_EQ(std::vector<int32_t>(pair.begin() + 9, pair.end()), std::vector<int32_t>(z.begin() + 9, z.end()));
}

TEST_P(CategoricalSample, IsTheSameOnTheCpu) {
  const auto logits = random_normals(20 * 67, 6, 3.0);
  const auto here = sample(logits, 67, 6);
  const auto there =
      categorical_sample(Tensor<float>::from(logits, {20, 67}, Device::cpu()), Draws(99, Device::cpu()).at(5), 6)
          .to_host();
  int different = 0;
  for (std::size_t i = 0; i < here.size(); ++i) different += here[i] != there[i];
  EXPECT_LE(different, 1) << "of " << here.size() << "; a uniform may fall within rounding of a boundary";
}

TEST_P(CategoricalSample, RowWithoutDistributionGivesMinusOne) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto z = sample({-kInf, -kInf, 0.0f, nan, kInf, 0.0f, 0.0f, -kInf}, 2, 3);
  EXPECT_EQ(z, (std::vector<int32_t>{-1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0}));
}

TEST_P(CategoricalSample, RefusesBadArguments) {
  const Draws draws(1, device());
  EXPECT_THROW(categorical_sample(Tensor<float>::zeros({2, 0}, device()), draws), ShapeError);
  EXPECT_THROW(categorical_sample(Tensor<float>::zeros({2}, device()), draws), ShapeError);
  EXPECT_THROW(categorical_sample(Tensor<float>::zeros({2, 2}, device()), draws, 0), ArgumentError);
  EXPECT_EQ(categorical_sample(Tensor<float>::zeros({0, 2}, device()), draws).size(), 0);
}

DGM_ON_EVERY_DEVICE(CategoricalSample);

}  // namespace
}  // namespace dgm::test
