// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/inference/compare.hpp>
#include <dgm/inference/elbo.hpp>
#include <dgm/inference/importance.hpp>
#include <dgm/inference/score_function.hpp>
#include <dgm/inference/wake_sleep.hpp>
#include <dgm/ops/densities.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/log_sum_exp.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/ops/vector_sample.hpp>

#include "tests/inference/linear_joint.hpp"
#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <cmath>
#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class LatentEstimators : public OnEveryDevice {
 protected:
  static constexpr int64_t kBits = 3;
  const std::vector<float> kData = {1.2f, -0.7f};

  // At least 1e5 draws of each datum.
  int64_t repetitions(int64_t samples) const { return kFewDraws ? 100 / samples : 100'000 / samples; }

  void expect_unbiased(const EstimatorReport& report) {
    EXPECT_LT(report.bias, 3 * report.bias_standard_error) << report.name;
    EXPECT_GT(report.variance, 0) << report.name << " draws nothing";
    EXPECT_LT(report.largest_z_score, 4.5) << report.name;
  }

  // ---- bits: everything can be summed ------------------------------------------------------------

  // All 2^D codes for each datum, (B, 2^D, D).
  Tensor<float> codes() const {
    std::vector<float> all;
    for (std::size_t b = 0; b < kData.size(); ++b) {
      for (int code = 0; code < 1 << kBits; ++code) {
        for (int d = 0; d < kBits; ++d) all.push_back(static_cast<float>(code >> d & 1));
      }
    }
    return Tensor<float>::from(all, {static_cast<int64_t>(kData.size()), 1 << kBits, kBits}, device());
  }
  Proposal bits_proposal(bool trained) {
    if (!all_.contains("proposal")) {
      all_.add("proposal", Tensor<float>::from(random_normals(2 * kBits, 33, 0.7), {2, kBits}, device()));
    }
    return [this, trained](Tape& tape) {
      Parameter& logits = all_["proposal"];
      return std::make_unique<BernoulliVector>(trained ? tape.watch(logits) : Variable(logits.value));
    };
  }
  Variable log_joint(const LatentJoint& joint, Tape& tape, const Variable& z) const {
    return joint.prior(tape)->log_prob(z) + joint.log_likelihood(tape, z);
  }

  Parameters all_;
};

TEST_P(LatentEstimators, ScoreFunctionIsUnbiasedForTheBoundWithEveryBaseline) {
  LinearJoint joint(all_, kData, kBits, true, device());
  const Proposal q = bits_proposal(true);
  const Deterministic elbo([&](Tape& tape) {
    const Variable z = codes();
    const Variable log_q = q(tape)->log_prob(z);
    return sum(exp(log_q) * (log_joint(joint, tape, z) - log_q));
  });
  const auto guess = [&](Tape&) { return Variable(Tensor<float>::from({-2, -1}, {2}, device())); };
  double plain = 0;
  for (const Baseline baseline : {Baseline::none, Baseline::running_mean, Baseline::learned, Baseline::leave_one_out}) {
    const ScoreFunction estimator(joint, q, {.samples = 4, .baseline = baseline, .predictions = guess});
    const auto report =
        compare({&estimator}, elbo, all_, Draws(5, device()).at(1), {.repetitions = repetitions(4)}).at(0);
    expect_unbiased(report);
    if (baseline == Baseline::none) plain = report.variance;
    if (baseline == Baseline::leave_one_out) {
      EXPECT_LT(report.variance, kFewDraws ? 1.5 * plain : plain) << "the baseline's purpose";
    }
  }
}

TEST_P(LatentEstimators, VimcoIsUnbiasedForTheMultiSampleBound) {
  LinearJoint joint(all_, kData, kBits, true, device());
  const Proposal q = bits_proposal(true);
  // Over all pairs of codes: sum q(z) q(z') log (w + w') / 2.
  const Deterministic bound([&](Tape& tape) {
    const Variable z = codes();
    const Variable log_q = q(tape)->log_prob(z);
    const Variable w = exp(log_joint(joint, tape, z) - log_q);
    const Variable p = exp(log_q);
    const int64_t n = 1 << kBits;
    const Variable mean = (reshape(w, {2, n, 1}) + reshape(w, {2, 1, n})) * 0.5f;
    return sum(log(mean) * (reshape(p, {2, n, 1}) * reshape(p, {2, 1, n})));
  });
  const ScoreFunction vimco(joint, q, {.samples = 2, .baseline = Baseline::vimco});
  expect_unbiased(compare({&vimco}, bound, all_, Draws(6, device()).at(1), {.repetitions = repetitions(2)}).at(0));
}

TEST_P(LatentEstimators, PosteriorWeightedGradientHasABiasThatFallsWithTheNumberOfSamples) {
  LinearJoint joint(all_, kData, kBits, true, device());
  Parameters model;  // without the proposal, whose own gradient has another aim
  const TabulatedJoint table([&](Tape& tape) { return log_joint(joint, tape, codes()); }, 2, device());
  const auto bias = [&](int64_t samples) {
    const ImportanceSampling estimator(joint, {}, samples);
    const auto report =
        compare({&estimator}, Exact(table), all_, Draws(7, device()).at(1), {.repetitions = repetitions(samples)})
            .at(0);
    EXPECT_GT(report.effective_sample_size, 1 - 1e-6);
    EXPECT_LE(report.effective_sample_size, static_cast<double>(samples) + 1e-4);
    return std::pair(report.bias, report.bias_standard_error);
  };
  const auto few = bias(2);
  const auto many = bias(32);
  if (kFewDraws) return;  // too few draws to see it
  EXPECT_GT(few.first, 6 * few.second) << "from the prior, two draws are biased";
  // Of order 1/S: 16 times less, from S = 2 on somewhat different from that.
  EXPECT_LT(many.first, few.first / 8 + 3 * many.second);
  EXPECT_GT(many.first, few.first / 40 - 3 * many.second);
}

TEST_P(LatentEstimators, DrawsFromThePosteriorHaveEqualWeightsAndGiveTheExactMarginal) {
  // One bit a datum, so that the posterior is again a vector of independent bits.
  LinearJoint joint(all_, kData, 1, true, device());
  const auto posterior = [&](Tape& tape) {
    const auto both = Tensor<float>::from({0, 1, 0, 1}, {2, 2, 1}, device());
    const Variable l = log_joint(joint, tape, both).detach();
    const auto minus_plus = Tensor<float>::from({-1, 1}, {2}, device());
    return std::make_unique<BernoulliVector>(reshape(sum(l * minus_plus, -1), {2, 1}));
  };
  const ImportanceSampling estimator(joint, posterior, 8);
  Tape tape;
  const Estimate estimate = estimator(tape, Draws(8, device()));
  Tape unused;
  const auto both = Tensor<float>::from({0, 1, 0, 1}, {2, 2, 1}, device());
  const auto exact = log_sum_exp(log_joint(joint, unused, both)).value().to_host();
  expect_close(estimate.log_marginal.to_host(), to_reals(exact), 3e-6, "log marginal");
  expect_close(estimate.effective_sample_size->to_host(), {8, 8}, 1e-4, "effective sample size");
}

// ---- Gaussian latent: known in closed form -------------------------------------------------------

class GaussianLatent : public LatentEstimators {
 protected:
  // p(x) = N(c, |w|^2 + 1).
  Variable log_marginal(const LinearJoint& joint, Tape& tape) {
    const Variable variance = sum(square(tape.watch(all_["w"]))) + 1.0f;
    const Variable gap = joint.x() - tape.watch(all_["c"]);
    return sum(square(gap) / variance * -0.5f - 0.918938533f) -
           log(variance) * (0.5f * static_cast<float>(kData.size()));
  }
  Proposal proposal(float shift = 0, float log_scale = -0.3f) {
    if (!all_.contains("q mean")) {
      all_.add("q mean", Tensor<float>::from({0.4f + shift, -0.3f + shift}, {2, 1}, device()));
      all_.add("q log scale", Tensor<float>::from({log_scale, log_scale + 0.1f}, {2, 1}, device()));
    }
    return [this](Tape& tape) {
      return std::make_unique<DiagonalGaussian>(tape.watch(all_["q mean"]), tape.watch(all_["q log scale"]));
    };
  }
  // The bound with S = 1 or 2 draws, by quadrature over the standard normal (trapezoids, 8 standard deviations).
  Deterministic::Objective bound(const LinearJoint& joint, const Proposal& q, int64_t samples) {
    return [this, &joint, q, samples](Tape& tape) {
      constexpr int64_t kPoints = 161;
      std::vector<float> nodes, weights, pairs;
      for (int64_t i = 0; i < kPoints; ++i) {
        const double e = -8 + 0.1 * static_cast<double>(i);
        nodes.push_back(static_cast<float>(e));
        weights.push_back(static_cast<float>(0.1 * std::exp(-e * e / 2) / std::sqrt(2 * std::acos(-1.0))));
      }
      const auto e = Tensor<float>::from(nodes, {kPoints, 1}, device());
      const auto weight = Tensor<float>::from(weights, {kPoints}, device());
      const auto distribution = q(tape);
      const auto& gaussian = dynamic_cast<const DiagonalGaussian&>(*distribution);
      const Variable z = reshape(gaussian.mean(), {2, 1, 1}) + exp(reshape(gaussian.log_scale(), {2, 1, 1})) * e;
      const Variable l = log_joint(joint, tape, z) - gaussian.log_prob(z);  // (B, points)
      if (samples == 1) return sum(l * weight);
      const Variable w = exp(l);
      const Variable mean = (reshape(w, {2, kPoints, 1}) + reshape(w, {2, 1, kPoints})) * 0.5f;
      return sum(log(mean) * (Variable(weight.reshape({kPoints, 1})) * weight));
    };
  }
};

TEST_P(GaussianLatent, ReparameterisedBoundIsUnbiasedWithAndWithoutAnalyticKl) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Proposal q = proposal();
  const Deterministic elbo(bound(joint, q, 1));
  double variance[2] = {};
  for (const bool analytic : {false, true}) {
    const ReparameterisedElbo estimator(joint, q, {.samples = 2, .analytic_kl = analytic});
    const auto report =
        compare({&estimator}, elbo, all_, Draws(9, device()).at(1), {.repetitions = repetitions(2)}).at(0);
    expect_unbiased(report);
    variance[analytic] = report.variance;
  }
  EXPECT_LT(variance[1], variance[0] * 1.2);
}

TEST_P(GaussianLatent, IwaeAndDoublyReparameterisedGradientsAreUnbiasedForTheMultiSampleBound) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Proposal q = proposal();
  for (const int64_t samples : {1, 2}) {
    const Deterministic reference(bound(joint, q, samples));
    const ImportanceSampling iwae(joint, q, samples, ImportanceGradient::iwae);
    const ImportanceSampling dreg(joint, q, samples, ImportanceGradient::dreg);
    const auto reports =
        compare({&iwae, &dreg}, reference, all_, Draws(10, device()).at(1), {.repetitions = repetitions(samples)});
    expect_unbiased(reports.at(0));
    expect_unbiased(reports.at(1));
    if (samples == 2 && !kFewDraws) {
      // Of the proposal's mean, where the terms that DReG leaves out are noise.
      EXPECT_LT(reports.at(1).parameters.at(2).variance, reports.at(0).parameters.at(2).variance);
    }
  }
}

TEST_P(GaussianLatent, ImportanceEstimatesApproachTheMarginalFromBelow) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Proposal q = proposal();
  Tape unused;
  const double exact = log_marginal(joint, unused).value().item();
  double last = -1e9;
  for (const int64_t samples : {1, 8, kFewDraws ? 500 : 20'000}) {
    const ImportanceSampling estimator(joint, q, samples, ImportanceGradient::iwae);
    double mean_bound = 0;
    const int64_t rounds = samples > 8 ? 1 : kFewDraws ? 60 : 3000;
    Draws draws(11, device());
    for (int64_t r = 0; r < rounds; ++r) {
      draws.set_step(r);
      Tape tape;
      for (const float value : estimator(tape, draws).log_marginal.to_host()) {
        mean_bound += value / static_cast<double>(rounds);
      }
    }
    EXPECT_GT(mean_bound, last);
    EXPECT_LT(mean_bound, exact + 0.05);
    last = mean_bound;
  }
  EXPECT_NEAR(last, exact, kFewDraws ? 0.1 : 0.02);
}

TEST_P(GaussianLatent, PosteriorWeightedGradientOfManyDrawsIsThatOfTheMarginal) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Deterministic exact([&](Tape& tape) { return log_marginal(joint, tape); });
  const ImportanceSampling estimator(joint, {}, kFewDraws ? 200 : 4000);
  const auto report =
      compare({&estimator}, exact, all_, Draws(12, device()).at(1), {.repetitions = kFewDraws ? 5 : 100}).at(0);
  EXPECT_LT(report.bias, 0.02 * report.gradient_norm + 3 * report.bias_standard_error);
  EXPECT_LT(report.pareto_k, 0.7) << "the prior covers this posterior";
}

// q(z | x) = N(slope x + shift, exp(log_scale)^2), the same function for every x.
class AmortisedLatent : public GaussianLatent {
 protected:
  void SetUp() override {
    GaussianLatent::SetUp();
    if (IsSkipped()) return;
    all_.add("slope", Tensor<float>::from({0.6f}, {1}, device()));
    all_.add("shift", Tensor<float>::from({-0.4f}, {1}, device()));
    all_.add("log scale", Tensor<float>::from({-0.2f}, {1}, device()));
  }
  DiagonalGaussian q(Tape& tape, const Variable& x) {
    const Variable mean = x * tape.watch(all_["slope"]) + tape.watch(all_["shift"]);
    return {mean, Tensor<float>::zeros(x.shape(), device()) + tape.watch(all_["log scale"])};
  }
  Proposal proposal_for(const LinearJoint& joint) {
    return [this, &joint](Tape& tape) { return std::make_unique<DiagonalGaussian>(q(tape, joint.x())); };
  }
  // As many dreams as data, times `times`.
  Sleep sleep(int64_t times) {
    return [this, times](Tape& tape, const Draws& draws) {
      const auto dreams = times * static_cast<int64_t>(kData.size());
      const auto zeros = Tensor<float>::zeros({dreams, 1}, device());
      const Variable z = reshape(gaussian_sample(zeros, zeros, draws), {dreams, 1});
      const Variable noise = reshape(gaussian_sample(zeros, zeros, draws.at(kSleepSite + 1)), {dreams, 1});
      const Variable x = z * all_["w"].value + all_["c"].value + noise;
      return q(tape, x).log_prob(z);
    };
  }
  // E log q(z | x) over one dream: z - slope x - shift = (1 - slope w) z - slope e - (slope c + shift).
  Variable expected_dream(Tape& tape) {
    const Variable slope = tape.watch(all_["slope"]);
    const Variable log_scale = tape.watch(all_["log scale"]);
    const Variable square_gap = square(1.0f - slope * all_["w"].value) + square(slope) +
                                square(slope * all_["c"].value + tape.watch(all_["shift"]));
    return sum(log_scale * -1.0f - square_gap * 0.5f * exp(log_scale * -2.0f));
  }
  // E_q log p(x | z) over the data by the model alone.
  Variable expected_wake(const LinearJoint& joint, Tape& tape) {
    Tape unused = Tape::without_parameters();
    const DiagonalGaussian held = q(unused, joint.x());
    const Variable w = tape.watch(all_["w"]);
    const Variable gap = joint.x() - held.mean() * w - tape.watch(all_["c"]);
    return sum(square(gap) + square(w) * exp(held.log_scale() * 2.0f)) * -0.5f;
  }
};

TEST_P(AmortisedLatent, WakeSleepTrainsTheModelAwakeAndTheProposalOnDreams) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Deterministic reference([&](Tape& tape) { return expected_wake(joint, tape) + expected_dream(tape) * 6.0f; });
  const WakeSleep estimator(joint, proposal_for(joint), sleep(3), 4);
  const auto report =
      compare({&estimator}, reference, all_, Draws(21, device()).at(1), {.repetitions = repetitions(4)}).at(0);
  expect_unbiased(report);
  for (const auto& parameter : report.parameters) EXPECT_GT(parameter.gradient_norm, 0.1) << parameter.name;
  Tape tape;
  const Estimate estimate = estimator(tape, Draws(21, device()));
  EXPECT_EQ(estimate.log_marginal.shape(), (Shape{2}));
}

TEST_P(AmortisedLatent, ReweightedPhasesAddUpAsTheyAreNamed) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Proposal proposal = proposal_for(joint);
  const auto gradient = [&](const Estimator& estimator) {
    all_.zero_grad();
    Tape tape;
    tape.backward(estimator(tape, Draws(22, device()).at(1)).objective);
    return all_.flat_grad().to_host();
  };
  all_.zero_grad();
  {
    Tape tape;
    tape.backward(sum(sleep(2)(tape, Draws(22, device()).at(kSleepSite))));
  }
  const auto dreams = all_.flat_grad().to_host();
  const auto wake = gradient(ImportanceSampling(joint, proposal, 5));
  const auto model_only = gradient(ImportanceSampling(
      joint, [&](Tape& tape) { return proposal(tape)->detach(); }, 5));
  const auto weighted = gradient(WakeSleep(joint, proposal, sleep(2), 5, WakePhase::weighted));
  const auto both = gradient(WakeSleep(joint, proposal, sleep(2), 5, WakePhase::weighted_with_proposal));
  Reals wanted_weighted, wanted_both;
  for (std::size_t i = 0; i < dreams.size(); ++i) {
    wanted_weighted.push_back(Real{model_only[i]} + dreams[i]);
    wanted_both.push_back(Real{wake[i]} + dreams[i]);
  }
  expect_close(weighted, wanted_weighted, 1e-5, "model awake, proposal asleep");
  expect_close(both, wanted_both, 1e-5, "the proposal awake and asleep");
  EXPECT_NE(weighted, both);
}

TEST_P(AmortisedLatent, DataThatNoDrawExplainsLeaveTheDreams) {
  LinearJoint joint(all_, kData, 1, false, device());
  joint.spoil(-kInf);
  for (const WakePhase phase : {WakePhase::unweighted, WakePhase::weighted}) {
    all_.zero_grad();
    Tape tape;
    const Estimate estimate =
        WakeSleep(joint, proposal_for(joint), sleep(1), 3, phase)(tape, Draws(23, device()).at(1));
    tape.backward(estimate.objective);
    EXPECT_EQ(estimate.log_marginal.to_host(), (std::vector<float>{-kInf, -kInf}));
    for (const char* const name : {"w", "c"}) EXPECT_EQ(all_[name].grad.to_host(), std::vector<float>{0}) << name;
    EXPECT_NE(all_["slope"].grad.item(), 0);
  }
  EXPECT_THROW(WakeSleep(joint, {}, sleep(1)), ArgumentError);
  EXPECT_THROW(WakeSleep(joint, proposal_for(joint), {}), ArgumentError);
  EXPECT_THROW(WakeSleep(joint, proposal_for(joint), sleep(1), 0), ArgumentError);
}

TEST_P(GaussianLatent, FreeBitsStopTheKlFromBeingPushedDownAndWeightsScaleIt) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Proposal q = proposal();
  const auto gradient = [&](const ElboOptions& options) {
    all_.zero_grad();
    Tape tape;
    const ReparameterisedElbo estimator(joint, q, options);
    const Estimate estimate = estimator(tape, Draws(13, device()).at(1));
    tape.backward(estimate.objective);
    return std::pair(all_["q log scale"].grad.to_host(), estimate.log_marginal.to_host());
  };
  const auto none = Tensor<float>::from({0}, {}, device());
  const auto half = Tensor<float>::from({0.5f}, {}, device());
  const auto plain = gradient({});
  const auto free = gradient({.free_bits = 100});
  const auto unweighted = gradient({.kl_weight = none});
  const auto halfway = gradient({.kl_weight = half});
  expect_close(free.first, to_reals(unweighted.first), 1e-6, "a KL below the free bits has no gradient");
  EXPECT_NE(plain.first, free.first);
  for (std::size_t i = 0; i < plain.first.size(); ++i) {
    EXPECT_NEAR(halfway.first[i], (plain.first[i] + unweighted.first[i]) / 2, 1e-5);
  }
  EXPECT_EQ(plain.second, free.second) << "the bound that is reported";
  EXPECT_EQ(plain.second, halfway.second);
  const auto generous = gradient({.free_bits = 1e-6f});
  expect_close(generous.first, to_reals(plain.first), 1e-5, "a KL above the free bits is charged as ever");
}

TEST_P(GaussianLatent, ComparisonWarnsOfAProposalThatMissesThePosterior) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Deterministic exact([&](Tape& tape) { return log_marginal(joint, tape); });
  const Proposal narrow = proposal(0, -3.0f);
  const ImportanceSampling misses(joint, narrow, 50);
  const ImportanceSampling covers(joint, {}, 50);
  const auto reports =
      compare({&misses, &covers}, exact, all_, Draws(14, device()).at(1), {.repetitions = kFewDraws ? 10 : 200});
  EXPECT_GT(reports.at(0).pareto_k, 0.7);
  EXPECT_LT(reports.at(1).pareto_k, 0.7);
  const std::string table = comparison_table(reports);
  EXPECT_NE(table.find("importance (S = 50): k-hat is"), std::string::npos) << table;
  EXPECT_EQ(table.find("importance from the prior (S = 50): k-hat is"), std::string::npos) << table;
  const std::string parameters = parameter_table(reports);
  EXPECT_NE(parameters.find("q log scale"), std::string::npos) << parameters;
}

TEST_P(GaussianLatent, DataThatNoDrawExplainsGiveNoGradientAndAreReported) {
  LinearJoint joint(all_, kData, 1, false, device());
  const Proposal q = proposal();
  joint.spoil(-kInf);
  for (const ImportanceGradient kind :
       {ImportanceGradient::posterior_weighted, ImportanceGradient::iwae, ImportanceGradient::dreg}) {
    all_.zero_grad();
    Tape tape;
    const ImportanceSampling estimator(joint, q, 3, kind);
    const Estimate estimate = estimator(tape, Draws(15, device()));
    tape.backward(estimate.objective);
    EXPECT_EQ(estimate.log_marginal.to_host(), (std::vector<float>{-kInf, -kInf})) << estimator.name();
    EXPECT_EQ(estimate.effective_sample_size->to_host(), (std::vector<float>{0, 0})) << estimator.name();
    EXPECT_TRUE(std::isfinite(estimate.objective.value().item())) << estimator.name();
    for (const float g : all_.flat_grad().to_host()) ASSERT_EQ(g, 0) << estimator.name();
  }
  joint.spoil(NAN);
  Tape tape;
  const ImportanceSampling estimator(joint, q, 3, ImportanceGradient::iwae);
  EXPECT_TRUE(std::isnan(estimator(tape, Draws(15, device())).objective.value().item())) << "a NaN must not pass";
}

TEST_P(GaussianLatent, EstimatorsRefuseWhatTheyCannotDo) {
  LinearJoint joint(all_, kData, kBits, true, device());
  const Proposal bits = bits_proposal(true);
  Tape tape;
  const Draws draws(1, device());
  EXPECT_THROW(ImportanceSampling(joint, bits, 0), ArgumentError);
  EXPECT_THROW(ImportanceSampling(joint, bits, 2, ImportanceGradient::iwae)(tape, draws), ArgumentError);
  EXPECT_THROW(ReparameterisedElbo(joint, bits)(tape, draws), ArgumentError);
  EXPECT_THROW(ReparameterisedElbo(joint, bits, {.samples = 0}), ArgumentError);
  EXPECT_THROW(ReparameterisedElbo(joint, bits, {.analytic_kl = false, .free_bits = 1}), ArgumentError);
  EXPECT_THROW(ScoreFunction(joint, bits, {.samples = 1, .baseline = Baseline::leave_one_out}), ArgumentError);
  EXPECT_THROW(ScoreFunction(joint, bits, {.baseline = Baseline::learned}), ArgumentError);
  EXPECT_THROW(ScoreFunction(joint, bits, {.decay = 1}), ArgumentError);
}

DGM_ON_EVERY_DEVICE(LatentEstimators);
DGM_ON_EVERY_DEVICE(GaussianLatent);
DGM_ON_EVERY_DEVICE(AmortisedLatent);

}  // namespace
}  // namespace dgm::test
