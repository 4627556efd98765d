// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/fit_mixture.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace dgm::test {
namespace {

class GaussianMixtures : public OnEveryDevice {
 protected:
  Tensor<float> data(const std::vector<float>& values, int64_t dims) {
    return Tensor<float>::from(values, {static_cast<int64_t>(values.size()) / dims, dims}, device());
  }
  // Three well separated round clusters with 1/2, 1/3 and 1/6 of the rows.
  Tensor<float> three_clusters(int64_t rows) {
    std::vector<float> x = random_normals(rows * 2, 21, 0.3);
    for (std::size_t n = 0; n < static_cast<std::size_t>(rows); ++n) {
      const std::size_t cluster = n % 6 < 3 ? 0 : n % 6 < 5 ? 1 : 2;
      x[2 * n] += cluster == 1 ? 3.0f : cluster == 2 ? -3.0f : 0.0f;
      x[2 * n + 1] += cluster == 0 ? 2.0f : -1.0f;
    }
    return data(x, 2);
  }
};

// log p(x) of one row, written out.
Real reference_log_density(const std::vector<double>& weights, const std::vector<double>& means,
                           const std::vector<double>& variances, const float* x, std::size_t dims) {
  Reals terms;
  for (std::size_t k = 0; k < weights.size(); ++k) {
    Real term = std::log(static_cast<Real>(weights[k]));
    for (std::size_t d = 0; d < dims; ++d) {
      const Real gap = x[d] - static_cast<Real>(means[k * dims + d]);
      const Real variance = variances[k * dims + d];
      term -= (std::log(2 * std::acos(-1.0L) * variance) + gap * gap / variance) / 2;
    }
    terms.push_back(term);
  }
  return test::log_sum_exp(terms);
}

TEST_P(GaussianMixtures, FindTheClustersThatMadeTheData) {
  const int64_t rows = 240;
  const auto x = three_clusters(rows);
  for (const Covariance covariance : {Covariance::diagonal, Covariance::full}) {
    const MixtureFit fit = fit_mixture_em(x, 3, covariance, {.restarts = 3});
    EXPECT_TRUE(fit.converged);
    std::vector<double> weights = fit.model.weights();
    std::sort(weights.begin(), weights.end());
    EXPECT_NEAR(weights[0], 1.0 / 6, 1e-3);
    EXPECT_NEAR(weights[1], 1.0 / 3, 1e-3);
    EXPECT_NEAR(weights[2], 1.0 / 2, 1e-3);
    const auto assigned = fit.model.assignments(x);
    for (std::size_t n = 6; n < assigned.size(); ++n) ASSERT_EQ(assigned[n], assigned[n % 6]) << "row " << n;
  }
}

TEST_P(GaussianMixtures, EmNeverLosesLikelihood) {
  const auto x = data(random_normals(300 * 3, 8), 3);
  for (const Covariance covariance : {Covariance::diagonal, Covariance::full}) {
    const MixtureFit fit = fit_mixture_em(x, 4, covariance, {.restarts = 1, .max_iterations = 60});
    ASSERT_GE(fit.history.size(), 3u);
    for (std::size_t i = 1; i < fit.history.size(); ++i) {
      EXPECT_GE(fit.history[i], fit.history[i - 1] - 1e-3) << "iteration " << i;
    }
    EXPECT_EQ(fit.history.back(), fit.log_likelihood);
  }
}

TEST_P(GaussianMixtures, HaveTheMomentsOfTheDataAfterOneIterationOfEm) {
  // Whatever the responsibilities were. The clusters overlap, so that means move in the iteration.
  constexpr std::size_t kDims = 3;
  std::vector<float> x = random_normals(int64_t{150} * kDims, 31);
  for (std::size_t n = 0; n < x.size() / kDims; ++n) {
    x[n * kDims + 1] += 0.8f * x[n * kDims];
    x[n * kDims + n % kDims] += n % 2 == 0 ? 2.0f : -1.0f;
  }
  const auto rows = static_cast<Real>(x.size() / kDims);
  Reals mean(kDims), covariance(kDims * kDims);
  for (std::size_t i = 0; i < x.size(); ++i) mean[i % kDims] += x[i] / rows;
  for (std::size_t n = 0; n < x.size(); n += kDims) {
    for (std::size_t e = 0; e < covariance.size(); ++e) {
      covariance[e] += (x[n + e / kDims] - mean[e / kDims]) * (x[n + e % kDims] - mean[e % kDims]) / rows;
    }
  }
  constexpr double kFloor = 1e-6;
  for (const Covariance shape : {Covariance::diagonal, Covariance::full}) {
    const MixtureFit fit =
        fit_mixture_em(data(x, kDims), 3, shape, {.restarts = 1, .max_iterations = 1, .variance_floor = kFloor});
    const std::vector<double> pi = fit.model.weights();
    const std::vector<double> means = fit.model.means();
    const std::vector<double> covariances = fit.model.covariances();
    const bool full = shape == Covariance::full;
    for (std::size_t i = 0; i < kDims; ++i) {
      Real first = 0;
      for (std::size_t k = 0; k < 3; ++k) first += pi[k] * means[k * kDims + i];
      EXPECT_NEAR(static_cast<double>(first), static_cast<double>(mean[i]), 1e-5) << "mean " << i << ", full " << full;
      for (std::size_t j = 0; j < kDims; ++j) {
        if (!full && j != i) continue;
        Real second = i == j ? -kFloor : 0.0;
        for (std::size_t k = 0; k < 3; ++k) {
          second += pi[k] * (covariances[full ? (k * kDims + i) * kDims + j : k * kDims + i] +
                             (means[k * kDims + i] - mean[i]) * (means[k * kDims + j] - mean[j]));
        }
        EXPECT_NEAR(static_cast<double>(second), static_cast<double>(covariance[i * kDims + j]), 1e-5)
            << "covariance " << i << ", " << j << ", full " << full;
      }
    }
  }
}

TEST_P(GaussianMixtures, GradientAscentReachesWhatEmReaches) {
  // On a GPU that is simulated, fewer rows and steps: it is the same code that runs.
  const bool few = device().is_cuda();
  const auto x = three_clusters(few ? 60 : 240);
  for (const Covariance covariance : {Covariance::diagonal, Covariance::full}) {
    const MixtureFit em = fit_mixture_em(x, 3, covariance, {.restarts = few ? 1 : 3});
    const MixtureFit sgd = fit_mixture_sgd(
        x, 3, covariance, {.restarts = few ? 1 : 3, .steps = few ? 150 : 1500, .batch = few ? 60 : 128});
    const double allowed = (few ? 0.05 : 0.001) * std::abs(em.log_likelihood);
    EXPECT_GT(sgd.log_likelihood, em.log_likelihood - allowed);
    EXPECT_GT(sgd.history.size(), 3u);
    EXPECT_EQ(sgd.history.back(), sgd.log_likelihood);
  }
}

TEST_P(GaussianMixtures, GradientAscentSaysWhetherItArrived) {
  // So slow that every run comes to rest where k-means++ put it: for one component that is the maximum,
  // for three on data without clusters it is not.
  const auto x = data(random_normals(60, 8), 2);
  for (const Covariance covariance : {Covariance::diagonal, Covariance::full}) {
    const auto converged = [&](int64_t components) {
      return fit_mixture_sgd(x, components, covariance, {.restarts = 1, .steps = 5, .batch = 16, .learning_rate = 1e-6})
          .converged;
    };
    EXPECT_TRUE(converged(1));
    EXPECT_FALSE(converged(3));
  }
}

TEST_P(GaussianMixtures, OneComponentIsTheMeanAndTheCovarianceOfTheData) {
  const std::vector<float> values = random_normals(400, 2, 2.0, 5.0);
  const auto x = data(values, 2);
  double mean[2] = {};
  double covariance[2][2] = {};
  for (std::size_t i = 0; i < 400; ++i) mean[i % 2] += values[i] / 200.0;
  for (std::size_t n = 0; n < 200; ++n) {
    for (int a = 0; a < 2; ++a) {
      for (int b = 0; b < 2; ++b) {
        covariance[a][b] += (values[2 * n + static_cast<std::size_t>(a)] - mean[a]) *
                            (values[2 * n + static_cast<std::size_t>(b)] - mean[b]) / 200.0;
      }
    }
  }
  const MixtureFit full = fit_mixture_em(x, 1, Covariance::full);
  const MixtureFit diagonal = fit_mixture_em(x, 1, Covariance::diagonal);
  for (std::size_t a = 0; a < 2; ++a) {
    EXPECT_NEAR(full.model.means()[a], mean[a], 1e-4);
    EXPECT_NEAR(diagonal.model.covariances()[a], covariance[a][a], 1e-4);
    for (std::size_t b = 0; b < 2; ++b) EXPECT_NEAR(full.model.covariances()[2 * a + b], covariance[a][b], 1e-4);
  }
  EXPECT_EQ(full.model.degrees_of_freedom(), 5);
  EXPECT_EQ(diagonal.model.degrees_of_freedom(), 4);
  EXPECT_NEAR(full.aic(), -2 * full.log_likelihood + 10, 1e-9);
  EXPECT_NEAR(full.bic(200), -2 * full.log_likelihood + 5 * std::log(200.0), 1e-9);
}

TEST_P(GaussianMixtures, KeepWhatTheyAreSetTo) {
  GaussianMixture model(2, 2, Covariance::full, device());
  const std::vector<double> covariances = {2.0, 0.5, 0.5, 1.0, 1.0, -0.3, -0.3, 0.5};
  model.set({3, 1}, {1, 2, 3, 4}, covariances);
  EXPECT_NEAR(model.weights()[0], 0.75, 1e-6);
  EXPECT_EQ(model.means(), (std::vector<double>{1, 2, 3, 4}));
  for (std::size_t i = 0; i < 8; ++i) EXPECT_NEAR(model.covariances()[i], covariances[i], 1e-6) << i;

  GaussianMixture diagonal(2, 2, Covariance::diagonal, device());
  diagonal.set({1, 3}, {0, 1, 2, 3}, {0.25, 1, 4, 9});
  const std::vector<float> values = random_normals(20, 1, 3.0);
  Reals wanted;
  for (std::size_t n = 0; n < 10; ++n) {
    wanted.push_back(reference_log_density({0.25, 0.75}, {0, 1, 2, 3}, {0.25, 1, 4, 9}, &values[2 * n], 2));
  }
  expect_close(diagonal.log_prob(data(values, 2)).to_host(), wanted, 1e-5, "log density");
  model.set({1, 3}, {0, 1, 2, 3}, {0.25, 0, 0, 1, 4, 0, 0, 9});
  expect_close(model.log_prob(data(values, 2)).to_host(), wanted, 1e-5, "log density, full");
}

TEST_P(GaussianMixtures, KeepTheBestOfRunsThatDiffer) {
  // No clusters: every start ends elsewhere.
  const auto x = data(random_normals(80, 31), 2);
  const auto fit = [&](uint64_t seed, int restarts, int iterations) {
    return fit_mixture_em(x, 5, Covariance::full, {.restarts = restarts, .max_iterations = iterations, .seed = seed});
  };
  const MixtureFit best = fit(1, 4, 30);
  ASSERT_EQ(best.restarts.size(), 4u);
  EXPECT_EQ(best.log_likelihood, *std::max_element(best.restarts.begin(), best.restarts.end()));
  EXPECT_NE(best.restarts[0], best.restarts[1]);
  double sum = 0;
  for (const float value : best.model.log_prob(x).to_host()) sum += value;
  EXPECT_NEAR(sum, best.log_likelihood, 1e-3) << "the model is that of another run";
  EXPECT_EQ(fit(1, 4, 30).restarts, best.restarts);
  EXPECT_NE(fit(2, 4, 30).restarts, best.restarts);
  EXPECT_FALSE(fit(1, 1, 2).converged) << "after two iterations";
}

TEST_P(GaussianMixtures, AssignTheFirstOfEqualsAndNoneWhereThereIsNoDensity) {
  GaussianMixture model(4, 1, Covariance::diagonal, device());
  model.set({0, 1, 1, 2}, {0, 1, 1, 5}, {1, 1, 1, 1});
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_EQ(model.assignments(data({0, 1, 5, nan, inf, 1e30f}, 1)), (std::vector<int32_t>{1, 1, 3, -1, -1, -1}));
}

TEST_P(GaussianMixtures, AssignMoreRowsThanAreLookedAtAtATime) {
  // 2^20 responsibilities at a time: 1024 rows of 1024 components.
  const std::size_t components = 1024;
  GaussianMixture model(components, 1, Covariance::diagonal, device());
  std::vector<double> means;
  for (std::size_t k = 0; k < components; ++k) means.push_back(10.0 * static_cast<double>(k));
  model.set(std::vector<double>(components, 1.0), means, std::vector<double>(components, 1.0));
  std::vector<float> x;
  std::vector<int32_t> wanted;
  for (int32_t n = 0; n < 1100; ++n) {
    wanted.push_back(7 * n % 1023);
    x.push_back(10.0f * static_cast<float>(wanted.back()));
  }
  EXPECT_EQ(model.assignments(data(x, 1)), wanted);
}

TEST_P(GaussianMixtures, RefuseParametersThatAreNoMixture) {
  GaussianMixture model(2, 1, Covariance::full, device());
  EXPECT_THROW(model.set({1}, {0, 0}, {1, 1}), ShapeError);
  EXPECT_THROW(model.set({3, -1}, {0, 0}, {1, 1}), ArgumentError);
  EXPECT_THROW(model.set({0, 0}, {0, 0}, {1, 1}), ArgumentError);
  EXPECT_THROW(model.set({1, 1}, {0, 0}, {1, 0}), NumericalError);
  EXPECT_THROW(GaussianMixture(0, 1, Covariance::full, device()), ArgumentError);
  EXPECT_THROW(GaussianMixture(1, 0, Covariance::full, device()), ArgumentError);
}

TEST_P(GaussianMixtures, WorkOnDataThatAreHardToCluster) {
  for (const Covariance covariance : {Covariance::diagonal, Covariance::full}) {
    // Duplicates only: every component at the one point, with the floor as variance.
    const MixtureFit same = fit_mixture_em(data(std::vector<float>(20, 1.5f), 2), 3, covariance, {.restarts = 2});
    EXPECT_TRUE(std::isfinite(same.log_likelihood));
    // By gradient the floor is all that holds the variances up.
    const MixtureFit climbed =
        fit_mixture_sgd(data(std::vector<float>(20, 1.5f), 2), 1, covariance,
                        {.restarts = 1, .steps = 100, .batch = 4, .learning_rate = 0.5, .variance_floor = 0.25});
    EXPECT_NEAR(climbed.model.covariances()[0], 0.25, 0.01);
    // A constant column.
    std::vector<float> values = random_normals(40, 4);
    for (std::size_t i = 1; i < values.size(); i += 2) values[i] = 7.0f;
    const MixtureFit constant = fit_mixture_em(data(values, 2), 2, covariance, {.restarts = 2});
    EXPECT_TRUE(std::isfinite(constant.log_likelihood));
    EXPECT_NEAR(constant.model.means()[1], 7.0, 1e-5);
    // One point far away from all others.
    values = random_normals(40, 4);
    values[0] = 1e6f;
    const MixtureFit outlier = fit_mixture_em(data(values, 2), 2, covariance, {.restarts = 2});
    EXPECT_TRUE(std::isfinite(outlier.log_likelihood));
    // As many components as rows, and one row.
    EXPECT_TRUE(std::isfinite(fit_mixture_em(data(random_normals(8, 6), 2), 4, covariance).log_likelihood));
    EXPECT_TRUE(std::isfinite(fit_mixture_em(data({1, 2}, 2), 1, covariance).log_likelihood));
  }
}

TEST_P(GaussianMixtures, RefuseDataTheyCannotWorkWith) {
  const auto x = data(random_normals(8, 6), 2);
  EXPECT_THROW(fit_mixture_em(x, 5, Covariance::full), ArgumentError);
  EXPECT_THROW(fit_mixture_em(x, 0, Covariance::full), ArgumentError);
  EXPECT_THROW(fit_mixture_em(x.reshape({8}), 1, Covariance::full), ShapeError);
  EXPECT_THROW(fit_mixture_em(x, 1, Covariance::full, {.restarts = 0}), ArgumentError);
  EXPECT_THROW(fit_mixture_em(x, 1, Covariance::full, {.variance_floor = 0}), ArgumentError);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> values = random_normals(8, 6);
    values[5] = bad;
    try {
      fit_mixture_em(data(values, 2), 1, Covariance::full);
      FAIL() << "no exception";
    } catch (const ArgumentError& error) {
      EXPECT_NE(std::string(error.what()).find("x[2, 1]"), std::string::npos) << error.what();
    }
  }
}

TEST_P(GaussianMixtures, DrawWhatTheyDescribe) {
  GaussianMixture model(2, 1, Covariance::diagonal, device());
  model.set({1, 3}, {-5, 5}, {0.25, 1});
  const int64_t count = device().is_cuda() ? 500 : 20000;
  const MixtureSample sample = model.sample(count, Draws(11, device()).at(2));
  const auto x = sample.x.to_host();
  const auto z = sample.z.to_host();
  double first = 0;
  for (std::size_t n = 0; n < x.size(); ++n) {
    first += z[n] == 0;
    ASSERT_EQ(z[n] == 0, x[n] < 0) << "row " << n << ", ten standard deviations apart";
  }
  EXPECT_NEAR(first / static_cast<double>(count), 0.25, 5 * std::sqrt(0.25 * 0.75 / static_cast<double>(count)));
}

DGM_ON_EVERY_DEVICE(GaussianMixtures);

}  // namespace
}  // namespace dgm::test
