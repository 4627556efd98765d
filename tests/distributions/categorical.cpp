// SPDX-License-Identifier: Apache-2.0
#include <dgm/distributions/categorical.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class Categoricals : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& values, Shape shape) const {
    return Tensor<float>::from(values, std::move(shape), device());
  }
  Tensor<int32_t> integers(const std::vector<int32_t>& values, Shape shape) const {
    return Tensor<int32_t>::from(values, std::move(shape), device());
  }
  static constexpr int64_t kBatch = 3, kValues = 37;
  const std::vector<float> logits_ = random_normals(kBatch * kValues, 1, 2);
  const std::vector<float> others_ = random_normals(kBatch * kValues, 2, 2);
  // log softmax of a row.
  static Reals normalised(const std::vector<float>& logits, std::size_t row) {
    Reals values(logits.begin() + static_cast<std::ptrdiff_t>(row * kValues),
                 logits.begin() + static_cast<std::ptrdiff_t>((row + 1) * kValues));
    const Real total = log_sum_exp(values);
    for (Real& value : values) value -= total;
    return values;
  }
};

TEST_P(Categoricals, LogProbabilityEntropyDivergenceCdfAndModeMatchLongDouble) {
  const Categorical q(tensor(logits_, {kBatch, kValues}));
  const Categorical p(tensor(others_, {kBatch, kValues}));
  const std::vector<int32_t> z = {0, 36, 5, 7, 7, 20, 36, 1, 18};
  Reals log_mass, entropy, divergence, below;
  std::vector<int32_t> modes;
  for (std::size_t b = 0; b < kBatch; ++b) {
    const Reals own = normalised(logits_, b), other = normalised(others_, b);
    for (std::size_t i = 3 * b; i < 3 * b + 3; ++i) {
      log_mass.push_back(own[static_cast<std::size_t>(z[i])]);
      Real sum = 0;
      for (std::size_t k = 0; k <= static_cast<std::size_t>(z[i]); ++k) sum += std::exp(own[k]);
      below.push_back(sum);
    }
    entropy.push_back(0), divergence.push_back(0);
    for (std::size_t k = 0; k < kValues; ++k) {
      entropy.back() -= std::exp(own[k]) * own[k];
      divergence.back() += std::exp(own[k]) * (own[k] - other[k]);
    }
    modes.push_back(static_cast<int32_t>(std::max_element(own.begin(), own.end()) - own.begin()));
  }
  expect_close(q.log_prob(integers(z, {3, 3})).value().to_host(), log_mass, 1e-6, "log probability");
  expect_close(q.entropy().value().to_host(), entropy, 3e-6, "entropy");
  expect_close(q.kl(p).value().to_host(), divergence, 5e-6, "divergence");
  expect_close(q.cdf(integers(z, {3, 3})).to_host(), below, 1e-6, "cdf");
  EXPECT_EQ(q.mode().to_host(), modes);
}

TEST_P(Categoricals, ValuesWithoutProbabilityAndRowsWithoutADistribution) {
  const Categorical q(tensor({-kInf, 0, 0, -kInf, -kInf, -kInf, -kInf, -kInf}, {2, 4}));
  EXPECT_EQ(q.log_prob(integers({0, 3, 1, 1}, {2, 2})).value().to_host()[0], -kInf);
  EXPECT_NEAR(q.entropy().value().to_host()[0], std::log(2.0), 1e-6);
  EXPECT_EQ(q.entropy().value().to_host()[1], 0);
  EXPECT_EQ(q.log_prob(integers({0, 3, 1, 1}, {2, 2})).value().to_host()[2], -kInf);
  EXPECT_EQ(q.kl(q).value().to_host()[1], 0);
  EXPECT_EQ(q.mode().to_host(), (std::vector<int32_t>{1, -1}));
  const auto below = q.cdf(integers({-1, 0, 1, 2, 3, 9, -1, 0, 1, 2, 3, 9}, {2, 6})).to_host();
  EXPECT_EQ(std::vector<float>(below.begin(), below.begin() + 6), (std::vector<float>{0, 0, 0.5f, 1, 1, 1}));
  for (std::size_t i = 6; i < 12; ++i) EXPECT_TRUE(std::isnan(below[i]));
  const auto z = q.sample(Draws(1, device()), 40).to_host();
  for (std::size_t i = 0; i < 40; ++i) EXPECT_TRUE(z[i] == 1 || z[i] == 2);
  for (std::size_t i = 40; i < 80; ++i) EXPECT_EQ(z[i], -1);
  // Divergence from one that excludes what this has.
  const Categorical narrow(tensor({-kInf, 0, -kInf, -kInf, 0, 0, 0, 0}, {2, 4}));
  EXPECT_EQ(q.kl(narrow).value().to_host()[0], kInf);
  EXPECT_NEAR(narrow.kl(q).value().to_host()[0], std::log(2.0), 1e-6);
}

TEST_P(Categoricals, DrawsHaveItsProbabilities) {
  const std::vector<float> logits = {0.5f, -kInf, 2, -1, 0};
  const Categorical q(tensor(logits, {1, 5}));
  const int64_t n = on_simulated_device() ? 2000 : 200'000;
  std::vector<double> counts(5);
  for (const int32_t z : q.sample(Draws(2, device()), n).to_host()) counts.at(static_cast<std::size_t>(z)) += 1;
  const auto log_p = q.log_probabilities().value().to_host();
  for (std::size_t k = 0; k < 5; ++k) {
    const double p = std::exp(double{log_p[k]});
    EXPECT_NEAR(counts[k] / static_cast<double>(n), p, 4 * std::sqrt(p * (1 - p) / static_cast<double>(n))) << k;
  }
}

TEST_P(Categoricals, GradientsReachTheLogits) {
  Tape tape;
  const Variable logits = tape.watch(tensor({1, 2, 0.5f}, {1, 3}));
  const Categorical q(logits);
  tape.backward(sum(q.log_prob(integers({2}, {1, 1}))));
  Reals p = {1, 2, 0.5};
  const Real total = log_sum_exp(p);
  for (Real& value : p) value = std::exp(value - total);
  expect_close(tape.grad(logits).to_host(), {-p[0], -p[1], 1 - p[2]}, 1e-6, "gradient");
}

TEST_P(Categoricals, RefuseShapesThatDoNotFit) {
  EXPECT_THROW(Categorical(Tensor<float>::zeros({3}, device())), ShapeError);
  EXPECT_THROW(Categorical(Tensor<float>::zeros({3, 0}, device())), ShapeError);
  const Categorical q(Tensor<float>::zeros({3, 2}, device()));
  EXPECT_THROW(q.log_prob(integers({0, 0}, {2, 1})), ShapeError);
  EXPECT_THROW(q.cdf(integers({0, 0}, {2, 1})), ShapeError);
  EXPECT_THROW(q.sample(Draws(1, device()), 0), ArgumentError);
}

DGM_ON_EVERY_DEVICE(Categoricals);

}  // namespace
}  // namespace dgm::test
