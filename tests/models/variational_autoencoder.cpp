// SPDX-License-Identifier: Apache-2.0
#include <dgm/inference/elbo.hpp>
#include <dgm/inference/hamiltonian.hpp>
#include <dgm/inference/importance.hpp>
#include <dgm/inference/wake_sleep.hpp>
#include <dgm/models/variational_autoencoder.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"

#include <cmath>

namespace dgm::test {
namespace {

using real = long double;

class Autoencoders : public OnEveryDevice {
 protected:
  // Parameters large enough that posteriors differ from the prior.
  VariationalAutoencoder model(int64_t latent = 1) {
    VariationalAutoencoder result(3, latent, {4, 2}, 5, device());
    for (Parameter& parameter : result.parameters()) {
      std::vector<float> values = parameter.value.to_host();
      for (std::size_t i = 0; i < values.size(); ++i) values[i] = 1.3f * values[i] + 0.1f * std::sin(1.0f + i);
      parameter.value.copy_from(Tensor<float>::from(values, parameter.value.shape(), device()));
    }
    return result;
  }
  Tensor<float> images() const { return Tensor<float>::from({1, 0, 1, 0, 0, 0, 1, 1, 0.25f}, {3, 3}, device()); }

  // A network's outputs for one input, by loops.
  static std::vector<real> network(VariationalAutoencoder& m, const std::string& name, std::vector<real> h) {
    for (int layer = 0; layer < 3; ++layer) {
      const std::string prefix = name + "." + std::to_string(layer);
      const Parameter& weight = m.parameters()[prefix + ".weight"];
      const std::vector<float> w = weight.value.to_host();
      const std::vector<float> b = m.parameters()[prefix + ".bias"].value.to_host();
      std::vector<real> y(b.begin(), b.end());
      for (std::size_t o = 0; o < y.size(); ++o) {
        for (std::size_t i = 0; i < h.size(); ++i) y[o] += static_cast<real>(w[o * h.size() + i]) * h[i];
        if (layer < 2) y[o] = std::tanh(y[o]);
      }
      h = y;
    }
    return h;
  }
  // log p(x | z) of one image.
  static real log_likelihood(VariationalAutoencoder& m, const float* x, const std::vector<real>& z) {
    const std::vector<real> logits = network(m, "decoder", z);
    real total = 0;
    for (std::size_t d = 0; d < logits.size(); ++d) total += x[d] * logits[d] - std::log1p(std::exp(logits[d]));
    return total;
  }
  static void expect_near_all(const std::vector<float>& got, const std::vector<float>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 1e-5) << i;
  }
  TempDir dir_;
};

TEST_P(Autoencoders, LikelihoodAndProposalAreThoseOfTheNetworks) {
  VariationalAutoencoder m = model(2);
  const std::vector<float> x = images().to_host();
  const std::vector<float> z = {0.3f, -1, 2, 0.5f, 0, 0, -0.2f, 1, 1, 1, -2, 0.1f};
  const AutoencoderBatch batch(m, images());
  Tape tape;
  const auto got = batch.log_likelihood(tape, Tensor<float>::from(z, {3, 2, 2}, device())).value().to_host();
  const auto q = batch.proposal()(tape);
  const auto& gaussian = dynamic_cast<const DiagonalGaussian&>(*q);
  const auto mean = gaussian.mean().value().to_host();
  const auto log_scale = gaussian.log_scale().value().to_host();
  for (std::size_t b = 0; b < 3; ++b) {
    for (std::size_t s = 0; s < 2; ++s) {
      const std::size_t at = 2 * b + s;
      EXPECT_NEAR(got[at], static_cast<double>(log_likelihood(m, &x[3 * b], {z[2 * at], z[2 * at + 1]})), 2e-6);
    }
    const std::vector<real> encoded = network(m, "encoder", {x[3 * b], x[3 * b + 1], x[3 * b + 2]});
    for (std::size_t d = 0; d < 2; ++d) {
      EXPECT_NEAR(mean[2 * b + d], static_cast<double>(encoded[d]), 2e-6);
      EXPECT_NEAR(log_scale[2 * b + d], static_cast<double>(encoded[2 + d]), 2e-6);
    }
  }
}

TEST_P(Autoencoders, EvidenceIsTheIntegralOverTheLatentVariable) {
  VariationalAutoencoder m = model();
  const std::vector<float> x = images().to_host();
  // 250 draws: three parts, the last one smaller.
  const int64_t samples = on_simulated_device() ? 250 : 200'050;
  const auto evidence = m.evidence(images(), samples, 3);
  ASSERT_EQ(evidence.log_marginal.size(), 3u);
  EXPECT_EQ(evidence.pareto_k.size(), samples > 16384 ? 0u : 3u);
  for (std::size_t b = 0; b < 3; ++b) {
    real total = 0;
    for (int i = 0; i <= 1600; ++i) {
      const real z = -8 + static_cast<real>(i) / 100;
      total += std::exp(log_likelihood(m, &x[3 * b], {z}) - z * z / 2) / 100 / std::sqrt(2 * std::acos(real{-1}));
    }
    EXPECT_NEAR(evidence.log_marginal[b], static_cast<double>(std::log(total)), on_simulated_device() ? 0.1 : 0.01);
  }
}

TEST_P(Autoencoders, EvidenceOfARowDoesNotDependOnTheOthers) {
  const VariationalAutoencoder m = model();
  std::vector<float> many;
  for (int n = 0; n < 23; ++n) many.insert(many.end(), {n % 2 == 0 ? 1.0f : 0.0f, n % 3 == 0 ? 1.0f : 0.0f, 0.0f});
  int64_t told = 0;
  const auto all = m.evidence(Tensor<float>::from(many, {23, 3}, device()), 7, 3, [&](int64_t done) { told = done; });
  const auto few = m.evidence(Tensor<float>::from(many, {23, 3}, device()).rows(0, 2), 7, 3);
  EXPECT_EQ(told, 23);
  ASSERT_EQ(all.log_marginal.size(), 23u);
  for (std::size_t n = 0; n < 2; ++n) EXPECT_NEAR(all.log_marginal[n], few.log_marginal[n], 1e-5);
  EXPECT_GT(std::abs(all.log_marginal[0] - all.log_marginal[6]), 1e-5) << "equal rows have draws of their own";
}

TEST_P(Autoencoders, EveryEstimatorTrainsBothNetworks) {
  VariationalAutoencoder m = model(2);
  const auto numbers = Tensor<int64_t>::from({4, 9, 2}, {3}, device());
  const AutoencoderBatch batch(m, images(), &numbers);
  const ReparameterisedElbo elbo(batch, batch.proposal());
  const ImportanceSampling iwae(batch, batch.proposal(), 3, ImportanceGradient::iwae);
  const ImportanceSampling dreg(batch, batch.proposal(), 3, ImportanceGradient::dreg);
  const ImportanceSampling weighted(batch, batch.proposal(), 3);
  const WakeSleep wake_sleep(batch, batch.proposal(), batch.sleep());
  const HamiltonianMonteCarlo hmc(batch, batch.proposal(), {.warm_up = 2, .leaps = 2});
  for (const Estimator* const estimator :
       std::initializer_list<const Estimator*>{&elbo, &iwae, &dreg, &weighted, &wake_sleep, &hmc}) {
    m.parameters().zero_grad();
    Tape tape;
    const Estimate estimate = (*estimator)(tape, Draws(1, device()));
    tape.backward(estimate.objective);
    for (const Parameter& parameter : m.parameters()) {
      double norm = 0;
      for (const float g : parameter.grad.to_host()) norm += std::abs(static_cast<double>(g));
      EXPECT_GT(norm, 0) << parameter.name << ", " << estimator->name();
      EXPECT_TRUE(std::isfinite(norm)) << parameter.name << ", " << estimator->name();
    }
  }
}

TEST_P(Autoencoders, GreyLevelsHaveProbabilitiesOfTheirOwn) {
  constexpr std::size_t kLevels = 4;
  VariationalAutoencoder m(3, 2, {4, 2}, 5, device(), kLevels);
  EXPECT_EQ(m.levels(), 4);
  const std::vector<std::size_t> levels = {0, 3, 1, 2, 2, 0};
  std::vector<float> x;
  for (const std::size_t level : levels) x.push_back(static_cast<float>(level) / 3);
  x.insert(x.end(), {0.5f, 1, 0});  // 0.5 lies halfway between levels 1 and 2
  const AutoencoderBatch batch(m, Tensor<float>::from(x, {3, 3}, device()));
  const std::vector<float> z = {0.3f, -1, 2, 0.5f, 0, 0, -0.2f, 1, 1, 1, -2, 0.1f};
  Tape tape;
  const auto got = batch.log_likelihood(tape, Tensor<float>::from(z, {3, 2, 2}, device())).value().to_host();
  for (std::size_t at = 0; at < 6; ++at) {
    const std::vector<real> logits = network(m, "decoder", {z[2 * at], z[2 * at + 1]});
    ASSERT_EQ(logits.size(), 3 * kLevels);
    real wanted = 0;
    for (std::size_t d = 0; d < 3; ++d) {
      real total = 0;
      for (std::size_t g = 0; g < kLevels; ++g) total += std::exp(logits[d * kLevels + g]);
      const real place = static_cast<real>(x[at / 2 * 3 + d]) * 3;
      for (std::size_t g = 0; g < kLevels; ++g) {
        wanted += std::max<real>(0, 1 - std::abs(place - g)) * (logits[d * kLevels + g] - std::log(total));
      }
    }
    EXPECT_NEAR(got[at], static_cast<double>(wanted), 3e-6) << at;
  }

  // Expected grey and draws of one pixel's logits, many times over.
  const int64_t n = on_simulated_device() ? 500 : 50'000;
  const std::vector<float> one = {0.5f, -1, 1.5f, 0, 0, 0, 0, 40, 2, 0, -2, 0.3f};
  std::vector<float> many;
  for (int64_t i = 0; i < n; ++i) many.insert(many.end(), one.begin(), one.end());
  const auto logits = Tensor<float>::from(many, {n, 3 * kLevels}, device());
  const auto expected = m.expected_pixels(logits).to_host();
  const auto drawn = m.draw_pixels(logits, Draws(4, device())).to_host();
  for (std::size_t d = 0; d < 3; ++d) {
    real p[kLevels], total = 0, mean = 0;
    for (std::size_t g = 0; g < kLevels; ++g) total += p[g] = std::exp(static_cast<real>(one[d * kLevels + g]));
    for (std::size_t g = 0; g < kLevels; ++g) mean += p[g] / total * g / 3;
    EXPECT_NEAR(expected[d], static_cast<double>(mean), 1e-6);
    for (std::size_t g = 0; g < kLevels; ++g) {
      double share = 0;
      for (std::size_t i = d; i < drawn.size(); i += 3) {
        if (std::abs(drawn[i] * 3 - static_cast<float>(g)) < 1e-5f) share += 1.0 / static_cast<double>(n);
      }
      const auto wanted = static_cast<double>(p[g] / total);
      EXPECT_NEAR(share, wanted, 4 * std::sqrt(wanted * (1 - wanted) / static_cast<double>(n)) + 1e-9) << d << g;
    }
  }

  // Every draw is a level, so dreams can be dreamed; levels survive the file; a binomial start has the means.
  const WakeSleep wake_sleep(batch, batch.proposal(), batch.sleep());
  tape.backward(wake_sleep(tape, Draws(1, device())).objective);
  for (Parameter& parameter : m.parameters()) {
    for (const float g : parameter.grad.to_host()) ASSERT_TRUE(std::isfinite(g)) << parameter.name;
  }
  m.save(dir_ / "levels");
  EXPECT_EQ(VariationalAutoencoder::load(dir_ / "levels", device()).levels(), 4);
  m.set_pixel_means(std::vector<double>{0.2, 0.5, 0.9});
  const auto bias = m.parameters()["decoder.2.bias"].value.reshape({1, 3 * kLevels});
  expect_near_all(m.expected_pixels(bias).to_host(), {0.2f, 0.5f, 0.9f});
  EXPECT_THROW(VariationalAutoencoder(3, 2, {4}, 5, device(), 1), ArgumentError);
}

TEST_P(Autoencoders, StartAtTheMeansOfThePixels) {
  VariationalAutoencoder m(3, 2, {4}, 5, device());
  m.set_pixel_means(std::vector<double>{0, 0.5, 0.9});
  const auto bias = m.parameters()["decoder.1.bias"].value.to_host();
  EXPECT_NEAR(bias[0], std::log(0.001 / 0.999), 1e-5) << "not minus infinity";
  EXPECT_NEAR(bias[1], 0, 1e-6);
  EXPECT_NEAR(bias[2], std::log(9.0), 1e-5);
  EXPECT_THROW(m.set_pixel_means(std::vector<double>{0.5}), ShapeError);
}

TEST_P(Autoencoders, ReadBackBitForBit) {
  VariationalAutoencoder saved = model(2);
  saved.save(dir_ / "m", {{"white", "255"}});
  std::map<std::string, std::string> notes;
  VariationalAutoencoder loaded = VariationalAutoencoder::load(dir_ / "m", device(), &notes);
  EXPECT_EQ(notes["white"], "255");
  EXPECT_EQ(loaded.pixels(), 3);
  EXPECT_EQ(loaded.latent(), 2);
  EXPECT_EQ(loaded.hidden(), saved.hidden());
  EXPECT_EQ(loaded.parameters().flat_value().to_host(), saved.parameters().flat_value().to_host());
  EXPECT_EQ(loaded.evidence(images(), 5, 1).log_marginal, saved.evidence(images(), 5, 1).log_marginal);
}

TEST_P(Autoencoders, RefuseWhatDoesNotFit) {
  EXPECT_THROW(VariationalAutoencoder(0, 2, {4}, 1, device()), ArgumentError);
  EXPECT_THROW(VariationalAutoencoder(3, 0, {4}, 1, device()), ArgumentError);
  EXPECT_THROW(VariationalAutoencoder(3, 2, {0}, 1, device()), ArgumentError);
  const VariationalAutoencoder m = model();
  const auto narrow = Tensor<float>::zeros({2, 2}, device());
  EXPECT_THROW(m.evidence(narrow, 5, 1), ShapeError);
  EXPECT_THROW(m.evidence(images(), 0, 1), ArgumentError);
  EXPECT_THROW(AutoencoderBatch(m, narrow), ShapeError);
}

TEST_P(Autoencoders, DamagedFilesAreRefusedInWords) {
  VariationalAutoencoder(1, 1, {}, 1, device()).save(dir_ / "m");
  const std::string bytes = get(dir_ / "m");
  const auto attempt = [&](const std::string& damaged) {
    put(dir_ / "damaged", damaged);
    try {
      VariationalAutoencoder::load(dir_ / "damaged", device());
    } catch (const FileError&) {  // or it is another model: numbers have no wrong bits
    }
  };
  for (std::size_t at = 0; at < bytes.size(); at += 3) {
    attempt(bytes.substr(0, at));
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ (at % 2 == 0 ? 255 : 1));
    attempt(damaged);
  }
  EXPECT_THROW(VariationalAutoencoder::load(dir_ / "none", device()), FileError);
}

DGM_ON_EVERY_DEVICE(Autoencoders);

}  // namespace
}  // namespace dgm::test
