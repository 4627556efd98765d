// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/activations.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/every_float.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct Case {
  const char* name;
  Variable (*op)(const Variable&);
  Real (*reference)(Real);
  bool relative;  // else relative to max(1, |y|)
};

Real logistic(Real x) { return x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x)); }
Real leaky(Real x) { return x > 0 ? x : Real{0.125f} * x; }
Variable leaky_op(const Variable& x) { return leaky_relu(x, 0.125f); }
Real gelu_reference(Real x) { return std::isinf(x) ? (x > 0 ? x : 0) : x * std::erfc(-x / std::sqrt(2.0L)) / 2; }
Real gelu_tanh_reference(Real x) {
  if (std::isinf(x)) return x > 0 ? x : 0;
  const Real u = std::sqrt(2 / 3.14159265358979323846264338L) * (x + 0.044715L * x * x * x);
  return x * logistic(2 * u);
}

const Case kCases[] = {
    {"relu", relu, [](Real x) { return std::isnan(x) ? x : std::max<Real>(x, 0); }, true},
    {"leaky_relu", leaky_op, leaky, true},
    {"gelu", gelu, gelu_reference, false},
    {"gelu_tanh", gelu_tanh, gelu_tanh_reference, false},
    {"silu", silu, [](Real x) { return std::isinf(x) ? (x > 0 ? x : 0) : x * logistic(x); }, false},
    {"sigmoid", sigmoid, logistic, true},
    {"log_sigmoid", log_sigmoid, [](Real x) { return x < 0 ? x - std::log1p(std::exp(x)) : -std::log1p(std::exp(-x)); },
     true},
    {"tanh", dgm::tanh, [](Real x) { return std::tanh(x); }, true},
    {"softplus", softplus, [](Real x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }, true},
};

class Activations : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& x) {
    return Tensor<float>::from(x, {static_cast<int64_t>(x.size())}, device());
  }
  std::vector<float> gradient(const Case& c, const std::vector<float>& x, const std::vector<float>& g) {
    Tape tape;
    const Variable leaf = tape.watch(tensor(x));
    tape.backward(c.op(leaf), tensor(g));
    return tape.grad(leaf).to_host();
  }
};

TEST_P(Activations, MatchTheReferenceOverTheWholeRange) {
  const auto x = floats_of_the_whole_range();
  for (const Case& c : kCases) {
    const auto y = c.op(tensor(x)).value().to_host();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Real wanted = c.reference(x[i]);
      if (std::isnan(wanted)) {
        ASSERT_TRUE(std::isnan(y[i])) << c.name << "(" << x[i] << ") = " << y[i];
      } else if (std::isinf(wanted)) {
        ASSERT_EQ(y[i], static_cast<float>(wanted)) << c.name << "(" << x[i] << ")";
      } else {
        // 1.5e-45 is the last bit of a subnormal result.
        const Real scale = c.relative ? std::abs(wanted) : std::max<Real>(1, std::abs(wanted));
        ASSERT_LE(std::abs(y[i] - wanted), kActivationError * scale + 1.5e-45L)
            << c.name << "(" << x[i] << ") = " << y[i] << ", wanted " << static_cast<double>(wanted);
      }
    }
  }
}

TEST_P(Activations, GradientsAgreeWithCentralDifferencesOfTheReference) {
  std::vector<float> x;
  for (int i = -300; i <= 300; ++i) x.push_back(0.1f * static_cast<float>(i) + 0.0123f);  // no kink is hit
  const auto g = random_normals(static_cast<int64_t>(x.size()), 4);
  for (const Case& c : kCases) {
    const auto dx = gradient(c, x, g);
    for (std::size_t i = 0; i < x.size(); ++i) {
      constexpr Real kStep = 1e-6L;
      const Real wanted = g[i] * (c.reference(x[i] + kStep) - c.reference(x[i] - kStep)) / (2 * kStep);
      ASSERT_LE(std::abs(dx[i] - wanted), kActivationError * std::abs(g[i]) + 1e-11L)
          << c.name << "'(" << x[i] << ") = " << dx[i] << ", wanted " << static_cast<double>(wanted);
    }
  }
}

TEST_P(Activations, GradientsAtTheEdgesAreTheLimits) {
  const std::vector<float> x = {-kInf, -1e30f, -200.0f, 0.0f, 200.0f, 1e30f, kInf};
  const std::vector<float> ones(x.size(), 1.0f);
  for (const Case& c : kCases) {
    const std::string name = c.name;
    const auto dx = gradient(c, x, ones);
    const float below = name == "leaky_relu" ? 0.125f : name == "log_sigmoid" ? 1.0f : 0.0f;
    const float above = name == "sigmoid" || name == "log_sigmoid" || name == "tanh" ? 0.0f : 1.0f;
    for (const std::size_t i : {0, 1, 2}) EXPECT_EQ(dx[i], below) << name << "'(" << x[i] << ")";
    for (const std::size_t i : {4, 5, 6}) EXPECT_EQ(dx[i], above) << name << "'(" << x[i] << ")";
  }
}

TEST_P(Activations, TheKinkOfReluTakesTheSlopeBelowIt) {
  EXPECT_EQ(gradient(kCases[0], {0.0f, -0.0f}, {1.0f, 1.0f}), (std::vector<float>{0.0f, 0.0f}));
  EXPECT_EQ(gradient(kCases[1], {0.0f, -0.0f}, {1.0f, 1.0f}), (std::vector<float>{0.125f, 0.125f}));
}

TEST_P(Activations, ReluStopsAnInfiniteGradient) {
  // g * 0 would be NaN for an infinite g.
  const Case& relu_case = kCases[0];
  EXPECT_EQ(gradient(relu_case, {-1.0f, 0.0f, 1.0f}, {kInf, kInf, kInf}), (std::vector<float>{0.0f, 0.0f, kInf}));
}

TEST_P(Activations, WorkAtEveryVectorAndTileEdge) {
  for (const int64_t n : {0, 1, 7, 8, 15, 16, 17, 255, 1023, 1024, 1025, 100003}) {
    const auto x = random_normals(n, static_cast<uint64_t>(n) + 1);
    Reals wanted;
    Reals slopes;
    for (const float v : x) {
      wanted.push_back(logistic(v));
      slopes.push_back(logistic(v) * (1 - logistic(v)));
    }
    expect_close(sigmoid(tensor(x)).value().to_host(), wanted, kActivationError, "n = " + std::to_string(n));
    const std::vector<float> ones(x.size(), 1.0f);
    expect_close(gradient(kCases[5], x, ones), slopes, kActivationError, "gradient, n = " + std::to_string(n));
  }
}

DGM_ON_EVERY_DEVICE(Activations);

}  // namespace
}  // namespace dgm::test
