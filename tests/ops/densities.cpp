// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/densities.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

// One function with its arguments: how it is called, the term in long double, and argument ranges.
struct Case {
  const char* name;
  int arguments;
  std::function<Variable(const std::vector<Variable>&)> call;
  std::function<Real(const Reals&)> term;
  bool probabilities = false;  // arguments are log probabilities
};

Real log1pexp(Real x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
Real log_bernoulli(Real x, Real logit) { return -x * log1pexp(-logit) - (1 - x) * log1pexp(logit); }
const Real kHalfLogTwoPi = std::log(2 * std::acos(Real{-1})) / 2;
Real log_normal(Real x, Real mean, Real log_scale) {
  const Real t = (x - mean) / std::exp(log_scale);
  return -t * t / 2 - log_scale - kHalfLogTwoPi;
}
Real log_normal_cdf(Real t) {
  const Real tail = std::erfc(std::abs(t) / std::sqrt(Real{2})) / 2;
  return t < 0 ? std::log(tail) : std::log1p(-tail);
}
Real probability(Real logit) { return 1 / (1 + std::exp(-logit)); }

const std::vector<Case>& cases() {
  static const std::vector<Case> all = {
      {"gaussian_log_density", 3, [](const auto& u) { return gaussian_log_density(u[0], u[1], u[2]); },
       [](const Reals& u) { return log_normal(u[0], u[1], u[2]); }},
      {"standard_gaussian_log_density", 1, [](const auto& u) { return standard_gaussian_log_density(u[0]); },
       [](const Reals& u) { return log_normal(u[0], 0, 0); }},
      {"gaussian_kl to the standard", 2, [](const auto& u) { return gaussian_kl(u[0], u[1]); },
       [](const Reals& u) { return (std::exp(2 * u[1]) + u[0] * u[0] - 1) / 2 - u[1]; }},
      {"gaussian_kl", 4, [](const auto& u) { return gaussian_kl(u[0], u[1], u[2], u[3]); },
       [](const Reals& u) {
         const Real gap = u[0] - u[2];
         return u[3] - u[1] + (std::exp(2 * u[1]) + gap * gap) / (2 * std::exp(2 * u[3])) - Real{0.5};
       }},
      {"bernoulli_log_density", 2, [](const auto& u) { return bernoulli_log_density(u[0], u[1]); },
       [](const Reals& u) { return log_bernoulli(u[0], u[1]); }},
      {"bernoulli_entropy", 1, [](const auto& u) { return bernoulli_entropy(u[0]); },
       [](const Reals& u) { return -log_bernoulli(probability(u[0]), u[0]); }},
      {"bernoulli_kl", 2, [](const auto& u) { return bernoulli_kl(u[0], u[1]); },
       [](const Reals& u) { return log_bernoulli(probability(u[0]), u[0]) - log_bernoulli(probability(u[0]), u[1]); }},
      {"categorical_entropy", 1, [](const auto& u) { return categorical_entropy(u[0]); },
       [](const Reals& u) { return -std::exp(u[0]) * u[0]; }, true},
      {"categorical_kl", 2, [](const auto& u) { return categorical_kl(u[0], u[1]); },
       [](const Reals& u) { return std::exp(u[0]) * (u[0] - u[1]); }, true},
      {"gaussian_log_cdf", 3, [](const auto& u) { return gaussian_log_cdf(u[0], u[1], u[2]); },
       [](const Reals& u) { return log_normal_cdf((u[0] - u[1]) / std::exp(u[2])); }},
  };
  return all;
}

struct Sizes {
  int64_t batch, samples, dims;
};

class Densities : public OnEveryDevice {
 protected:
  // Argument i of a case with so many axes.
  static std::vector<float> values(const Case& c, const Sizes& n, int axes, uint64_t seed) {
    const int64_t size = (axes >= 2 ? n.batch : 1) * (axes == 3 ? n.samples : 1) * n.dims;
    std::vector<float> result = random_normals(size, seed, 0.8);
    if (c.probabilities) {
      for (float& x : result) x = -std::abs(x) - 0.1f;
    }
    return result;
  }
  static Shape shape(const Sizes& n, int axes) {
    return axes == 3 ? Shape{n.batch, n.samples, n.dims} : axes == 2 ? Shape{n.batch, n.dims} : Shape{n.dims};
  }
  // Element of an argument with so many axes.
  static std::size_t index(const Sizes& n, int axes, int64_t b, int64_t s, int64_t d) {
    return static_cast<std::size_t>(axes == 3 ? (b * n.samples + s) * n.dims + d : axes == 2 ? b * n.dims + d : d);
  }

  void check(const Case& c, const Sizes& n, const std::vector<int>& axes) {
    const std::string what = std::string(c.name) + " B = " + std::to_string(n.batch) +
                             ", S = " + std::to_string(n.samples) + ", D = " + std::to_string(n.dims) +
                             ", axes of the first and last " + std::to_string(axes.front()) + " " +
                             std::to_string(axes.back());
    Tape tape;
    std::vector<std::vector<float>> in;
    std::vector<Variable> variables;
    for (std::size_t i = 0; i < axes.size(); ++i) {
      in.push_back(values(c, n, axes[i], 10 + i));
      variables.push_back(tape.watch(Tensor<float>::from(in[i], shape(n, axes[i]), device())));
    }
    const Variable y = c.call(variables);
    const auto g = random_normals(y.value().size(), 99);
    tape.backward(y, Tensor<float>::from(g, y.shape(), device()));

    const int most = *std::max_element(axes.begin(), axes.end());
    const Sizes whole = {most >= 2 ? n.batch : 1, most == 3 ? n.samples : 1, n.dims};
    Reals sums, sizes;
    std::vector<Reals> gradients, gradient_sizes;
    for (const auto& values : in) gradients.emplace_back(values.size()), gradient_sizes.emplace_back(values.size());
    for (int64_t b = 0; b < whole.batch; ++b) {
      for (int64_t s = 0; s < whole.samples; ++s) {
        Real sum = 0, size = 0;
        const Real up = g[static_cast<std::size_t>(b * whole.samples + s)];
        for (int64_t d = 0; d < n.dims; ++d) {
          Reals u;
          for (std::size_t i = 0; i < axes.size(); ++i) u.push_back(in[i][index(whole, axes[i], b, s, d)]);
          const Real term = c.term(u);
          sum += term;
          size += std::abs(term) + 1;
          const Reals slopes = central_differences(c.term, u, 1e-5L);
          for (std::size_t i = 0; i < axes.size(); ++i) {
            gradients[i][index(whole, axes[i], b, s, d)] += up * slopes[i];
            gradient_sizes[i][index(whole, axes[i], b, s, d)] += std::abs(up) * (std::abs(slopes[i]) + 1);
          }
        }
        sums.push_back(sum), sizes.push_back(size);
      }
    }
    const auto compare = [&](const std::vector<float>& got, const Reals& wanted, const Reals& scale,
                             const std::string& part) {
      ASSERT_EQ(got.size(), wanted.size()) << what << part;
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_LE(std::abs(got[i] - wanted[i]), kDensityError * scale[i])
            << what << part << ", element " << i << ": got " << got[i] << ", wanted " << static_cast<double>(wanted[i]);
      }
    };
    compare(y.value().to_host(), sums, sizes, ", values");
    for (std::size_t i = 0; i < axes.size(); ++i) {
      compare(tape.grad(variables[i]).to_host(), gradients[i], gradient_sizes[i],
              ", gradient by argument " + std::to_string(i));
    }
  }
};

TEST_P(Densities, MatchLongDoubleWithGradientsForEverySharingOfArguments) {
  for (const Case& c : cases()) {
    const auto count = static_cast<std::size_t>(c.arguments);
    check(c, {3, 5, 33}, std::vector<int>(count, 3));
    check(c, {4, 1, 7}, std::vector<int>(count, 2));
    check(c, {1, 1, 3}, std::vector<int>(count, 1));
    for (std::size_t i = 0; i < count && count > 1; ++i) {
      std::vector<int> axes(count, 2);
      axes[i] = 3;
      check(c, {2, 4, 5}, axes);
      axes.assign(count, 1);
      axes[i] = 3;
      check(c, {3, 2, 17}, axes);
      axes[i] = 2;
      check(c, {3, 1, 2}, axes);
    }
  }
}

TEST_P(Densities, MatchAtEveryVectorAndWarpEdge) {
  for (const int64_t dims : {1, 15, 16, 17, 31, 32, 65, 300}) {
    check(cases()[0], {2, 3, dims}, {3, 2, 2});
    check(cases()[4], {2, 3, dims}, {2, 3});
  }
}

TEST_P(Densities, SumGradientsOfManySamplesAccurately) {
  check(cases()[0], {1, on_simulated_device() ? 300 : 5000, 2}, {3, 2, 2});
}

TEST_P(Densities, BernoulliIsExactAtItsLimits) {
  const auto x = Tensor<float>::from({0, 1, 0, 1, 0.5f}, {5, 1}, device());
  const auto logits = Tensor<float>::from({-kInf, kInf, kInf, -kInf, 0}, {5, 1}, device());
  EXPECT_EQ(bernoulli_log_density(x, logits).value().to_host(),
            (std::vector<float>{0, 0, -kInf, -kInf, std::log(0.5f)}));
  Tape tape;
  const Variable watched = tape.watch(logits);
  tape.backward(sum(bernoulli_log_density(x, watched)));
  EXPECT_EQ(tape.grad(watched).to_host(), (std::vector<float>{0, 0, -1, 1, 0}));
  EXPECT_EQ(bernoulli_entropy(Tensor<float>::from({-kInf, kInf}, {2}, device())).value().item(), 0);
}

TEST_P(Densities, BernoulliKeepsSmallProbabilities) {
  // 1 - p in f32 would be 1, and its logarithm 0.
  const auto x = Tensor<float>::from({0, 1}, {2, 1}, device());
  const auto logits = Tensor<float>::from({-40, 40}, {2, 1}, device());
  for (const float y : bernoulli_log_density(x, logits).value().to_host()) {
    EXPECT_NEAR(y / -std::exp(-40.0), 1, 1e-5);
  }
}

TEST_P(Densities, ProbabilitiesOfZeroAreHarmless) {
  const auto p = Tensor<float>::from({-kInf, 0}, {2}, device());
  const auto q = Tensor<float>::from({-kInf, 0}, {2}, device());
  const auto r = Tensor<float>::from({std::log(0.5f), std::log(0.5f)}, {2}, device());
  EXPECT_EQ(categorical_entropy(p).value().item(), 0);
  EXPECT_EQ(categorical_kl(p, q).value().item(), 0);
  EXPECT_NEAR(categorical_kl(p, r).value().item(), std::log(2.0), 1e-6);
  EXPECT_EQ(categorical_kl(r, p).value().item(), kInf);
}

TEST_P(Densities, GaussianOfAVanishingScaleIsFiniteAtItsMean) {
  const auto at = [&](float x) {
    return gaussian_log_density(Tensor<float>::from({x}, {1}, device()), Tensor<float>::from({2}, {1}, device()),
                                Tensor<float>::from({-100}, {1}, device()))
        .value()
        .item();
  };
  EXPECT_NEAR(at(2), 100 - 0.9189385, 1e-4);
  EXPECT_EQ(at(3), -kInf);
}

TEST_P(Densities, LogCdfKeepsBothTails) {
  // Beyond t = -140 the reference's own erfc underflows: there the series at infinity.
  std::vector<float> x = {-1e4f, -300,  -130, -40,  -20,  -8, -3, -1, -0.3f, -1e-4f,
                          0,     1e-4f, 0.3f, 0.6f, 0.7f, 1,  3,  5,  9,     30};
  for (int i = -400; i < 200; ++i) x.push_back(0.03f * static_cast<float>(i) + 0.001f);
  const auto count = static_cast<int64_t>(x.size());
  Tape tape;
  const Variable watched = tape.watch(Tensor<float>::from(x, {count, 1}, device()));
  const auto zero = Tensor<float>::zeros({1}, device());
  const Variable y = gaussian_log_cdf(watched, zero, zero);
  tape.backward(sum(y));
  const auto value = y.value().to_host(), slope = tape.grad(watched).to_host();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Real t = x[i];
    const Real wanted = t > -100 ? log_normal_cdf(t) : -t * t / 2 - std::log(-t) - kHalfLogTwoPi - 1 / (t * t);
    const Real ratio = t > -100 ? std::exp(-t * t / 2 - kHalfLogTwoPi - wanted) : -t - 1 / t;
    EXPECT_LE(std::abs(value[i] - wanted), 2e-6 * std::abs(wanted) + 1e-44) << "at " << x[i] << ": " << value[i];
    EXPECT_LE(std::abs(slope[i] - ratio), 2e-6 * ratio + 1e-44) << "slope at " << x[i] << ": " << slope[i];
  }
  const auto limits = Tensor<float>::from({-kInf, kInf, NAN}, {3, 1}, device());
  const auto got = gaussian_log_cdf(limits, zero, zero).value().to_host();
  EXPECT_EQ(got[0], -kInf);
  EXPECT_EQ(got[1], 0);
  EXPECT_TRUE(std::isnan(got[2]));
}

TEST_P(Densities, BernoulliLogCdfIsAStairway) {
  const std::vector<float> x = {-1, -1e-9f, 0, 0.5f, 0.999f, 1, 2, kInf, -kInf, 0, 0};
  const std::vector<float> logits = {1, 1, 1, -2, 30, 1, 1, 0, 0, -kInf, kInf};
  const Reals wanted = {-kInf, -kInf, -log1pexp(1), -log1pexp(-2), -log1pexp(30), 0, 0, 0, -kInf, 0, -kInf};
  Tape tape;
  const Variable watched = tape.watch(Tensor<float>::from(logits, {11, 1}, device()));
  const Variable y = bernoulli_log_cdf(Tensor<float>::from(x, {11, 1}, device()), watched);
  expect_close(y.value().to_host(), wanted, kDensityError, "log cdf");
  tape.backward(sum(y));
  const auto slope = tape.grad(watched).to_host();
  for (std::size_t i = 0; i < x.size(); ++i) {
    const Real p = x[i] >= 0 && x[i] < 1 ? -probability(logits[i]) : 0;
    EXPECT_NEAR(slope[i], static_cast<double>(p), 1e-6) << i;
  }
  const auto nan = Tensor<float>::from({NAN}, {1, 1}, device());
  EXPECT_TRUE(std::isnan(bernoulli_log_cdf(nan, Tensor<float>::zeros({1, 1}, device())).value().to_host()[0]));
}

TEST_P(Densities, RowsWithoutUpstreamGradientGiveNoneWhateverTheyAre) {
  Tape tape;
  const Variable x = tape.watch(Tensor<float>::from({kInf, 1}, {1, 2, 1}, device()));
  const Variable mean = tape.watch(Tensor<float>::from({0}, {1, 1}, device()));
  tape.backward(gaussian_log_density(x, mean, Tensor<float>::zeros({1}, device())),
                Tensor<float>::from({0, 2}, {1, 2}, device()));
  EXPECT_EQ(tape.grad(x).to_host(), (std::vector<float>{0, -2}));
  EXPECT_EQ(tape.grad(mean).to_host(), (std::vector<float>{2}));
}

TEST_P(Densities, NanGivesNan) {
  const auto nan = Tensor<float>::from({NAN, 0}, {1, 2}, device());
  const auto zeros = Tensor<float>::zeros({1, 2}, device());
  EXPECT_TRUE(std::isnan(standard_gaussian_log_density(nan).value().to_host()[0]));
  EXPECT_TRUE(std::isnan(bernoulli_log_density(zeros, nan).value().to_host()[0]));
  EXPECT_TRUE(std::isnan(bernoulli_log_density(nan, zeros).value().to_host()[0]));
  EXPECT_TRUE(std::isnan(categorical_entropy(nan).value().to_host()[0]));
}

TEST_P(Densities, EmptyBatchesAndNoDimensions) {
  EXPECT_EQ(standard_gaussian_log_density(Tensor<float>::zeros({0, 3}, device())).value().size(), 0);
  EXPECT_EQ(standard_gaussian_log_density(Tensor<float>::zeros({2, 0, 3}, device())).shape(), (Shape{2, 0}));
  EXPECT_EQ(standard_gaussian_log_density(Tensor<float>::zeros({2, 0}, device())).value().to_host(),
            (std::vector<float>{0, 0}));
  Tape tape;
  const Variable mean = tape.watch(Tensor<float>::zeros({3}, device()));
  tape.backward(sum(gaussian_log_density(Tensor<float>::zeros({0, 4, 3}, device()), mean, mean)));
  EXPECT_EQ(tape.grad(mean).to_host(), (std::vector<float>{0, 0, 0}));
}

TEST_P(Densities, RefuseShapesThatDoNotFit) {
  const auto x = Tensor<float>::zeros({2, 3, 4}, device());
  const auto scale = Tensor<float>::zeros({4}, device());
  EXPECT_THROW(gaussian_log_density(x, Tensor<float>::zeros({3, 4}, device()), scale), ShapeError);
  EXPECT_THROW(gaussian_log_density(x, Tensor<float>::zeros({2, 3}, device()), scale), ShapeError);
  EXPECT_THROW(gaussian_log_density(x, Tensor<float>::zeros({2, 1, 4}, device()), scale), ShapeError);
  EXPECT_THROW(standard_gaussian_log_density(Tensor<float>::zeros({}, device())), ShapeError);
  try {
    bernoulli_log_density(x, Tensor<float>::zeros({3, 4}, device()));
    FAIL() << "not refused";
  } catch (const ShapeError& error) {
    EXPECT_NE(std::string(error.what()).find("bernoulli_log_density: logits has shape (3, 4) but x has (2, 3, 4)"),
              std::string::npos)
        << error.what();
  }
}

DGM_ON_EVERY_DEVICE(Densities);

}  // namespace
}  // namespace dgm::test
