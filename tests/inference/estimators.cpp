// SPDX-License-Identifier: Apache-2.0
#include <dgm/inference/compare.hpp>
#include <dgm/models/fit_mixture.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <algorithm>
#include <cmath>

namespace dgm::test {
namespace {

// One datum row b with K values of z: log p(x_b, z) = table[b, z], the table itself being the parameter.
class Estimators : public OnEveryDevice {
 protected:
  static constexpr int64_t kBatch = 4;
  static constexpr int64_t kValues = 5;

  void SetUp() override {
    OnEveryDevice::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    parameters_.add("table", Tensor<float>::from(random_normals(kBatch * kValues, 3), {kBatch, kValues}, device()));
  }
  TabulatedJoint joint() {
    return TabulatedJoint([this](Tape& tape) { return tape.watch(parameters_["table"]); }, kBatch, device());
  }
  // The posterior, which is the gradient of the log marginal by the table.
  Reals posterior() {
    Reals result;
    const Reals table = to_reals(parameters_["table"].value.to_host());
    for (std::size_t b = 0; b < kBatch; ++b) {
      const Reals row(table.begin() + b * kValues, table.begin() + (b + 1) * kValues);
      for (const Real value : row) result.push_back(std::exp(value - test::log_sum_exp(row)));
    }
    return result;
  }
  // Few under a simulated device, where a launch takes a thousand times as long.
  int64_t repetitions() const { return device().is_cuda() ? 200 : 4000; }

  Parameters parameters_;
};

TEST_P(Estimators, ExactGivesTheLogMarginalAndThePosteriorAsItsGradient) {
  Tape tape;
  const TabulatedJoint joint = this->joint();
  const Estimate estimate = Exact(joint)(tape, Draws(1, device()));
  tape.backward(estimate.objective);
  expect_close(parameters_["table"].grad.to_host(), posterior(), 1e-6, "gradient");
  Reals wanted;
  const Reals table = to_reals(parameters_["table"].value.to_host());
  for (std::size_t b = 0; b < kBatch; ++b) {
    wanted.push_back(test::log_sum_exp(Reals(table.begin() + b * kValues, table.begin() + (b + 1) * kValues)));
  }
  expect_close(estimate.log_marginal.to_host(), wanted, 1e-6, "log marginal");
}

TEST_P(Estimators, PosteriorSamplingIsUnbiasedWithTheVarianceThatTheoryGives) {
  // The gradient by table[b,k] is the share of samples with z = k: mean p_k, variance p_k (1 - p_k) / S.
  double single = 0;
  for (const Real p : posterior()) single += static_cast<double>(p * (1 - p));
  for (const int64_t samples : {1, 4}) {
    const TabulatedJoint joint = this->joint();
    const PosteriorSampling estimator(joint, samples);
    const auto reports =
        compare({&estimator}, joint, parameters_, Draws(7, device()).at(1), {.repetitions = repetitions()});
    const EstimatorReport& report = reports.at(0);
    const double wanted = single / static_cast<double>(samples);
    // The variance of a variance is about 2 / R relative for each of few terms.
    EXPECT_NEAR(report.variance / wanted, 1, 5 * std::sqrt(2.0 / static_cast<double>(repetitions())))
        << "S = " << samples;
    EXPECT_LT(report.largest_z_score, 4.0) << "S = " << samples << ": of 20 parameters, without bias";
    EXPECT_LT(report.bias, 3 * report.bias_standard_error) << "S = " << samples;
    EXPECT_NEAR(report.bias_standard_error, std::sqrt(report.variance / static_cast<double>(repetitions())), 1e-12);
    double norm = 0;
    for (const Real p : posterior()) norm += static_cast<double>(p * p);
    EXPECT_NEAR(report.gradient_norm, std::sqrt(norm), 1e-5);
    EXPECT_NEAR(report.signal_to_noise, std::sqrt(norm / report.variance), 1e-4);
    EXPECT_NEAR(report.effective_sample_size / static_cast<double>(samples), 1,
                10 * std::sqrt(1.0 / static_cast<double>(repetitions())))
        << "S = " << samples;
  }
}

TEST_P(Estimators, PosteriorSamplingTellsTheExactLogMarginal) {
  Tape one;
  Tape other;
  const TabulatedJoint joint = this->joint();
  EXPECT_EQ(PosteriorSampling(joint, 3)(one, Draws(1, device())).log_marginal.to_host(),
            Exact(joint)(other, Draws(1, device())).log_marginal.to_host());
}

TEST_P(Estimators, PosteriorSamplingDrawsByTheRowsNumberInTheDataSet) {
  GaussianMixture model(3, 1, Covariance::diagonal, device());
  model.set({1, 1, 1}, {-0.3, 0, 0.3}, {1, 1, 1});
  const auto x = Tensor<float>::from(std::vector<float>(40, 0.1f), {40, 1}, device());
  std::vector<int64_t> backwards;
  for (int64_t n = 39; n >= 0; --n) backwards.push_back(n);
  const auto data = Tensor<int64_t>::from(backwards, {40}, device());
  const Draws draws(5, device());
  std::vector<int32_t> z = MixtureJoint(model, x, &data).sample_posterior(draws, 1).to_host();
  std::reverse(z.begin(), z.end());
  EXPECT_EQ(z, MixtureJoint(model, x).sample_posterior(draws, 1).to_host());
}

TEST_P(Estimators, ComparisonFindsAnEstimatorThatIsBiasedAndNoisy) {
  class Halved : public Estimator {
   public:
    explicit Halved(const FiniteJoint& joint) : two_(joint, 2) {}
    std::string name() const override { return "halved"; }
    Estimate operator()(Tape& tape, const Draws& draws) const override {
      const Estimate whole = two_(tape, draws);
      return {whole.objective * 0.5f, whole.log_marginal};
    }

   private:
    PosteriorSampling two_;
  };
  const TabulatedJoint joint = this->joint();
  const Halved wrong(joint);
  const auto reports = compare({&wrong}, joint, parameters_, Draws(7, device()), {.repetitions = repetitions()});
  double half_norm = 0;
  for (const Real p : posterior()) half_norm += static_cast<double>(p * p / 4);
  half_norm = std::sqrt(half_norm);
  EXPECT_NEAR(reports.at(0).bias, half_norm, 4 * reports.at(0).bias_standard_error);
  EXPECT_GT(reports.at(0).largest_z_score, 10) << "too small is as wrong as too large";
}

TEST_P(Estimators, ComparisonFindsAnEstimatorThatIsBiased) {
  // Samples from the prior of nothing: always z = 0. As wrong as an estimator can be.
  class AlwaysZero : public Estimator {
   public:
    explicit AlwaysZero(const FiniteJoint& joint) : joint_(joint) {}
    std::string name() const override { return "always zero"; }
    Estimate operator()(Tape& tape, const Draws& draws) const override {
      const auto z = Tensor<int32_t>::zeros({joint_.batch(), 1}, joint_.stream());
      Tape unused;
      return {sum(joint_.log_joint(tape, z)), Exact(joint_)(unused, draws).log_marginal};
    }

   private:
    const FiniteJoint& joint_;
  };
  const TabulatedJoint joint = this->joint();
  const AlwaysZero wrong(joint);
  const Exact exact(joint);
  const auto reports = compare({&wrong, &exact}, joint, parameters_, Draws(7, device()), {.repetitions = 20});
  // Its gradient is 1 for z = 0; the exact one the posterior.
  double squares = 0;
  const Reals p = posterior();
  for (std::size_t i = 0; i < p.size(); ++i) {
    const Real gap = (i % kValues == 0 ? 1 : 0) - p[i];
    squares += static_cast<double>(gap * gap);
  }
  EXPECT_NEAR(reports.at(0).bias, std::sqrt(squares), 1e-5);
  EXPECT_EQ(reports.at(0).variance, 0);
  EXPECT_EQ(reports.at(1).bias, 0) << "the exact gradient, against itself";
  EXPECT_EQ(reports.at(1).variance, 0);
  EXPECT_TRUE(std::isinf(reports.at(1).effective_sample_size));
  EXPECT_EQ(parameters_["table"].grad.to_host(), std::vector<float>(kBatch * kValues, 0.0f)) << "left at zero";
}

TEST_P(Estimators, ComparisonPrintsALineForEachEstimator) {
  const TabulatedJoint joint = this->joint();
  const PosteriorSampling two(joint, 2);
  const Exact exact(joint);
  const std::string table =
      comparison_table(compare({&exact, &two}, joint, parameters_, Draws(7, device()), {.repetitions = 10}));
  EXPECT_NE(table.find("exact"), std::string::npos) << table;
  EXPECT_NE(table.find("posterior sampling (S = 2)"), std::string::npos) << table;
  EXPECT_NE(table.find("bias"), std::string::npos) << table;
}

TEST_P(Estimators, TrainAnyModelThroughTheSameInterface) {
  GaussianMixture model(3, 2, Covariance::full, device());
  const auto x = Tensor<float>::from(random_normals(50 * 2, 5, 2.0), {50, 2}, device());
  initialise_mixture(model, x, 1);
  const MixtureJoint mixture(model, x);
  const Exact exact(mixture);
  const PosteriorSampling sampling(mixture, 8);
  const auto reports = compare({&exact, &sampling}, mixture, model.parameters(), Draws(3, device()),
                               {.repetitions = device().is_cuda() ? 30 : 1000});
  EXPECT_EQ(reports.at(0).bias, 0);
  EXPECT_LT(reports.at(1).bias, 3 * reports.at(1).bias_standard_error);
  EXPECT_GT(reports.at(1).variance, 0);
}

TEST_P(Estimators, RefuseBadArguments) {
  const TabulatedJoint joint = this->joint();
  const Exact exact(joint);
  Parameters none;
  EXPECT_THROW(PosteriorSampling(joint, 0), ArgumentError);
  EXPECT_THROW(compare({}, joint, parameters_, Draws(1, device())), ArgumentError);
  EXPECT_THROW(compare({&exact}, joint, parameters_, Draws(1, device()), {.repetitions = 1}), ArgumentError);
  EXPECT_THROW(compare({&exact}, joint, none, Draws(1, device())), ArgumentError);
}

DGM_ON_EVERY_DEVICE(Estimators);

}  // namespace
}  // namespace dgm::test
