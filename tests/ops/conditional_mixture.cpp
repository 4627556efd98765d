// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/conditional_mixture.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/mixture_case.hpp"
#include "tests/support/reference.hpp"

#include <array>
#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

using Case = MixtureCase;

Case make_case(int64_t n, int64_t k, int64_t d, uint64_t seed) {
  return {n,
          k,
          d,
          random_normals(n * d, seed, 1.5),
          random_normals(n * k, seed + 1, 1.5),
          random_normals(n * k * d, seed + 2, 1.0),
          random_normals(n * k * d, seed + 3, 0.5)};
}

struct Reference {
  int64_t n;
  int64_t k;
  int64_t d;
  Reals p;

  Reference(const Case& c, Reals parameters) : n(c.n), k(c.k), d(c.d), p(std::move(parameters)) {}
  explicit Reference(const Case& c) : Reference(c, c.all()) {}

  Real logit(int64_t row, int64_t m) const { return p[at(n * d + row * k + m)]; }
  Real mean(int64_t row, int64_t m, int64_t i) const { return p[at(n * d + n * k + (row * k + m) * d + i)]; }
  Real log_scale(int64_t row, int64_t m, int64_t i) const {
    return p[at(n * d + n * k + n * k * d + (row * k + m) * d + i)];
  }
  Real t(int64_t row, int64_t m, int64_t i) const {
    return (p[at(row * d + i)] - mean(row, m, i)) / std::exp(log_scale(row, m, i));
  }
  Real log_weight(int64_t row, int64_t m) const {
    Reals logits;
    for (int64_t j = 0; j < k; ++j) logits.push_back(logit(row, j));
    return logit(row, m) - test::log_sum_exp(logits);
  }
  Real log_joint(int64_t row, int64_t m) const {
    if (logit(row, m) == -INFINITY) return -INFINITY;
    Real sum = log_weight(row, m);
    for (int64_t i = 0; i < d; ++i) {
      const Real residual = t(row, m, i);
      sum -= residual * residual / 2 + log_scale(row, m, i) + std::log(2 * std::acos(-1.0L)) / 2;
    }
    return sum;
  }
  Real log_marginal(int64_t row) const {
    Reals joints;
    for (int64_t m = 0; m < k; ++m) joints.push_back(log_joint(row, m));
    return test::log_sum_exp(joints);
  }
  Real responsibility(int64_t row, int64_t m) const { return std::exp(log_joint(row, m) - log_marginal(row)); }
  // max(D, |y|, C) of the header.
  Real magnitude(int64_t row) const {
    Real largest = std::max(static_cast<Real>(d), std::abs(log_marginal(row)));
    for (int64_t m = 0; m < k; ++m) {
      if (logit(row, m) == -INFINITY) continue;
      Real sum = std::abs(log_weight(row, m));
      for (int64_t i = 0; i < d; ++i) sum += std::abs(log_scale(row, m, i));
      largest = std::max(largest, sum);
    }
    return largest;
  }
};

class ConditionalMixture : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& values, Shape shape) const {
    return Tensor<float>::from(values, std::move(shape), device());
  }
  Tensor<float> x(const Case& c) const { return tensor(c.x, {c.n, c.d}); }
  Tensor<float> logits(const Case& c) const { return tensor(c.logits, {c.n, c.k}); }
  Tensor<float> mean(const Case& c) const { return tensor(c.mean, {c.n, c.k, c.d}); }
  Tensor<float> log_scale(const Case& c) const { return tensor(c.scale, {c.n, c.k, c.d}); }

  std::vector<float> log_marginal(const Case& c) const {
    return conditional_mixture_log_marginal(x(c), logits(c), mean(c), log_scale(c)).value().to_host();
  }
  // x, logits, mean, log_scale.
  std::array<std::vector<float>, 4> gradients(const Case& c, const std::vector<float>& g) const {
    Tape tape;
    const Variable leaves[4] = {tape.watch(x(c)), tape.watch(logits(c)), tape.watch(mean(c)), tape.watch(log_scale(c))};
    tape.backward(conditional_mixture_log_marginal(leaves[0], leaves[1], leaves[2], leaves[3]), tensor(g, {c.n}));
    return {tape.grad(leaves[0]).to_host(), tape.grad(leaves[1]).to_host(), tape.grad(leaves[2]).to_host(),
            tape.grad(leaves[3]).to_host()};
  }
  std::vector<int32_t> posterior(const Case& c, const Draws& draws, int64_t samples,
                                 const Tensor<int64_t>* data = nullptr) const {
    return conditional_mixture_sample_posterior(x(c), logits(c), mean(c), log_scale(c), draws, samples, data).to_host();
  }

  void expect_log_marginal(const Case& c) const {
    const auto got = log_marginal(c);
    const Reference reference(c);
    ASSERT_EQ(got.size(), at(c.n));
    for (int64_t row = 0; row < c.n; ++row) {
      const auto wanted = static_cast<double>(reference.log_marginal(row));
      const double bound = kConditionalMixtureError * static_cast<double>(reference.magnitude(row));
      ASSERT_NEAR(got[at(row)], wanted, bound) << c.str() << ", row " << row;
    }
  }
};

TEST_P(ConditionalMixture, MatchesTheReferenceAtEveryTeamAndVectorEdge) {
  for (const int64_t k : {1, 3, 4, 5, 8, 9, 16, 17, 32, 33, 70}) {
    for (const int64_t d : {1, 2, 3, 7}) expect_log_marginal(make_case(9, k, d, static_cast<uint64_t>(k * 10 + d)));
  }
}

TEST_P(ConditionalMixture, MatchesTheReferenceOverManyRowsAndDimensions) {
  expect_log_marginal(make_case(2111, 5, 1, 1));
  expect_log_marginal(make_case(3, 2, 300, 2));
}

TEST_P(ConditionalMixture, GradientsAgreeWithCentralDifferencesOfTheReference) {
  for (const auto& shape : {std::array<int64_t, 3>{3, 1, 1}, {3, 5, 1}, {5, 3, 2}, {2, 18, 3}, {2, 3, 17}}) {
    const int64_t n = shape[0], k = shape[1], d = shape[2];
    const Case c = make_case(n, k, d, 40 + static_cast<uint64_t>(k));
    const auto g = random_normals(n, 5);
    const Reals differences = central_differences(
        [&](const Reals& p) {
          const Reference reference(c, p);
          Real sum = 0;
          for (int64_t row = 0; row < n; ++row) sum += g[at(row)] * reference.log_marginal(row);
          return sum;
        },
        c.all());
    const auto got = gradients(c, g);

    // The terms' sizes, with the error of the log joints and as much from rounding.
    const Reference reference(c);
    std::array<Reals, 4> scale = {Reals(at(n * d)), Reals(at(n * k)), Reals(at(n * k * d)), Reals(at(n * k * d))};
    for (int64_t row = 0; row < n; ++row) {
      for (int64_t m = 0; m < k; ++m) {
        const Real r = reference.responsibility(row, m);
        const Real size = std::abs(g[at(row)]) * 2 * reference.magnitude(row);
        scale[1][at(row * k + m)] = size * (r + std::exp(reference.log_weight(row, m)));
        for (int64_t i = 0; i < d; ++i) {
          const Real t = reference.t(row, m, i);
          const Real term = size * r * std::max<Real>(1, t * t);
          const Real inverse = std::exp(-reference.log_scale(row, m, i));
          scale[3][at((row * k + m) * d + i)] = term;
          scale[2][at((row * k + m) * d + i)] = term * inverse;
          scale[0][at(row * d + i)] += term * inverse;
        }
      }
    }
    std::size_t offset = 0;
    const char* const names[4] = {"x", "logits", "mean", "log_scale"};
    for (std::size_t part = 0; part < 4; ++part) {
      for (std::size_t i = 0; i < got[part].size(); ++i) {
        EXPECT_NEAR(got[part][i], static_cast<double>(differences[offset + i]),
                    kConditionalMixtureError * static_cast<double>(scale[part][i]) + 1e-11)
            << "gradient of " << names[part] << ", " << c.str() << ", element " << i;
      }
      offset += got[part].size();
    }
  }
}

TEST_P(ConditionalMixture, EachGradientAloneIsTheSameAsAmongAll) {
  const Case c = make_case(11, 4, 3, 9);
  const auto g = random_normals(c.n, 5);
  const auto all = gradients(c, g);
  for (std::size_t part = 0; part < 4; ++part) {
    Tape tape;
    Variable inputs[4] = {x(c), logits(c), mean(c), log_scale(c)};
    inputs[part] = tape.watch(inputs[part].value());
    tape.backward(conditional_mixture_log_marginal(inputs[0], inputs[1], inputs[2], inputs[3]), tensor(g, {c.n}));
    EXPECT_EQ(tape.grad(inputs[part]).to_host(), all[part]) << "input " << part;
  }
}

TEST_P(ConditionalMixture, AComponentOfNoWeightIsHarmlessWhateverItsParameters) {
  Case c = make_case(3, 3, 2, 6);
  c.logits[1] = -kInf;
  for (const std::size_t i : {2, 3}) c.mean[i] = kNaN, c.scale[i] = kInf;
  Case without = c;  // row 0 alone, with its other two components
  without.n = 1;
  without.k = 2;
  without.x.resize(2);
  without.logits = {c.logits[0], c.logits[2]};
  without.mean = {c.mean[0], c.mean[1], c.mean[4], c.mean[5]};
  without.scale = {c.scale[0], c.scale[1], c.scale[4], c.scale[5]};
  EXPECT_NEAR(log_marginal(c)[0], log_marginal(without)[0], 1e-5);
  const auto d = gradients(c, {1.0f, 1.0f, 1.0f});
  EXPECT_EQ(d[1][1], 0.0f);
  for (const std::size_t i : {2, 3}) {
    EXPECT_EQ(d[2][i], 0.0f);
    EXPECT_EQ(d[3][i], 0.0f);
  }
  for (const auto& part : d) {
    for (const float value : part) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_P(ConditionalMixture, OddRowsGiveWhatTheHeaderSaysAndLeaveTheOthersAlone) {
  const Case clean = make_case(8, 3, 2, 16);
  Case c = clean;
  c.x[2] = kNaN;                                          // row 1
  c.x[5] = kInf;                                          // row 2
  c.x[6] = 1e30f;                                         // row 3: its squared distance overflows
  for (int i = 12; i < 15; ++i) c.logits[at(i)] = -kInf;  // row 4
  const auto y = log_marginal(c);
  EXPECT_TRUE(std::isnan(y[1]));
  for (const std::size_t row : {2, 3, 4}) EXPECT_EQ(y[row], -kInf) << "row " << row;
  const auto expected = log_marginal(clean);
  for (const std::size_t row : {0, 5, 6, 7}) EXPECT_EQ(y[row], expected[row]) << "row " << row;

  const auto d = gradients(c, {1.0f, 0.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f, 1.0f});
  for (const std::size_t part : {0, 1, 2, 3}) {
    const std::size_t width = d[part].size() / 8;
    for (std::size_t i = width; i < 5 * width; ++i) EXPECT_EQ(d[part][i], 0.0f) << "input " << part << ", " << i;
  }
  const auto nan = gradients(c, std::vector<float>(8, 1.0f));
  EXPECT_TRUE(std::isnan(nan[2][6]));
  const auto z = posterior(c, Draws(1, device()), 3);
  for (std::size_t i = 3; i < 15; ++i) EXPECT_EQ(z[i], -1) << i;
  EXPECT_GE(z[0], 0);
}

TEST_P(ConditionalMixture, AComponentFarFromARowDoesNotSpoilItsGradients) {
  Case c = make_case(1, 2, 1, 3);
  c.mean[1] = 1e30f;
  for (const auto& part : gradients(c, {1.0f})) {
    for (const float value : part) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_P(ConditionalMixture, PointAMillionStandardDeviationsAway) {
  Case c = make_case(2, 2, 2, 3);
  c.x[1] = 1e6f;
  expect_log_marginal(c);
}

TEST_P(ConditionalMixture, EmptyBatchGivesEmptyResults) {
  const Case c = make_case(0, 3, 2, 1);
  EXPECT_TRUE(log_marginal(c).empty());
  for (const auto& part : gradients(c, {})) EXPECT_TRUE(part.empty());
  EXPECT_TRUE(posterior(c, Draws(1, device()), 2).empty());
  EXPECT_EQ(conditional_mixture_sample(logits(c), mean(c), log_scale(c), Draws(1, device())).x.shape(), (Shape{0, 2}));
}

TEST_P(ConditionalMixture, EqualInputGivesEqualBits) {
  const Case c = make_case(700, 5, 2, 21);
  EXPECT_EQ(log_marginal(c), log_marginal(c));
  const auto g = random_normals(c.n, 2);
  EXPECT_EQ(gradients(c, g), gradients(c, g));
}

TEST_P(ConditionalMixture, PosteriorDrawsFollowTheResponsibilities) {
  Case c = make_case(3, 5, 2, 14);
  c.logits[1] = -kInf;
  const int64_t samples = 3000;
  const Draws draws(7, device());
  const auto z = posterior(c, draws.at(3), samples);
  for (int64_t row = 0; row < c.n; ++row) {
    for (int64_t m = 0; m < c.k; ++m) {
      const auto p = static_cast<double>(Reference(c).responsibility(row, m));
      const auto first = z.begin() + row * samples;
      const auto share = static_cast<double>(std::count(first, first + samples, m)) / samples;
      EXPECT_NEAR(share, p, 5 * std::sqrt(p * (1 - p) / samples) + 1e-4) << "row " << row << ", k = " << m;
    }
  }
}

TEST_P(ConditionalMixture, DrawsDependOnTheDatumAndAgreeWithTheCpu) {
  const Case c = make_case(60, 4, 3, 15);
  const auto cpu = Device::cpu();
  const Draws draws(5, device());
  const auto here = posterior(c, draws, 5);
  const auto there = conditional_mixture_sample_posterior(x(c).to(cpu), logits(c).to(cpu), mean(c).to(cpu),
                                                          log_scale(c).to(cpu), Draws(5, cpu), 5)
                         .to_host();
  int different = 0;
  for (std::size_t i = 0; i < here.size(); ++i) different += here[i] != there[i];
  EXPECT_LE(different, 1) << "of " << here.size() << "; a uniform may fall within rounding of a boundary";

  std::vector<int64_t> index(at(c.n));
  for (std::size_t i = 0; i < index.size(); ++i) index[i] = static_cast<int64_t>(i) + 1000;
  const auto data = Tensor<int64_t>::from(index, {c.n}, device());
  EXPECT_NE(posterior(c, draws, 5, &data), here);

  const auto sample = conditional_mixture_sample(logits(c), mean(c), log_scale(c), draws);
  const auto on_cpu =
      conditional_mixture_sample(logits(c).to(cpu), mean(c).to(cpu), log_scale(c).to(cpu), Draws(5, cpu));
  EXPECT_EQ(sample.z.to_host(), on_cpu.z.to_host());
  expect_close(sample.x.to_host(), to_reals(on_cpu.x.to_host()), 1e-5, "samples");
  const auto other = conditional_mixture_sample(logits(c), mean(c), log_scale(c), draws, &data);
  EXPECT_NE(other.x.to_host(), sample.x.to_host());
}

TEST_P(ConditionalMixture, AncestralSamplesHaveEachRowsMoments) {
  // Rows with equal parameters are draws from one mixture.
  const Case one = make_case(1, 2, 3, 44);
  const int64_t count = 4000;
  Case c = {count, 2, 3, {}, {}, {}, {}};
  for (int64_t row = 0; row < count; ++row) {
    c.logits.insert(c.logits.end(), one.logits.begin(), one.logits.end());
    c.mean.insert(c.mean.end(), one.mean.begin(), one.mean.end());
    c.scale.insert(c.scale.end(), one.scale.begin(), one.scale.end());
  }
  const auto sample = conditional_mixture_sample(logits(c), mean(c), log_scale(c), Draws(3, device()));
  const auto z = sample.z.to_host();
  const auto values = sample.x.to_host();
  for (int64_t m = 0; m < 2; ++m) {
    const auto number = static_cast<double>(std::count(z.begin(), z.end(), m));
    EXPECT_NEAR(number / count, static_cast<double>(std::exp(Reference(one).log_weight(0, m))),
                5 * 0.5 / std::sqrt(count));
    for (int64_t i = 0; i < 3; ++i) {
      double sum = 0;
      double squares = 0;
      for (int64_t row = 0; row < count; ++row) {
        if (z[at(row)] != m) continue;
        const double t = (values[at(row * 3 + i)] - one.mean[at(m * 3 + i)]) / std::exp(one.scale[at(m * 3 + i)]);
        sum += t, squares += t * t;
      }
      EXPECT_NEAR(sum / number, 0.0, 5 / std::sqrt(number)) << "k = " << m << ", dimension " << i;
      EXPECT_NEAR(squares / number, 1.0, 5 * std::sqrt(2 / number)) << "k = " << m << ", dimension " << i;
    }
  }
}

TEST_P(ConditionalMixture, ARowWithoutADistributionSamplesMinusOneAndNaN) {
  Case c = make_case(3, 2, 2, 1);
  c.logits[2] = c.logits[3] = -kInf;
  c.logits[5] = kNaN;
  const auto sample = conditional_mixture_sample(logits(c), mean(c), log_scale(c), Draws(1, device()));
  const auto z = sample.z.to_host();
  const auto values = sample.x.to_host();
  EXPECT_GE(z[0], 0);
  for (const std::size_t row : {1, 2}) {
    EXPECT_EQ(z[row], -1) << "row " << row;
    EXPECT_TRUE(std::isnan(values[2 * row]) && std::isnan(values[2 * row + 1])) << "row " << row;
  }
}

TEST_P(ConditionalMixture, RefusesArgumentsThatDoNotFit) {
  const Case c = make_case(3, 2, 4, 1);
  try {
    conditional_mixture_log_marginal(mean(c), logits(c), mean(c), log_scale(c));
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "conditional_mixture_log_marginal: x has shape (3, 2, 4); (N, D) = (3, 4) is needed");
  }
  EXPECT_THROW(conditional_mixture_log_marginal(x(c), x(c), mean(c), log_scale(c)), ShapeError);
  EXPECT_THROW(conditional_mixture_log_marginal(x(c), logits(c), logits(c), log_scale(c)), ShapeError);
  EXPECT_THROW(conditional_mixture_log_marginal(x(c), logits(c), mean(c), x(c)), ShapeError);
  EXPECT_THROW(posterior(c, Draws(1, device()), 0), ArgumentError);
  const auto elsewhere = Tensor<float>::zeros({3, 2}, Stream::create(device()));
  EXPECT_THROW(conditional_mixture_log_marginal(x(c), elsewhere, mean(c), log_scale(c)), DeviceError);
}

DGM_ON_EVERY_DEVICE(ConditionalMixture);

}  // namespace
}  // namespace dgm::test
