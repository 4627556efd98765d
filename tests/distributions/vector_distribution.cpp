// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/distributions/vector_distribution.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
const Real kHalfLogTwoPi = std::log(2 * std::acos(Real{-1})) / 2;

class Distributions : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& values, Shape shape) const {
    return Tensor<float>::from(values, std::move(shape), device());
  }
  int64_t many() const { return on_simulated_device() ? 2000 : 200'000; }
  static constexpr int64_t kBatch = 3, kSamples = 4, kDims = 5;
  const std::vector<float> first_ = random_normals(kBatch * kDims, 1);
  const std::vector<float> second_ = random_normals(kBatch * kDims, 2, 0.4);
  const std::vector<float> third_ = random_normals(kBatch * kDims, 3);
  const std::vector<float> fourth_ = random_normals(kBatch * kDims, 4, 0.4);
  const std::vector<float> x_ = random_normals(kBatch * kSamples * kDims, 5);

  // A sum over the coordinates of each draw (B, S), of term(row-and-coordinate, draw).
  static Reals per_draw(const std::function<Real(std::size_t, std::size_t)>& term) {
    Reals result;
    for (std::size_t b = 0; b < kBatch; ++b) {
      for (std::size_t s = 0; s < kSamples; ++s) {
        Real sum = 0;
        for (std::size_t d = 0; d < kDims; ++d) sum += term(b * kDims + d, (b * kSamples + s) * kDims + d);
        result.push_back(sum);
      }
    }
    return result;
  }
  static Reals per_row(const std::function<Real(std::size_t)>& term) {
    Reals result;
    for (std::size_t b = 0; b < kBatch; ++b) {
      Real sum = 0;
      for (std::size_t d = 0; d < kDims; ++d) sum += term(b * kDims + d);
      result.push_back(sum);
    }
    return result;
  }
  static Reals per_coordinate(const std::function<Real(std::size_t)>& term) {
    Reals result;
    for (std::size_t i = 0; i < kBatch * kDims; ++i) result.push_back(term(i));
    return result;
  }
};

class Gaussians : public Distributions {
 protected:
  DiagonalGaussian gaussian() const { return {tensor(first_, {kBatch, kDims}), tensor(second_, {kBatch, kDims})}; }
};

TEST_P(Gaussians, LogProbabilityEntropyAndDivergencesMatchLongDouble) {
  const DiagonalGaussian q = gaussian();
  const DiagonalGaussian p(tensor(third_, {kBatch, kDims}), tensor(fourth_, {kBatch, kDims}));
  const auto log_normal = [&](std::size_t i, std::size_t n) {
    const Real t = (Real{x_[n]} - first_[i]) / std::exp(Real{second_[i]});
    return -t * t / 2 - second_[i] - kHalfLogTwoPi;
  };
  expect_close(q.log_prob(tensor(x_, {kBatch, kSamples, kDims})).value().to_host(), per_draw(log_normal), 3e-6,
               "log probability");
  expect_close(q.log_prob(tensor(third_, {kBatch, kDims})).value().to_host(), per_row([&](std::size_t i) {
                 const Real t = (Real{third_[i]} - first_[i]) / std::exp(Real{second_[i]});
                 return -t * t / 2 - second_[i] - kHalfLogTwoPi;
               }),
               3e-6, "log probability of a value a row");
  expect_close(q.entropy().value().to_host(),
               per_row([&](std::size_t i) { return second_[i] + kHalfLogTwoPi + Real{0.5}; }), 1e-6, "entropy");
  expect_close(q.coordinate_kl(p)->value().to_host(), per_coordinate([&](std::size_t i) {
                 const Real ratio = std::exp(Real{second_[i]} - fourth_[i]);
                 const Real gap = (Real{first_[i]} - third_[i]) / std::exp(Real{fourth_[i]});
                 return fourth_[i] - second_[i] + (ratio * ratio + gap * gap - 1) / 2;
               }),
               3e-6, "divergence");
  const DiagonalGaussian standard = DiagonalGaussian::standard(kBatch, kDims, device());
  expect_close(q.coordinate_kl(standard)->value().to_host(), per_coordinate([&](std::size_t i) {
                 return (std::exp(Real{2} * second_[i]) + Real{first_[i]} * first_[i] - 1) / 2 - second_[i];
               }),
               3e-6, "divergence from the standard normal");
  expect_close(standard.log_prob(tensor(third_, {kBatch, kDims})).value().to_host(),
               per_row([&](std::size_t i) { return -Real{third_[i]} * third_[i] / 2 - kHalfLogTwoPi; }), 3e-6,
               "standard log probability");
  EXPECT_EQ(q.mode().to_host(), first_);
  EXPECT_FALSE(q.coordinate_kl(BernoulliVector(tensor(first_, {kBatch, kDims}))).has_value());
  EXPECT_TRUE(q.continuous());
  EXPECT_TRUE(q.reparameterised());
}

TEST_P(Gaussians, DistributionFunctionAndQuantilesAreInverse) {
  const DiagonalGaussian q = gaussian();
  expect_close(q.log_cdf(tensor(x_, {kBatch, kSamples, kDims})).value().to_host(),
               per_draw([&](std::size_t i, std::size_t n) {
                 const Real t = (Real{x_[n]} - first_[i]) / std::exp(Real{second_[i]});
                 return std::log(std::erfc(-t / std::sqrt(Real{2})) / 2);
               }),
               3e-6, "log cdf");
  // Of one coordinate, for tails from 1e-30 to 1 - 1e-6.
  const DiagonalGaussian one(tensor({0.4f, -3}, {2, 1}), tensor({-0.3f, 1.1f}, {2, 1}));
  for (const double p : {1e-30, 1e-9, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-6}) {
    const Variable x = one.quantile(p);
    for (const float log_p : one.log_cdf(x).value().to_host()) {
      EXPECT_NEAR(log_p, std::log(p), 4e-6 * std::max(1.0, std::abs(std::log(p)))) << p;
    }
  }
  EXPECT_NEAR(DiagonalGaussian::standard(1, 1, device()).quantile(0.975).value().item(), 1.959963984540054, 3e-7);
  EXPECT_EQ(one.quantile(0.5).value().to_host(), (std::vector<float>{0.4f, -3}));
  EXPECT_EQ(one.quantile(0).value().to_host(), (std::vector<float>{-kInf, -kInf}));
  EXPECT_EQ(one.quantile(1).value().to_host(), (std::vector<float>{kInf, kInf}));
  EXPECT_THROW(one.quantile(-0.1), ArgumentError);
  EXPECT_THROW(one.quantile(NAN), ArgumentError);
}

TEST_P(Gaussians, DrawsHaveItsMomentsAndEntropy) {
  const DiagonalGaussian q(tensor({0.5f, -2}, {1, 2}), tensor({-0.4f, 0.7f}, {1, 2}));
  const int64_t n = many();
  const Variable z = q.sample(Draws(3, device()), n);
  ASSERT_EQ(z.shape(), (Shape{1, n, 2}));
  const auto host = z.value().to_host();
  const double means[2] = {0.5, -2}, scales[2] = {std::exp(-0.4), std::exp(0.7)};
  for (std::size_t d = 0; d < 2; ++d) {
    double mean = 0, square = 0;
    for (std::size_t i = d; i < host.size(); i += 2) {
      const double e = (host[i] - means[d]) / scales[d];
      mean += e / static_cast<double>(n);
      square += e * e / static_cast<double>(n);
    }
    EXPECT_NEAR(mean, 0, 4 / std::sqrt(static_cast<double>(n)));
    EXPECT_NEAR(square, 1, 4 * std::sqrt(2 / static_cast<double>(n)));
  }
  // -E log q(z) is the entropy; the variance of a term is 1/2.
  const double surprise = -dgm::mean(q.log_prob(z)).value().item();
  EXPECT_NEAR(surprise, q.entropy().value().item(), 4 / std::sqrt(static_cast<double>(n)));
}

TEST_P(Gaussians, GradientsReachTheParametersUnlessDetached) {
  Tape tape;
  const Variable mean = tape.watch(tensor(first_, {kBatch, kDims}));
  const Variable log_scale = tape.watch(tensor(second_, {kBatch, kDims}));
  const Variable x = tape.watch(tensor(x_, {kBatch, kSamples, kDims}));
  const DiagonalGaussian q(mean, log_scale);
  const auto held = q.detach();
  EXPECT_FALSE(held->entropy().requires_grad());
  EXPECT_FALSE(held->sample(Draws(1, device()), 2).requires_grad());
  EXPECT_TRUE(q.sample(Draws(1, device()), 2).requires_grad());
  EXPECT_EQ(held->log_prob(x).value().to_host(), q.log_prob(x).value().to_host());
  // By x through the detached one, by the parameters through the entropy and the quantile.
  tape.backward(sum(held->log_prob(x)) + sum(q.entropy()) * 2.0f + sum(q.quantile(0.9)));
  Reals to_x;
  for (std::size_t n = 0; n < x_.size(); ++n) {
    const std::size_t i = n / (kSamples * kDims) * kDims + n % kDims;
    to_x.push_back(-(Real{x_[n]} - first_[i]) * std::exp(Real{-2} * second_[i]));
  }
  expect_close(tape.grad(x).to_host(), to_x, 3e-6, "gradient by x");
  expect_close(tape.grad(mean).to_host(), per_coordinate([](std::size_t) { return Real{1}; }), 1e-6, "by the mean");
  expect_close(tape.grad(log_scale).to_host(), per_coordinate([&](std::size_t i) {
                 return 2 + std::exp(Real{second_[i]}) * Real{1.2815515655446004L};
               }),
               1e-6, "by the log scale");
}

class Bits : public Distributions {
 protected:
  static Real softplus(Real x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
  static Real probability(Real logit) { return 1 / (1 + std::exp(-logit)); }
};

TEST_P(Bits, LogProbabilityEntropyAndDivergencesMatchLongDouble) {
  const BernoulliVector q(tensor(first_, {kBatch, kDims}));
  std::vector<float> bits;
  for (const float x : x_) bits.push_back(x > 0 ? 1.0f : 0.0f);
  const auto log_mass = [](Real bit, Real logit) { return bit > 0 ? -softplus(-logit) : -softplus(logit); };
  expect_close(q.log_prob(tensor(bits, {kBatch, kSamples, kDims})).value().to_host(),
               per_draw([&](std::size_t i, std::size_t n) { return log_mass(bits[n], first_[i]); }), 3e-6,
               "log probability");
  expect_close(q.log_cdf(tensor(bits, {kBatch, kSamples, kDims})).value().to_host(),
               per_draw([&](std::size_t i, std::size_t n) { return bits[n] > 0 ? Real{0} : -softplus(first_[i]); }),
               3e-6, "log cdf");
  const auto entropy = [&](std::size_t i) {
    const Real p = probability(first_[i]);
    return -p * std::log(p) - (1 - p) * std::log(1 - p);
  };
  expect_close(q.entropy().value().to_host(), per_row(entropy), 3e-6, "entropy");
  expect_close(q.coordinate_kl(BernoulliVector(tensor(third_, {kBatch, kDims})))->value().to_host(),
               per_coordinate([&](std::size_t i) {
                 const Real p = probability(first_[i]);
                 return p * log_mass(1, first_[i]) + (1 - p) * log_mass(0, first_[i]) - p * log_mass(1, third_[i]) -
                        (1 - p) * log_mass(0, third_[i]);
               }),
               3e-6, "divergence");
  const auto modes = q.mode().to_host();
  for (std::size_t i = 0; i < modes.size(); ++i) EXPECT_EQ(modes[i], first_[i] > 0 ? 1 : 0);
  EXPECT_FALSE(q.continuous());
  EXPECT_FALSE(q.coordinate_kl(DiagonalGaussian::standard(kBatch, kDims, device())).has_value());
}

TEST_P(Bits, CertainBitsHaveNoEntropyAndDrawThemselves) {
  const BernoulliVector q(tensor({kInf, -kInf, 0}, {1, 3}));
  EXPECT_EQ(q.mode().to_host(), (std::vector<float>{1, 0, 0}));
  EXPECT_NEAR(q.entropy().value().item(), std::log(2.0), 1e-6);
  const auto z = q.sample(Draws(4, device()), 50).value().to_host();
  for (std::size_t i = 0; i < z.size(); i += 3) {
    EXPECT_EQ(z[i], 1);
    EXPECT_EQ(z[i + 1], 0);
  }
  const auto log_p = q.log_prob(tensor({1, 0, 1, 0, 0, 1}, {1, 2, 3})).value().to_host();
  EXPECT_NEAR(log_p[0], -std::log(2.0), 1e-6);
  EXPECT_EQ(log_p[1], -kInf);
  // The least of logits still has its sign.
  EXPECT_EQ(BernoulliVector(tensor({1e-37f, -1e-37f}, {1, 2})).mode().to_host(), (std::vector<float>{1, 0}));
}

TEST_P(Bits, DrawsHaveItsProbabilities) {
  const std::vector<float> logits = {-3, -0.2f, 0, 1.5f};
  const BernoulliVector q(tensor(logits, {1, 4}));
  const int64_t n = many();
  const auto z = q.sample(Draws(5, device()), n).value().to_host();
  for (std::size_t d = 0; d < 4; ++d) {
    double mean = 0;
    for (std::size_t i = d; i < z.size(); i += 4) mean += z[i] / static_cast<double>(n);
    const auto p = static_cast<double>(probability(logits[d]));
    EXPECT_NEAR(mean, p, 4 * std::sqrt(p * (1 - p) / static_cast<double>(n)));
  }
}

TEST_P(Distributions, RefuseShapesThatDoNotFit) {
  const auto zeros = [&](Shape shape) { return Tensor<float>::zeros(std::move(shape), device()); };
  EXPECT_THROW(DiagonalGaussian(zeros({3}), zeros({3})), ShapeError);
  EXPECT_THROW(DiagonalGaussian(zeros({2, 3}), zeros({2, 4})), ShapeError);
  EXPECT_THROW(BernoulliVector(zeros({2})), ShapeError);
  const DiagonalGaussian q(zeros({2, 3}), zeros({2, 3}));
  EXPECT_THROW(q.log_prob(zeros({2, 4})), ShapeError);
  EXPECT_THROW(q.sample(Draws(1, device()), 0), ArgumentError);
  EXPECT_EQ(DiagonalGaussian(zeros({0, 3}), zeros({0, 3})).entropy().value().size(), 0);
}

DGM_ON_EVERY_DEVICE(Distributions);
DGM_ON_EVERY_DEVICE(Gaussians);
DGM_ON_EVERY_DEVICE(Bits);

}  // namespace
}  // namespace dgm::test
