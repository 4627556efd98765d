// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/hamiltonian.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/philox.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint64_t kSeed = 0xfedcba987654321ull;
constexpr int kSite = 3;
constexpr int64_t kStep = 7;

Real uniform(uint32_t word) { return (static_cast<Real>(word) + Real{0.5}) / Real{4294967296.0}; }

class Hamiltonian : public OnEveryDevice {
 protected:
  Draws draws() const {
    Draws draws = Draws(kSeed, device()).at(kSite);
    draws.set_step(kStep);
    return draws;
  }
  Tensor<float> tensor(const std::vector<float>& values, Shape shape) const {
    return Tensor<float>::from(values, std::move(shape), device());
  }
  StepSizes steps(int64_t batch, float first) const { return {Tensor<float>::zeros({batch, 4}, device()), first}; }
  // Block i of a chain's draws in a move, as the header says.
  static std::array<uint32_t, 4> block(int64_t datum, int64_t chain, int64_t chains, int64_t dims, int64_t move,
                                       int64_t i) {
    const int64_t each = (dims + 3) / 4 + 1;
    return philox(kSeed, (uint64_t{kSite} << 48) | static_cast<uint64_t>(datum), kStep,
                  static_cast<uint32_t>((int64_t{1} << 31) + (move * chains + chain) * each + i));
  }
  static Real momentum(int64_t datum, int64_t chain, int64_t chains, int64_t dims, int64_t move, int64_t d) {
    const auto words = block(datum, chain, chains, dims, move, d / 4);
    const auto pair = static_cast<std::size_t>(d % 4 / 2 * 2);
    const Real radius = std::sqrt(-2 * std::log(uniform(words[pair])));
    const Real angle = 2 * std::acos(Real{-1}) * uniform(words[pair + 1]);
    return radius * (d % 2 == 0 ? std::sin(angle) : std::cos(angle));
  }
  static std::array<Real, 2> uniforms(int64_t datum, int64_t chain, int64_t chains, int64_t dims, int64_t move) {
    const auto words = block(datum, chain, chains, dims, move, (dims + 3) / 4);
    return {uniform(words[0]), uniform(words[1])};
  }
};

TEST_P(Hamiltonian, AMoveBeginsWithTheDrawsOfTheContractHalfAKickAndADrift) {
  for (const int64_t dims : {1, 2, 4, 5, 33, 130}) {
    for (const int64_t chains : {1, 3}) {
      const int64_t rows = 5;
      const int64_t move = 2;
      const std::vector<int64_t> numbers = {8, 0, 3, 1'000'000'007, 4};
      const auto data = Tensor<int64_t>::from(numbers, {rows}, device());
      const auto z = random_normals(rows * chains * dims, 1);
      const auto g = random_normals(rows * chains * dims, 2);
      const Chains at = {tensor(z, {rows, chains, dims}), Tensor<float>::zeros({rows, chains}, device()),
                         tensor(g, {rows, chains, dims})};
      StepSizes sizes = {tensor(random_normals(rows * 4, 3, 0.3), {rows, 4}), 0.3f};
      const auto state = sizes.state.to_host();
      for (const bool adapt : {true, false}) {
        const Trajectory path =
            begin_trajectory(at, sizes, draws(), move, {.adapt = adapt, .jitter = 0.25, .data = &data});
        Reals moved, momenta, kinetic, step;
        std::size_t i = 0;
        for (int64_t b = 0; b < rows; ++b) {
          for (int64_t c = 0; c < chains; ++c) {
            const int64_t datum = numbers[static_cast<std::size_t>(b)];
            const Real u = uniforms(datum, c, chains, dims, move)[1];
            const Real log_step = state[static_cast<std::size_t>(4 * b + (adapt ? 0 : 1))];
            step.push_back(Real{0.3f} * std::exp(log_step) * (1 + Real{0.25} * (2 * u - 1)));
            Real energy = 0;
            for (int64_t d = 0; d < dims; ++d, ++i) {
              const Real p = momentum(datum, c, chains, dims, move, d);
              energy += p * p / 2;
              momenta.push_back(p + step.back() / 2 * g[i]);
              moved.push_back(z[i] + step.back() * momenta.back());
            }
            kinetic.push_back(energy);
          }
        }
        expect_close(path.step.to_host(), step, 1e-6, "step");
        expect_close(path.momentum.to_host(), momenta, 4e-6, "momentum");
        expect_close(path.moved.to_host(), moved, 4e-6, "moved");
        expect_close(path.kinetic.to_host(), kinetic, 4e-6, "kinetic energy");
        EXPECT_EQ(at.z.to_host(), z) << "the chains stay where they are";
      }
    }
  }
}

// A density that is neither Gaussian nor a product: log p = -sum z^2/2 - 0.1 sum z^4 - 0.3 z_0 z_1.
struct Density {
  static Real value(const Reals& z) {
    Real result = z.size() > 1 ? Real{-0.3} * z[0] * z[1] : 0;
    for (const Real x : z) result -= x * x / 2 + Real{0.1} * x * x * x * x;
    return result;
  }
  static Reals gradient(const Reals& z) {
    Reals g;
    for (const Real x : z) g.push_back(-x - Real{0.4} * x * x * x);
    if (z.size() > 1) {
      g[0] -= Real{0.3} * z[1];
      g[1] -= Real{0.3} * z[0];
    }
    return g;
  }
};

class Paths : public Hamiltonian {
 protected:
  static constexpr int64_t kDims = 3;
  // The density at the places of a tensor (1, C, D).
  Chains at(const Tensor<float>& z) const {
    const auto host = z.to_host();
    std::vector<float> values, gradients;
    for (std::size_t first = 0; first < host.size(); first += kDims) {
      const Reals place(host.begin() + static_cast<std::ptrdiff_t>(first),
                        host.begin() + static_cast<std::ptrdiff_t>(first + kDims));
      values.push_back(static_cast<float>(Density::value(place)));
      for (const Real g : Density::gradient(place)) gradients.push_back(static_cast<float>(g));
    }
    return {z.clone(), tensor(values, {1, z.shape()[1]}), tensor(gradients, z.shape())};
  }
  // Momenta after the last half kick.
  static std::vector<float> final_momenta(const Trajectory& path, const Chains& end) {
    std::vector<float> p = path.momentum.to_host();
    const auto g = end.gradient.to_host();
    const auto step = path.step.to_host();
    for (std::size_t i = 0; i < p.size(); ++i) p[i] += step[i / kDims] / 2 * g[i];
    return p;
  }
  // The largest |rise of energy| of some chains over a time of 1.
  double energy_error(int64_t leaps) const {
    const int64_t chains = 20;
    const Chains start = at(tensor(random_normals(chains * kDims, 5), {1, chains, kDims}));
    const StepSizes sizes = steps(1, 1.0f / static_cast<float>(leaps));
    Trajectory path = begin_trajectory(start, sizes, draws(), 0, {.jitter = 0});
    for (int64_t i = 1; i < leaps; ++i) leapfrog(path, at(path.moved).gradient);
    const Chains end = at(path.moved);
    const auto p = final_momenta(path, end);
    const auto before = start.log_density.to_host();
    const auto after = end.log_density.to_host();
    const auto kinetic = path.kinetic.to_host();
    double worst = 0;
    for (std::size_t c = 0; c < static_cast<std::size_t>(chains); ++c) {
      double energy = 0;
      for (std::size_t d = 0; d < kDims; ++d) energy += 0.5 * p[c * kDims + d] * p[c * kDims + d];
      worst = std::max(worst, std::abs(energy - kinetic[c] - (after[c] - before[c])));
    }
    return worst;
  }
};

TEST_P(Paths, KeepTheEnergyToTheSquareOfTheStep) {
  const double coarse = energy_error(8);
  const double fine = energy_error(16);
  const double finer = energy_error(32);
  EXPECT_GT(coarse, 1e-3) << "a path that goes nowhere keeps its energy too";
  EXPECT_NEAR(coarse / fine, 4, 1);
  EXPECT_NEAR(fine / finer, 4, 0.6);
}

TEST_P(Paths, ReturnToWhereTheyBeganWhenTheMomentumIsTurnedRound) {
  const int64_t chains = 7;
  const Chains start = at(tensor(random_normals(chains * kDims, 6), {1, chains, kDims}));
  const StepSizes sizes = steps(1, 0.1f);
  Trajectory path = begin_trajectory(start, sizes, draws(), 0);
  const auto first_momenta = path.momentum.to_host();
  for (int i = 1; i < 12; ++i) leapfrog(path, at(path.moved).gradient);
  const Chains turn = at(path.moved);
  auto p = final_momenta(path, turn);
  for (float& value : p) value = -value;
  Trajectory back = {path.moved.clone(), tensor(p, path.momentum.shape()), path.kinetic, path.step};
  // Half a kick and a drift is a whole one with half the gradient.
  auto half = turn.gradient.to_host();
  for (float& value : half) value *= 0.5f;
  leapfrog(back, tensor(half, path.momentum.shape()));
  for (int i = 1; i < 12; ++i) leapfrog(back, at(back.moved).gradient);
  expect_close(back.moved.to_host(), to_reals(start.z.to_host()), 1e-5, "where the chains began");
}

TEST_P(Hamiltonian, AcceptsWithTheProbabilityOfTheEnergyAndMovesNoOtherChain) {
  for (const int64_t dims : {1, 5, 40}) {
    const int64_t rows = 9, chains = 5, move = 4;
    const int64_t size = rows * chains * dims;
    const auto z = random_normals(size, 11), g = random_normals(size, 12);
    const auto end_z = random_normals(size, 13), end_g = random_normals(size, 14);
    const auto density = random_normals(rows * chains, 15, 1), end_density = random_normals(rows * chains, 16, 1);
    Chains chains_at = {tensor(z, {rows, chains, dims}), tensor(density, {rows, chains}),
                        tensor(g, {rows, chains, dims})};
    const Chains end = {tensor(end_z, {rows, chains, dims}), tensor(end_density, {rows, chains}),
                        tensor(end_g, {rows, chains, dims})};
    StepSizes sizes = steps(rows, 0.2f);
    const Trajectory path = begin_trajectory(chains_at, sizes, draws(), move);
    const auto p = path.momentum.to_host(), kinetic = path.kinetic.to_host(), step = path.step.to_host();
    const auto acceptance = end_trajectory(chains_at, path, end, sizes, draws(), move).to_host();
    Reals wanted, mean(static_cast<std::size_t>(rows));
    std::vector<float> new_z, new_density, new_g;
    int moved = 0;
    for (std::size_t at = 0; at < static_cast<std::size_t>(rows * chains); ++at) {
      const auto first = at * static_cast<std::size_t>(dims);
      Real energy = 0;
      for (std::size_t d = first; d < first + static_cast<std::size_t>(dims); ++d) {
        const Real final_p = p[d] + Real{step[at]} / 2 * end_g[d];
        energy += final_p * final_p / 2;
      }
      const Real rise = (Real{end_density[at]} - density[at]) - (energy - kinetic[at]);
      wanted.push_back(std::min<Real>(1, std::exp(rise)));
      const auto b = static_cast<int64_t>(at) / chains, c = static_cast<int64_t>(at) % chains;
      mean[static_cast<std::size_t>(b)] += wanted.back() / chains;
      const Real u = uniforms(b, c, chains, dims, move)[0];
      ASSERT_GT(std::abs(u - wanted.back()), Real{1e-5}) << "too close to tell";
      const bool accepts = u <= wanted.back();
      moved += accepts;
      new_density.push_back(accepts ? end_density[at] : density[at]);
      for (std::size_t d = first; d < first + static_cast<std::size_t>(dims); ++d) {
        new_z.push_back(accepts ? end_z[d] : z[d]);
        new_g.push_back(accepts ? end_g[d] : g[d]);
      }
    }
    ASSERT_GT(moved, 5);
    ASSERT_LT(moved, 40);
    expect_close(acceptance, wanted, 1e-5, "acceptance");
    EXPECT_EQ(chains_at.z.to_host(), new_z);
    EXPECT_EQ(chains_at.log_density.to_host(), new_density);
    EXPECT_EQ(chains_at.gradient.to_host(), new_g);
    // One adaptation, from nothing.
    const auto state = sizes.state.to_host();
    for (std::size_t b = 0; b < static_cast<std::size_t>(rows); ++b) {
      const Real shortfall = (Real{0.8} - mean[b]) / 11;
      EXPECT_NEAR(state[4 * b], static_cast<double>(std::log(Real{10}) - shortfall / Real{0.05}), 1e-4);
      EXPECT_NEAR(state[4 * b + 2], static_cast<double>(shortfall), 1e-6);
      EXPECT_EQ(state[4 * b + 3], 1);
    }
  }
}

TEST_P(Hamiltonian, APlaceWithoutADensityIsLeftAndNeverMovedTo) {
  const std::vector<float> from = {0, 0, 0, -kInf, NAN, -kInf, NAN, kInf, 0};
  const std::vector<float> to = {-kInf, NAN, kInf, 0, 0, -kInf, NAN, 0, 0};
  const std::vector<float> wanted = {0, 0, 0, 1, 1, 0, 0, 1, 0};
  const auto chains = static_cast<int64_t>(from.size());
  std::vector<float> end_gradient(from.size(), 0.0f);
  end_gradient.back() = NAN;  // an energy that is none
  Chains at = {Tensor<float>::zeros({1, chains, 1}, device()), tensor(from, {1, chains}),
               Tensor<float>::zeros({1, chains, 1}, device())};
  const Chains end = {Tensor<float>::full({1, chains, 1}, 5.0f, device()), tensor(to, {1, chains}),
                      tensor(end_gradient, {1, chains, 1})};
  StepSizes sizes = steps(1, 0.2f);
  const Trajectory path = begin_trajectory(at, sizes, draws(), 0);
  EXPECT_EQ(end_trajectory(at, path, end, sizes, draws(), 0).to_host(), wanted);
  std::vector<float> z;
  for (const float p : wanted) z.push_back(5 * p);
  EXPECT_EQ(at.z.to_host(), z);
  EXPECT_TRUE(std::isfinite(sizes.state.to_host()[0]));
}

// Against the recursion of the paper, in long double, and what it is for.
TEST_P(Hamiltonian, StepsFollowDualAveragingTowardsTheTarget) {
  const int64_t chains = 4;
  StepSizes sizes = steps(1, 0.05f);
  const auto zeros = Tensor<float>::zeros({1, chains, 1}, device());
  Real shortfall = 0, log_average = 0, log_step = 0;
  const int moves = on_simulated_device() ? 30 : 300;
  for (int move = 0; move < moves; ++move) {
    Chains at = {zeros.clone(), Tensor<float>::zeros({1, chains}, device()), zeros};
    const Trajectory path = begin_trajectory(at, sizes, draws(), move);
    // An end whose acceptance is exp(-20 step).
    const float step = 0.05f * std::exp(sizes.state.to_host()[0]);
    const Chains end = {path.moved, Tensor<float>::full({1, chains}, -20 * step, device()), zeros};
    const auto acceptance = end_trajectory(at, path, end, sizes, draws(), move).to_host();
    Real mean = 0;
    for (const float a : acceptance) mean += Real{a} / chains;
    const Real t = std::min(200, move + 1);
    shortfall += (Real{0.8} - mean - shortfall) / (t + 10);
    log_step = std::log(Real{10}) - std::sqrt(t) / Real{0.05} * shortfall;
    log_average += std::pow(t, Real{-0.75}) * (log_step - log_average);
    const auto state = sizes.state.to_host();
    ASSERT_NEAR(state[0], static_cast<double>(log_step), 2e-3) << "move " << move;
    ASSERT_NEAR(state[1], static_cast<double>(log_average), 2e-3) << "move " << move;
    ASSERT_EQ(state[3], static_cast<float>(t));
  }
  if (!on_simulated_device()) {
    EXPECT_NEAR(std::exp(-20 * 0.05 * std::exp(sizes.state.to_host()[1])), 0.8, 0.02);
  }
  const auto before = sizes.state.to_host();
  Chains at = {zeros.clone(), Tensor<float>::zeros({1, chains}, device()), zeros};
  const Trajectory path = begin_trajectory(at, sizes, draws(), 0, {.adapt = false});
  end_trajectory(at, path, at, sizes, draws(), 0, {.adapt = false});
  EXPECT_EQ(sizes.state.to_host(), before) << "steps that are not to be adapted";
}

TEST_P(Hamiltonian, NoDataNoChainsAndNoCoordinatesAreHarmless) {
  for (const Shape& shape : {Shape{0, 2, 3}, Shape{2, 0, 3}, Shape{2, 3, 0}}) {
    Chains at = {Tensor<float>::zeros(shape, device()), Tensor<float>::zeros({shape[0], shape[1]}, device()),
                 Tensor<float>::zeros(shape, device())};
    StepSizes sizes = steps(shape[0], 0.1f);
    Trajectory path = begin_trajectory(at, sizes, draws(), 0);
    leapfrog(path, at.gradient);
    const Chains end = {path.moved, at.log_density.clone(), at.gradient};
    for (const float p : end_trajectory(at, path, end, sizes, draws(), 0).to_host()) EXPECT_EQ(p, 1);
  }
}

TEST_P(Hamiltonian, BitsDoNotDependOnTheNumberOfThreads) {
  const int64_t rows = 70, chains = 5, dims = 37;
  const auto z = random_normals(rows * chains * dims, 21), g = random_normals(rows * chains * dims, 22);
  const int before = cpu_threads();
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2}) {
    set_cpu_threads(threads);
    Chains at = {tensor(z, {rows, chains, dims}), Tensor<float>::zeros({rows, chains}, device()),
                 tensor(g, {rows, chains, dims})};
    StepSizes sizes = steps(rows, 0.1f);
    Trajectory path = begin_trajectory(at, sizes, draws(), 0);
    leapfrog(path, at.gradient);
    const Chains end = {path.moved, at.log_density.clone(), at.gradient};
    end_trajectory(at, path, end, sizes, draws(), 0);
    results.push_back(at.z.to_host());
    const auto state = sizes.state.to_host();
    results.back().insert(results.back().end(), state.begin(), state.end());
  }
  set_cpu_threads(before);
  EXPECT_EQ(results[0], results[1]);
}

TEST_P(Hamiltonian, RefusesWhatDoesNotFit) {
  const auto zeros = [&](Shape shape) { return Tensor<float>::zeros(std::move(shape), device()); };
  Chains at = {zeros({2, 3, 4}), zeros({2, 3}), zeros({2, 3, 4})};
  StepSizes sizes = steps(2, 0.1f);
  const Trajectory path = begin_trajectory(at, sizes, draws(), 0);
  EXPECT_THROW(begin_trajectory({zeros({2, 3}), zeros({2, 3}), zeros({2, 3})}, sizes, draws(), 0), ShapeError);
  EXPECT_THROW(begin_trajectory({zeros({2, 3, 4}), zeros({2, 4}), zeros({2, 3, 4})}, sizes, draws(), 0), ShapeError);
  EXPECT_THROW(begin_trajectory(at, steps(3, 0.1f), draws(), 0), ShapeError);
  EXPECT_THROW(begin_trajectory(at, steps(2, 0.0f), draws(), 0), ArgumentError);
  EXPECT_THROW(begin_trajectory(at, sizes, draws(), -1), ArgumentError);
  EXPECT_THROW(begin_trajectory(at, sizes, draws(), int64_t{1} << 40), ArgumentError);
  EXPECT_THROW(begin_trajectory(at, sizes, draws(), 0, {.jitter = 1}), ArgumentError);
  EXPECT_THROW(begin_trajectory(at, sizes, draws(), 0, {.target = 1}), ArgumentError);
  Trajectory other = path;
  EXPECT_THROW(leapfrog(other, zeros({2, 3})), ShapeError);
  EXPECT_THROW(end_trajectory(at, path, {zeros({2, 2, 4}), zeros({2, 2}), zeros({2, 2, 4})}, sizes, draws(), 0),
               ShapeError);
}

DGM_ON_EVERY_DEVICE(Hamiltonian);
DGM_ON_EVERY_DEVICE(Paths);

}  // namespace
}  // namespace dgm::test
