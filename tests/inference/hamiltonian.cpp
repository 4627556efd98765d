// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/graph.hpp>
#include <dgm/inference/compare.hpp>
#include <dgm/inference/hamiltonian.hpp>

#include "tests/inference/linear_joint.hpp"
#include "tests/support/devices.hpp"

#include <cmath>
#include <limits>

namespace dgm::test {
namespace {

// x ~ N(w . z + c, 1) with z ~ N(0, I): the posterior has precision I + w w', mean w (x - c) / (1 + |w|^2).
class HamiltonianEstimator : public OnEveryDevice {
 protected:
  static constexpr int64_t kDims = 2;
  const std::vector<float> kData = {1.2f, -0.7f, 2.5f};

  std::vector<double> weights() {
    const auto w = all_["w"].value.to_host();
    return {w.begin(), w.end()};
  }
  double squared_norm() {
    double result = 0;
    for (const double w : weights()) result += w * w;
    return result;
  }
  double posterior_mean(std::size_t datum, std::size_t d) {
    return weights()[d] * (kData[datum] - 0.3) / (1 + squared_norm());
  }
  // p(x) = N(c, |w|^2 + 1), all its constants left out.
  Deterministic exact(const LinearJoint& joint) {
    return Deterministic([this, &joint](Tape& tape) {
      const Variable variance = sum(square(tape.watch(all_["w"]))) + 1.0f;
      const Variable gap = joint.x() - tape.watch(all_["c"]);
      return sum(square(gap) / variance * -0.5f) - log(variance) * (0.5f * static_cast<float>(kData.size()));
    });
  }
  // A proposal far off, the same for all data.
  Proposal from_afar(float mean) const {
    return [this, mean](Tape&) {
      const Shape shape = {static_cast<int64_t>(kData.size()), kDims};
      return std::make_unique<DiagonalGaussian>(Tensor<float>::full(shape, mean, device()),
                                                Tensor<float>::full(shape, -1.0f, device()));
    };
  }
  Parameters all_;
};

TEST_P(HamiltonianEstimator, DrawsHaveTheMomentsOfTheKnownPosterior) {
  LinearJoint joint(all_, kData, kDims, false, device());
  const int64_t chains = kFewDraws ? 60 : 8000;
  const auto data = static_cast<int64_t>(kData.size());
  const PersistentChains kept(data, chains, kDims, device());
  const HamiltonianMonteCarlo hmc(joint, from_afar(2),
                                  {.chains = chains, .warm_up = kFewDraws ? 15 : 40, .leaps = 7, .persistent = kept});
  Tape tape;
  const Estimate estimate = hmc(tape, Draws(1, device()).at(1));
  const auto z = kept.z.to_host();
  const auto n = static_cast<double>(chains);
  const double norm = squared_norm();
  for (std::size_t b = 0; b < kData.size(); ++b) {
    double mean[2] = {}, square[2] = {}, product = 0;
    for (std::size_t c = 0; c < static_cast<std::size_t>(chains); ++c) {
      const float* const place = z.data() + (b * static_cast<std::size_t>(chains) + c) * 2;
      for (int d = 0; d < 2; ++d) {
        mean[d] += place[d] / n;
        square[d] += place[d] * place[d] / n;
      }
      product += place[0] * place[1] / n;
    }
    double variance[2];
    for (std::size_t d = 0; d < 2; ++d) {
      variance[d] = 1 - weights()[d] * weights()[d] / (1 + norm);
      EXPECT_NEAR(mean[d], posterior_mean(b, d), 4 * std::sqrt(variance[d] / n)) << "datum " << b << ", " << d;
      EXPECT_NEAR(square[d] - mean[d] * mean[d], variance[d], 4 * variance[d] * std::sqrt(2 / n));
    }
    const double covariance = -weights()[0] * weights()[1] / (1 + norm);
    EXPECT_NEAR(product - mean[0] * mean[1], covariance,
                4 * std::sqrt((variance[0] * variance[1] + covariance * covariance) / n));
  }
  for (const float rate : estimate.acceptance_rate->to_host()) EXPECT_NEAR(rate, 0.8, kFewDraws ? 0.2 : 0.07);
}

TEST_P(HamiltonianEstimator, GradientIsThatOfTheMarginalOnceChainsHaveForgottenWhereTheyBegan) {
  LinearJoint joint(all_, kData, kDims, false, device());
  // 1e5 draws in all.
  const int64_t chains = kFewDraws ? 20 : 500, moves = kFewDraws ? 2 : 10, repetitions = kFewDraws ? 4 : 40;
  const HamiltonianMonteCarlo hmc(joint, {},
                                  {.chains = chains, .warm_up = kFewDraws ? 10 : 40, .moves = moves, .leaps = 5});
  const auto report = compare({&hmc}, exact(joint), all_, Draws(2, device()).at(1), {.repetitions = repetitions}).at(0);
  EXPECT_LT(report.bias, 3 * report.bias_standard_error) << report.bias_standard_error;
  if (!kFewDraws) {
    EXPECT_LT(report.bias, 0.02 * report.gradient_norm);
    EXPECT_NEAR(report.acceptance_rate, 0.8, 0.1);
  }
  const std::string table = comparison_table({report});
  EXPECT_NE(table.find("accepted"), std::string::npos) << table;
}

TEST_P(HamiltonianEstimator, BiasFallsGeometricallyWithTheMoves) {
  if (on_simulated_device()) GTEST_SKIP() << "too few draws to see it";
  LinearJoint joint(all_, kData, kDims, false, device());
  // Small steps, so that it takes many moves to arrive; all are of the warm-up but one.
  const auto bias = [&](int64_t warm_up) {
    const HamiltonianMonteCarlo hmc(joint, from_afar(4),
                                    {.chains = 1000, .warm_up = warm_up, .leaps = 1, .first_step = 0.03});
    const auto report =
        compare({&hmc}, exact(joint), all_, Draws(3, device()).at(1), {.repetitions = kFewDraws ? 2 : 20}).at(0);
    return std::pair(report.bias, report.bias_standard_error);
  };
  const auto none = bias(0);
  const auto few = bias(5);
  const auto some = bias(10);
  const auto many = bias(80);
  EXPECT_GT(none.first, 20 * none.second) << "chains begin far off";
  EXPECT_LT(few.first, 0.6 * none.first);
  EXPECT_LT(some.first, 0.6 * few.first);
  EXPECT_LT(many.first, 3.5 * many.second);
}

TEST_P(HamiltonianEstimator, ATrainedProposalIsDrawnToThePosterior) {
  LinearJoint joint(all_, kData, 1, false, device());
  all_.add("q mean", Tensor<float>::from({0.4f, -0.3f, 0.1f}, {3, 1}, device()));
  all_.add("q log scale", Tensor<float>::from({-0.3f, 0.1f, 0.2f}, {3, 1}, device()));
  const Proposal q = [this](Tape& tape) {
    return std::make_unique<DiagonalGaussian>(tape.watch(all_["q mean"]), tape.watch(all_["q log scale"]));
  };
  // log p(x) + E_{p(z|x)} log q(z), with the posterior held constant.
  const Deterministic marginal = exact(joint);
  const Deterministic reference([&](Tape& tape) {
    const float variance = static_cast<float>(1 / (1 + squared_norm()));
    std::vector<float> means;
    for (std::size_t b = 0; b < kData.size(); ++b) means.push_back(static_cast<float>(posterior_mean(b, 0)));
    const Variable log_scale = tape.watch(all_["q log scale"]);
    const Variable gap = Tensor<float>::from(means, {3, 1}, device()) - tape.watch(all_["q mean"]);
    return marginal(tape, Draws(1, device())).objective -
           sum(log_scale + (square(gap) + variance) * 0.5f * exp(log_scale * -2.0f));
  });
  const HamiltonianMonteCarlo hmc(
      joint, q, {.chains = kFewDraws ? 20 : 400, .warm_up = kFewDraws ? 10 : 30, .moves = 2, .leaps = 5});
  const auto report =
      compare({&hmc}, reference, all_, Draws(4, device()).at(1), {.repetitions = kFewDraws ? 4 : 50}).at(0);
  EXPECT_LT(report.bias, 3 * report.bias_standard_error);
  EXPECT_EQ(report.parameters.at(2).name, "q mean");
  EXPECT_LT(report.parameters.at(2).bias, 3.5 * report.parameters.at(2).bias_standard_error);
  EXPECT_GT(report.parameters.at(2).gradient_norm, 0.5);
}

// A joint of chosen data of a data set.
class PartialJoint : public LinearJoint {
 public:
  PartialJoint(Parameters& parameters, const std::vector<float>& x, const std::vector<int64_t>& numbers,
               const Stream& stream)
      : LinearJoint(parameters, x, kPartialDims, false, stream),
        numbers_(Tensor<int64_t>::from(numbers, {static_cast<int64_t>(numbers.size())}, stream)) {}
  static constexpr int64_t kPartialDims = 2;
  const Tensor<int64_t>* data() const override { return &numbers_; }

 private:
  Tensor<int64_t> numbers_;
};

TEST_P(HamiltonianEstimator, PersistentChainsGoOnWhereTheirDatumStopped) {
  const PersistentChains kept(5, 3, 2, device());
  const HamiltonianOptions options = {.chains = 3, .warm_up = 2, .leaps = 2, .persistent = kept};
  const auto visit = [&](const std::vector<float>& x, const std::vector<int64_t>& numbers, int64_t step) {
    Parameters parameters;
    PartialJoint joint(parameters, x, numbers, device());
    Draws draws(5, device());
    draws.set_step(step);
    Tape tape;
    HamiltonianMonteCarlo(joint, {}, options)(tape, draws.at(1));
  };
  visit({1.0f, 2.0f}, {3, 1}, 0);
  const auto first = kept.z.to_host();
  for (const std::size_t n : {0, 2, 4}) {
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(first[6 * n + i], 0) << "datum " << n << " was not visited";
    EXPECT_EQ(kept.steps.to_host()[4 * n + 3], 0);
  }
  for (const std::size_t n : {1, 3}) {
    for (std::size_t i = 0; i < 6; ++i) EXPECT_NE(first[6 * n + i], 0) << "datum " << n << " was visited";
    EXPECT_EQ(kept.steps.to_host()[4 * n + 3], 2);
  }
  // The first visit is that of chains without a past.
  {
    const PersistentChains other(5, 3, 2, device());
    Parameters parameters;
    PartialJoint joint(parameters, {2.0f, 1.0f}, {1, 3}, device());
    HamiltonianOptions elsewhere = options;
    elsewhere.persistent = other;
    Tape tape;
    HamiltonianMonteCarlo(joint, {}, elsewhere)(tape, Draws(5, device()).at(1));
    EXPECT_EQ(other.z.to_host(), first) << "neither the order nor the company of data enters";
  }
  visit({2.0f, 0.5f}, {1, 0}, 1);
  const auto second = kept.z.to_host();
  EXPECT_EQ(std::vector<float>(second.begin() + 18, second.begin() + 24),
            std::vector<float>(first.begin() + 18, first.begin() + 24))
      << "a datum that is not in the batch";
  EXPECT_NE(std::vector<float>(second.begin() + 6, second.begin() + 12),
            std::vector<float>(first.begin() + 6, first.begin() + 12))
      << "a datum that is";
  EXPECT_EQ(kept.steps.to_host()[4 * 1 + 3], 4) << "adaptation goes on";
  // With one move of tiny steps a chain is still near where it was, not at a new draw.
  HamiltonianOptions still = options;
  still.first_step = 1e-4;
  still.leaps = 1;
  Parameters parameters;
  PartialJoint joint(parameters, {2.0f}, {1}, device());
  auto flat = kept.steps.to_host();
  flat[4] = flat[5] = flat[6] = 0;
  PersistentChains steady = kept;
  steady.steps.copy_from(Tensor<float>::from(flat, {5, 4}, device()));
  still.persistent = steady;
  Tape tape;
  Draws draws(5, device());
  draws.set_step(2);
  HamiltonianMonteCarlo(joint, {}, still)(tape, draws.at(1));
  const auto third = steady.z.to_host();
  for (std::size_t i = 6; i < 12; ++i) EXPECT_NEAR(third[i], second[i], 0.05);
}

TEST_P(HamiltonianEstimator, AStepCanBeCapturedAsAGraphAndReplaysDrawAnew) {
  const Stream stream = Stream::create(device());
  LinearJoint joint(all_, kData, kDims, false, stream);
  const PersistentChains kept(3, 2, kDims, stream);
  const HamiltonianMonteCarlo hmc(joint, {}, {.chains = 2, .warm_up = 2, .leaps = 2, .persistent = kept});
  Draws draws(6, stream);
  const auto step = [&] {
    Tape tape;
    tape.backward(hmc(tape, draws.at(1)).objective);
  };
  all_.zero_grad();
  for (int64_t i = 0; i < 3; ++i) {
    draws.set_step(i);
    step();
  }
  const auto eager_z = kept.z.to_host();
  const auto eager_gradient = all_.flat_grad().to_host();

  PersistentChains again = kept;
  again.z.copy_from(Tensor<float>::zeros(again.z.shape(), stream));
  again.steps.copy_from(Tensor<float>::zeros(again.steps.shape(), stream));
  all_.zero_grad();
  draws.set_step(0);
  step();
  const Graph graph = Graph::capture(stream, step);
  for (int64_t i = 1; i < 3; ++i) {
    draws.set_step(i);
    graph.launch();
  }
  EXPECT_EQ(kept.z.to_host(), eager_z);
  EXPECT_EQ(all_.flat_grad().to_host(), eager_gradient);
}

TEST_P(HamiltonianEstimator, BitsDoNotDependOnTheNumberOfThreads) {
  const int before = cpu_threads();
  std::vector<std::vector<float>> gradients;
  for (const int threads : {1, 2}) {
    set_cpu_threads(threads);
    Parameters parameters;
    LinearJoint joint(parameters, random_normals(kFewDraws ? 30 : 3000, 7), kDims, false, device());
    const HamiltonianMonteCarlo hmc(joint, {}, {.chains = 3, .warm_up = 3, .leaps = 3});
    parameters.zero_grad();
    Tape tape;
    tape.backward(hmc(tape, Draws(7, device())).objective);
    gradients.push_back(parameters.flat_grad().to_host());
  }
  set_cpu_threads(before);
  EXPECT_EQ(gradients[0], gradients[1]);
}

TEST_P(HamiltonianEstimator, DataThatNoDrawExplainsGiveNoGradientAndAreReported) {
  LinearJoint joint(all_, kData, kDims, false, device());
  const HamiltonianMonteCarlo hmc(joint, {}, {.chains = 2, .warm_up = 2, .leaps = 2});
  const auto gradient_with = [&](float bad) {
    joint.spoil(bad);
    all_.zero_grad();
    Tape tape;
    Estimate estimate = hmc(tape, Draws(8, device()).at(1));
    tape.backward(estimate.objective);
    return estimate;
  };
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const Estimate excluded = gradient_with(-kInf);
  EXPECT_EQ(excluded.log_marginal.to_host(), (std::vector<float>(3, -kInf)));
  EXPECT_EQ(excluded.acceptance_rate->to_host(), (std::vector<float>(3, 0)));
  EXPECT_TRUE(std::isfinite(excluded.objective.value().item()));
  for (const float g : all_.flat_grad().to_host()) EXPECT_EQ(g, 0);

  const Estimate broken = gradient_with(NAN);
  EXPECT_TRUE(std::isnan(broken.objective.value().item())) << "a NaN must not pass";
  EXPECT_TRUE(std::isnan(broken.log_marginal.to_host()[0]));
}

TEST_P(HamiltonianEstimator, RefusesWhatItCannotDo) {
  Parameters bits;
  LinearJoint discrete(bits, kData, kDims, true, device());
  Tape tape;
  const Draws draws(1, device());
  EXPECT_THROW(HamiltonianMonteCarlo(discrete, {})(tape, draws), ArgumentError);
  LinearJoint joint(all_, kData, kDims, false, device());
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.chains = 0}), ArgumentError);
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.warm_up = -1}), ArgumentError);
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.moves = 0}), ArgumentError);
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.leaps = 0}), ArgumentError);
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.first_step = 0}), ArgumentError);
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.target = 1}), ArgumentError);
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.jitter = 1}), ArgumentError);
  const PersistentChains kept(3, 2, kDims, device());
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.chains = 2, .warm_up = 0, .persistent = kept}), ArgumentError);
  EXPECT_THROW(HamiltonianMonteCarlo(joint, {}, {.chains = 3, .persistent = kept})(tape, draws), ShapeError);
}

DGM_ON_EVERY_DEVICE(HamiltonianEstimator);

}  // namespace
}  // namespace dgm::test
