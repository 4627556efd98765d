// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/importance_weights.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

Reals row_of(const std::vector<float>& values, int64_t row, int64_t samples) {
  return {values.begin() + row * samples, values.begin() + (row + 1) * samples};
}

Reals softmax(const Reals& l) {
  const Real norm = test::log_sum_exp(l);
  Reals w;
  for (const Real x : l) w.push_back(std::exp(x - norm));
  return w;
}

// The fit by its description: exceedances of the tail over the next largest weight, the posterior mean of theta over
// the grid, and k from it, pulled to 1/2.
Real pareto_reference(Reals l) {
  std::sort(l.begin(), l.end());
  const auto samples = l.size();
  const auto tail = static_cast<std::size_t>(
      std::ceil(std::min(static_cast<Real>(samples) / 5, 3 * std::sqrt(static_cast<Real>(samples)))));
  const auto n = static_cast<Real>(tail);
  Reals x;
  for (std::size_t i = samples - tail; i < samples; ++i) {
    x.push_back(std::exp(l[i] - l.back()) - std::exp(l[samples - tail - 1] - l.back()));
  }
  const Real quartile = x[static_cast<std::size_t>(std::floor(n / 4 + Real{0.5})) - 1];
  const auto grid = static_cast<int>(30 + std::floor(std::sqrt(n)));
  const auto k_of = [&](Real theta) {
    Real sum = 0;
    for (const Real value : x) sum += std::log1p(-theta * value);
    return sum / n;
  };
  Reals thetas, logs;
  for (int j = 1; j <= grid; ++j) {
    const Real theta = 1 / x.back() + (1 - std::sqrt(grid / (j - Real{0.5}))) / (3 * quartile);
    const Real k = k_of(theta);
    thetas.push_back(theta);
    logs.push_back(n * (std::log(-theta / k) - k - 1));
  }
  const Reals weights = softmax(logs);
  Real theta = 0;
  for (std::size_t j = 0; j < thetas.size(); ++j) theta += weights[j] * thetas[j];
  return (k_of(theta) * n + 5) / (n + 10);
}

class ImportanceWeightsOp : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& values, int64_t samples) const {
    return Tensor<float>::from(values, {static_cast<int64_t>(values.size()) / samples, samples}, device());
  }
  // Log weights whose weights have a Pareto tail of shape k.
  static std::vector<float> pareto(int64_t count, double k, uint64_t seed) {
    std::mt19937_64 generator(seed);
    std::uniform_real_distribution<double> uniform(1e-12, 1);
    std::vector<float> l(static_cast<std::size_t>(count));
    for (float& value : l) value = static_cast<float>(-k * std::log(uniform(generator)));
    return l;
  }
};

TEST_P(ImportanceWeightsOp, MatchLongDoubleAtEveryVectorAndWarpEdge) {
  for (const int64_t samples : {1, 2, 15, 16, 17, 31, 32, 33, 64, 127, 128, 129, 1000, 5000}) {
    const int64_t rows = 3;
    // Far from 0 and widely spread: without the shift by the largest nothing would be left.
    const auto l = random_normals(rows * samples, static_cast<uint64_t>(samples), 8.0, -700.0);
    const ImportanceWeights got = importance_weights(tensor(l, samples));
    Reals weights, log_means;
    const auto ess = got.effective_sample_size.to_host();
    for (int64_t b = 0; b < rows; ++b) {
      const Reals row = row_of(l, b, samples);
      const Reals w = softmax(row);
      Real squares = 0;
      for (const Real x : w) weights.push_back(x), squares += x * x;
      log_means.push_back(test::log_sum_exp(row) - std::log(static_cast<Real>(samples)));
      EXPECT_NEAR(static_cast<double>(ess[static_cast<std::size_t>(b)] * squares), 1, kImportanceWeightsError)
          << "effective sample size, S = " << samples;
    }
    expect_close(got.weights.value().to_host(), weights, kImportanceWeightsError, "S = " + std::to_string(samples));
    expect_close(got.log_mean.value().to_host(), log_means, kImportanceWeightsError,
                 "log mean, S = " + std::to_string(samples));
  }
}

TEST_P(ImportanceWeightsOp, GradientsAgreeWithCentralDifferencesOfTheReference) {
  for (const int64_t samples : {1, 3, 17, 40, 140}) {
    const auto l = random_normals(2 * samples, 5, 1.5);
    const auto g = random_normals(2 * samples, 6);
    const std::vector<float> h = {0.7f, -1.3f};
    Tape tape;
    const Variable first = tape.watch(tensor(l, samples));
    const Variable second = tape.watch(tensor(l, samples));
    const Variable weights = importance_weights(first).weights;
    const Variable log_mean = importance_weights(second).log_mean;
    tape.backward(sum(weights * tensor(g, samples)) + sum(log_mean * Tensor<float>::from(h, {2}, device())));
    const auto by_weights = [&](const Reals& x) {
      Real total = 0;
      for (int64_t b = 0; b < 2; ++b) {
        const Reals w = softmax(Reals(x.begin() + b * samples, x.begin() + (b + 1) * samples));
        for (std::size_t s = 0; s < w.size(); ++s) total += w[s] * g[static_cast<std::size_t>(b * samples) + s];
      }
      return total;
    };
    const auto by_log_mean = [&](const Reals& x) {
      Real total = 0;
      for (int64_t b = 0; b < 2; ++b) {
        total += h[static_cast<std::size_t>(b)] *
                 test::log_sum_exp(Reals(x.begin() + b * samples, x.begin() + (b + 1) * samples));
      }
      return total;
    };
    expect_close(tape.grad(first).to_host(), central_differences(by_weights, to_reals(l)), 4 * kImportanceWeightsError,
                 "by the weights, S = " + std::to_string(samples));
    expect_close(tape.grad(second).to_host(), central_differences(by_log_mean, to_reals(l)),
                 4 * kImportanceWeightsError, "by the log mean, S = " + std::to_string(samples));
  }
}

TEST_P(ImportanceWeightsOp, OneDrawHasAllTheWeight) {
  const ImportanceWeights w = importance_weights(tensor({-1234.5f, 7.0f}, 1));
  EXPECT_EQ(w.weights.value().to_host(), (std::vector<float>{1, 1}));
  EXPECT_EQ(w.log_mean.value().to_host(), (std::vector<float>{-1234.5f, 7.0f}));
  EXPECT_EQ(w.effective_sample_size.to_host(), (std::vector<float>{1, 1}));
}

TEST_P(ImportanceWeightsOp, DrawsThatTheModelExcludesHaveNoWeight) {
  std::vector<float> l(40, -kInf);
  l[33] = -500;
  Tape tape;
  const Variable watched = tape.watch(tensor(l, 40));
  const ImportanceWeights w = importance_weights(watched);
  std::vector<float> wanted(40, 0.0f);
  wanted[33] = 1;
  EXPECT_EQ(w.weights.value().to_host(), wanted);
  EXPECT_EQ(w.effective_sample_size.item(), 1);
  EXPECT_NEAR(w.log_mean.value().item(), -500 - std::log(40.0), 1e-3);
  tape.backward(sum(w.log_mean));
  EXPECT_EQ(tape.grad(watched).to_host(), wanted);
}

TEST_P(ImportanceWeightsOp, RowWithoutAnyWeightGivesZeroAndNoGradient) {
  for (const int64_t samples : {1, 40, 200}) {
    Tape tape;
    const std::vector<float> l(static_cast<std::size_t>(samples), -kInf);
    const std::vector<float> zeros(l.size(), 0.0f);
    const Variable watched = tape.watch(tensor(l, samples));
    const ImportanceWeights w = importance_weights(watched);
    EXPECT_EQ(w.weights.value().to_host(), zeros);
    EXPECT_EQ(w.log_mean.value().item(), -kInf);
    EXPECT_EQ(w.effective_sample_size.item(), 0);
    tape.backward(sum(w.weights) + sum(w.log_mean));
    EXPECT_EQ(tape.grad(watched).to_host(), zeros);
  }
}

TEST_P(ImportanceWeightsOp, NanAndInfinityGiveNanInTheirRowAlone) {
  for (const float bad : {NAN, kInf}) {
    for (const int64_t samples : {3, 150}) {
      std::vector<float> l = random_normals(2 * samples, 1);
      l[2] = bad;
      const ImportanceWeights w = importance_weights(tensor(l, samples));
      EXPECT_TRUE(std::isnan(w.log_mean.value().to_host()[0]));
      EXPECT_TRUE(std::isnan(w.effective_sample_size.to_host()[0]));
      EXPECT_TRUE(std::isnan(w.weights.value().to_host()[0]));
      EXPECT_TRUE(std::isfinite(w.log_mean.value().to_host()[1]));
      EXPECT_TRUE(std::isnan(pareto_shape(tensor(l, samples)).to_host()[0]));
    }
  }
}

TEST_P(ImportanceWeightsOp, ManyRowsAreStoredPastTheCachesAlike) {
  if (on_simulated_device()) GTEST_SKIP() << "too many rows for the executor";
  const int64_t rows = 70'000, samples = 64;
  const auto l = random_normals(rows * samples, 2);
  const auto all = importance_weights(tensor(l, samples)).weights.value();
  const auto last = importance_weights(tensor({l.end() - samples, l.end()}, samples)).weights.value();
  EXPECT_EQ(all.rows(rows - 1, rows).to_host(), last.to_host());
}

TEST_P(ImportanceWeightsOp, BitsOfARowDependOnNoOther) {
  for (const int64_t samples : {3, 64, 700}) {
    const int64_t rows = 19;
    std::vector<float> l = random_normals(rows * samples, 8, 3);
    l[static_cast<std::size_t>(2 * samples)] = NAN;
    for (int64_t s = 0; s < samples; ++s) l[static_cast<std::size_t>(5 * samples + s)] = -INFINITY;
    const auto all = Tensor<float>::from(l, {rows, samples}, device());
    const ImportanceWeights together = importance_weights(all);
    for (const int64_t b : {0, 1, 4, 6, 7, 8, 17, 18}) {
      const ImportanceWeights alone = importance_weights(all.rows(b, b + 1).clone());
      EXPECT_EQ(alone.weights.value().to_host(), together.weights.value().rows(b, b + 1).to_host()) << b;
      EXPECT_EQ(alone.log_mean.value().to_host(), together.log_mean.value().rows(b, b + 1).to_host()) << b;
      EXPECT_EQ(alone.effective_sample_size.to_host(), together.effective_sample_size.rows(b, b + 1).to_host()) << b;
    }
  }
}

TEST_P(ImportanceWeightsOp, LeaveOneOutGainMatchesLongDouble) {
  for (const int64_t samples : {2, 3, 10, 33}) {
    for (const double spread : {0.5, 60.0}) {
      const auto l = random_normals(3 * samples, 8, spread, -200.0);
      Reals wanted;
      for (int64_t b = 0; b < 3; ++b) {
        const Reals row = row_of(l, b, samples);
        for (std::size_t s = 0; s < row.size(); ++s) {
          Reals replaced = row;
          replaced[s] = 0;
          for (std::size_t j = 0; j < row.size(); ++j) {
            if (j != s) replaced[s] += row[j] / static_cast<Real>(samples - 1);
          }
          wanted.push_back(test::log_sum_exp(row) - test::log_sum_exp(replaced));
        }
      }
      expect_close(leave_one_out_gain(tensor(l, samples)).to_host(), wanted, 10 * kImportanceWeightsError,
                   "S = " + std::to_string(samples));
    }
  }
}

TEST_P(ImportanceWeightsOp, LeaveOneOutGainOfRowsWithoutWeight) {
  EXPECT_EQ(leave_one_out_gain(tensor({-kInf, -kInf, -kInf, 3, -kInf, -kInf}, 3)).to_host(),
            (std::vector<float>{0, 0, 0, 0, 0, 0}));
  const auto two = leave_one_out_gain(tensor({-kInf, 0, 0}, 3)).to_host();
  EXPECT_NEAR(two[0], std::log(2.0 / 3.0), 1e-6) << "its place taken by the mean of two equal weights";
  EXPECT_NEAR(two[1], std::log(2.0), 1e-6) << "its place taken by nothing";
  EXPECT_TRUE(std::isnan(leave_one_out_gain(tensor({0, NAN}, 2)).to_host()[0]));
  EXPECT_TRUE(std::isnan(leave_one_out_gain(tensor({0, kInf}, 2)).to_host()[0]));
}

TEST_P(ImportanceWeightsOp, ParetoShapeIsThatOfTheFitByItsDescription) {
  for (const int64_t samples : {21, 25, 32, 100, 225, 1000}) {
    for (const double k : {0.2, 0.7, 1.5}) {
      const auto l = pareto(2 * samples, k, static_cast<uint64_t>(samples));
      const auto got = pareto_shape(tensor(l, samples)).to_host();
      for (int64_t b = 0; b < 2; ++b) {
        EXPECT_NEAR(got[static_cast<std::size_t>(b)], static_cast<double>(pareto_reference(row_of(l, b, samples))),
                    1e-3)
            << "S = " << samples << ", k = " << k;
      }
    }
  }
}

TEST_P(ImportanceWeightsOp, ParetoShapeFindsTheTailOfManyWeights) {
  for (const double k : {0.3, 0.7, 1.2}) {
    const int64_t samples = on_simulated_device() ? 4000 : 16384;
    const float got = pareto_shape(tensor(pareto(samples, k, 3), samples)).item();
    // Its standard error is about (1 + k) / sqrt(384).
    EXPECT_NEAR(got, k, 3 * (1 + k) / std::sqrt(on_simulated_device() ? 190 : 384)) << "k = " << k;
  }
}

TEST_P(ImportanceWeightsOp, ParetoShapeOfNothingToFitIsInfinite) {
  EXPECT_EQ(pareto_shape(tensor(random_normals(20, 1), 20)).item(), kInf) << "20 samples";
  EXPECT_EQ(pareto_shape(tensor(std::vector<float>(100, -3.0f), 100)).item(), kInf) << "all equal";
  std::vector<float> one(100, -kInf);
  EXPECT_EQ(pareto_shape(tensor(one, 100)).item(), kInf) << "none above 0";
  one[5] = 2;
  EXPECT_EQ(pareto_shape(tensor(one, 100)).item(), kInf) << "one above 0";
}

TEST_P(ImportanceWeightsOp, RefusesBadArguments) {
  EXPECT_THROW(importance_weights(Tensor<float>::zeros({2, 0}, device())), ShapeError);
  EXPECT_THROW(importance_weights(Tensor<float>::zeros({2}, device())), ShapeError);
  EXPECT_THROW(leave_one_out_gain(Tensor<float>::zeros({2, 1}, device())), ShapeError);
  EXPECT_THROW(pareto_shape(Tensor<float>::zeros({1, 16385}, device())), ArgumentError);
  EXPECT_EQ(importance_weights(Tensor<float>::zeros({0, 2}, device())).weights.value().size(), 0);
  EXPECT_EQ(pareto_shape(Tensor<float>::zeros({0, 50}, device())).size(), 0);
}

DGM_ON_EVERY_DEVICE(ImportanceWeightsOp);

}  // namespace
}  // namespace dgm::test
