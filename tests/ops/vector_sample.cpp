// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/vector_sample.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/philox.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint64_t kSeed = 0x123456789abcdefull;
constexpr int kSite = 9;
constexpr int64_t kStep = 5;

class VectorSample : public OnEveryDevice {
 protected:
  Draws draws() const {
    Draws draws = Draws(kSeed, device()).at(kSite);
    draws.set_step(kStep);
    return draws;
  }
  Tensor<float> tensor(const std::vector<float>& values, Shape shape) const {
    return Tensor<float>::from(values, std::move(shape), device());
  }
  // The word of a coordinate, or another of its block.
  static uint32_t word(int64_t datum, int64_t s, int64_t d, int64_t dims, int64_t which) {
    const int64_t block = s * ((dims + 3) / 4) + d / 4;
    return philox(kSeed, (uint64_t{kSite} << 48) | static_cast<uint64_t>(datum), kStep,
                  static_cast<uint32_t>(block))[static_cast<std::size_t>(which)];
  }
  static Real uniform(uint32_t word) { return (static_cast<Real>(word) + Real{0.5}) / Real{4294967296.0}; }
  static Real normal(int64_t datum, int64_t s, int64_t d, int64_t dims) {
    const int64_t pair = d % 4 / 2 * 2;
    const Real radius = std::sqrt(-2 * std::log(uniform(word(datum, s, d, dims, pair))));
    const Real angle = 2 * std::acos(Real{-1}) * uniform(word(datum, s, d, dims, pair + 1));
    return radius * (d % 2 == 0 ? std::sin(angle) : std::cos(angle));
  }
};

TEST_P(VectorSample, GaussianDrawsWhatTheContractSays) {
  for (const int64_t dims : {1, 2, 3, 4, 5, 16, 31, 130}) {
    for (const int64_t samples : {1, 3}) {
      const int64_t rows = 5;
      const auto mean = random_normals(rows * dims, 1);
      const auto log_scale = random_normals(rows * dims, 2, 0.5);
      const auto z =
          gaussian_sample(tensor(mean, {rows, dims}), tensor(log_scale, {rows, dims}), draws(), samples).value();
      ASSERT_EQ(z.shape(), (Shape{rows, samples, dims}));
      const auto got = z.to_host();
      std::size_t i = 0;
      for (int64_t b = 0; b < rows; ++b) {
        for (int64_t s = 0; s < samples; ++s) {
          for (int64_t d = 0; d < dims; ++d, ++i) {
            const auto p = static_cast<std::size_t>(b * dims + d);
            const Real scale = std::exp(Real{log_scale[p]});
            const Real e = normal(b, s, d, dims);
            ASSERT_LE(std::abs(got[i] - (mean[p] + scale * e)),
                      kVectorSampleError * (std::abs(mean[p]) + scale * std::max<Real>(1, std::abs(e))))
                << "row " << b << ", sample " << s << ", coordinate " << d << " of " << dims;
          }
        }
      }
    }
  }
}

TEST_P(VectorSample, GumbelAndBernoulliDrawWhatTheContractSays) {
  for (const int64_t dims : {1, 4, 7, 33}) {
    const int64_t rows = 4, samples = 3;
    const auto location = random_normals(rows * dims, 3);
    const auto y = gumbel_sample(tensor(location, {rows, dims}), draws(), samples).value().to_host();
    const auto bits = bernoulli_sample(tensor(location, {rows, dims}), draws(), samples).to_host();
    std::size_t i = 0;
    for (int64_t b = 0; b < rows; ++b) {
      for (int64_t s = 0; s < samples; ++s) {
        for (int64_t d = 0; d < dims; ++d, ++i) {
          const Real at = location[static_cast<std::size_t>(b * dims + d)];
          const Real u = uniform(word(b, s, d, dims, d % 4));
          const Real wanted = at - std::log(-std::log(u));
          ASSERT_LE(std::abs(y[i] - wanted), kVectorSampleError * std::max({Real{1}, std::abs(at), std::abs(wanted)}))
              << "row " << b << ", sample " << s << ", coordinate " << d << " of " << dims;
          const Real p = 1 / (1 + std::exp(-at));
          if (std::abs(u - p) > Real{1e-7}) {
            ASSERT_EQ(bits[i], u <= p ? 1.0f : 0.0f);
          }
        }
      }
    }
  }
}

TEST_P(VectorSample, GumbelIsRightWhereTheUniformIsAlmostOne) {
  // Among so many draws some uniforms round to 1.
  const int64_t count = on_simulated_device() ? 100'000 : 40'000'000;
  const auto y = gumbel_sample(Tensor<float>::zeros({1, count}, device()), draws()).value().to_host();
  Real largest = 0;
  for (int64_t d = 0; d < count; ++d) {
    const float got = y[static_cast<std::size_t>(d)];
    ASSERT_TRUE(std::isfinite(got)) << d;
    if (got < 10) continue;
    const Real wanted = -std::log(-std::log(uniform(word(0, 0, d, count, d % 4))));
    ASSERT_LE(std::abs(got - wanted), kVectorSampleError * wanted) << "coordinate " << d;
    largest = std::max(largest, wanted);
  }
  EXPECT_GT(largest, on_simulated_device() ? 10 : 15);
}

TEST_P(VectorSample, ManyNormalsHaveTheMomentsAndTailsOfANormal) {
  const int64_t count = on_simulated_device() ? 20'000 : 400'000;
  const auto zeros = Tensor<float>::zeros({1, count}, device());
  const auto z = gaussian_sample(zeros, zeros, draws()).value().to_host();
  double moments[4] = {};
  double beyond_two = 0;
  for (const float x : z) {
    ASSERT_TRUE(std::isfinite(x));
    for (int i = 0; i < 4; ++i) moments[i] += std::pow(x, i + 1) / static_cast<double>(count);
    beyond_two += std::abs(x) > 2 ? 1.0 / static_cast<double>(count) : 0;
  }
  const double error = 5 / std::sqrt(static_cast<double>(count));
  EXPECT_NEAR(moments[0], 0, error);
  EXPECT_NEAR(moments[1], 1, error * std::sqrt(2.0));
  EXPECT_NEAR(moments[2], 0, error * std::sqrt(15.0));
  EXPECT_NEAR(moments[3], 3, error * std::sqrt(96.0));
  EXPECT_NEAR(beyond_two, 0.0455003, error * std::sqrt(0.0455003));
}

TEST_P(VectorSample, GradientsArePathwise) {
  for (const int64_t samples : {1, 3, 130}) {
    const int64_t rows = 3, dims = 18;
    Tape tape;
    const auto mean_values = random_normals(rows * dims, 1);
    const Variable mean = tape.watch(tensor(mean_values, {rows, dims}));
    const Variable log_scale = tape.watch(tensor(random_normals(rows * dims, 2, 0.5), {rows, dims}));
    const Variable location = tape.watch(tensor(mean_values, {rows, dims}));
    const Variable z = gaussian_sample(mean, log_scale, draws(), samples);
    const Variable y = gumbel_sample(location, draws(), samples);
    const auto g = random_normals(z.value().size(), 7);
    const auto up = Tensor<float>::from(g, z.shape(), device());
    // One backward pass for both: the gradient of sum g (z + y) by each.
    tape.backward(z + y, up);
    const auto drawn = z.value().to_host();
    Reals d_mean(mean_values.size()), d_scale(mean_values.size());
    for (std::size_t i = 0; i < g.size(); ++i) {
      const std::size_t b = i / static_cast<std::size_t>(samples * dims);
      const std::size_t at = b * dims + i % dims;
      d_mean[at] += g[i];
      d_scale[at] += Real{g[i]} * (Real{drawn[i]} - mean_values[at]);
    }
    expect_close(tape.grad(mean).to_host(), d_mean, 1e-5, "mean");
    expect_close(tape.grad(location).to_host(), d_mean, 1e-5, "location");
    expect_close(tape.grad(log_scale).to_host(), d_scale, 1e-5, "log scale");
  }
}

TEST_P(VectorSample, DrawsFollowTheDatumAndNotTheRow) {
  const auto zeros = Tensor<float>::zeros({3, 6}, device());
  const auto all = gaussian_sample(zeros, zeros, draws(), 2).value();
  const auto data = Tensor<int64_t>::from({2, 0}, {2}, device());
  const auto two = Tensor<float>::zeros({2, 6}, device());
  const auto chosen = gaussian_sample(two, two, draws(), 2, &data).value();
  EXPECT_EQ(chosen.rows(0, 1).to_host(), all.rows(2, 3).to_host());
  EXPECT_EQ(chosen.rows(1, 2).to_host(), all.rows(0, 1).to_host());
}

TEST_P(VectorSample, LimitsAreExact) {
  const auto logits = tensor({kInf, -kInf, NAN}, {1, 3});
  const auto bits = bernoulli_sample(logits, draws(), 50).to_host();
  for (std::size_t i = 0; i < bits.size(); i += 3) {
    EXPECT_EQ(bits[i], 1);
    EXPECT_EQ(bits[i + 1], 0);
    EXPECT_TRUE(std::isnan(bits[i + 2]));
  }
  EXPECT_EQ(gumbel_sample(tensor({-kInf}, {1, 1}), draws()).value().item(), -kInf);
  EXPECT_EQ(gaussian_sample(tensor({2}, {1, 1}), tensor({-kInf}, {1, 1}), draws()).value().item(), 2);
}

TEST_P(VectorSample, EmptyBatches) {
  const auto none = Tensor<float>::zeros({0, 3}, device());
  EXPECT_EQ(gaussian_sample(none, none, draws(), 4).shape(), (Shape{0, 4, 3}));
  EXPECT_EQ(bernoulli_sample(Tensor<float>::zeros({2, 0}, device()), draws(), 4).shape(), (Shape{2, 4, 0}));
}

TEST_P(VectorSample, RefusesBadArguments) {
  const auto x = Tensor<float>::zeros({2, 3}, device());
  const auto flat = Tensor<float>::zeros({6}, device());
  EXPECT_THROW(gaussian_sample(flat, flat, draws()), ShapeError);
  EXPECT_THROW(gaussian_sample(x, Tensor<float>::zeros({3, 2}, device()), draws()), ShapeError);
  EXPECT_THROW(bernoulli_sample(x, draws(), 0), ArgumentError);
  const auto data = Tensor<int64_t>::zeros({3}, device());
  EXPECT_THROW(gumbel_sample(x, draws(), 1, &data), ShapeError);
}

DGM_ON_EVERY_DEVICE(VectorSample);

}  // namespace
}  // namespace dgm::test
