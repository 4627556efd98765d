// SPDX-License-Identifier: Apache-2.0
// Fitting a Gaussian mixture: k-means++ starts, expectation-maximisation, gradient ascent.
#include <dgm/models/fit_mixture.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/train/trainer.hpp>

#include "host/core/check.hpp"
#include "host/cpu/parallel.hpp"
#include "host/models/small_matrix.hpp"
#include "kernels/math/philox.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dgm {

namespace {

// Uniform numbers in (0, 1) from the Philox contract: one site for all initialisation.
class HostDraws {
 public:
  HostDraws(uint64_t seed, uint64_t datum) : seed_(seed), datum_(datum) {}
  double uniform() {
    constexpr uint64_t kSite = 65534;
    const PhiloxWords words = draw_words(seed_, {kSite, datum_, 0, block_++});
    const uint64_t bits = (uint64_t{words.w[0]} << 21) ^ (words.w[1] >> 11);
    return (static_cast<double>(bits) + 0.5) * 0x1.0p-53;
  }
  std::size_t below(std::size_t n) {
    return std::min(n - 1, static_cast<std::size_t>(uniform() * static_cast<double>(n)));
  }

 private:
  uint64_t seed_;
  uint64_t datum_;
  uint32_t block_ = 0;
};

struct HostData {
  std::vector<float> x;
  std::size_t rows;
  std::size_t dims;
  const float* row(std::size_t n) const { return x.data() + n * dims; }
};

HostData checked_data(const char* function, const Tensor<float>& x, int64_t components) {
  check<ShapeError>(x.shape().rank() == 2 && x.shape()[1] >= 1, function, ": x has shape ", x.shape().str(),
                    "; (N, D) with D >= 1 is needed");
  check<ArgumentError>(x.shape()[0] >= components, function, ": x has ", x.shape()[0], " rows for ", components,
                       " components; at least as many rows as components are needed");
  HostData data = {x.to_host(), static_cast<std::size_t>(x.shape()[0]), static_cast<std::size_t>(x.shape()[1])};
  for (std::size_t i = 0; i < data.x.size(); ++i) {
    check<ArgumentError>(std::isfinite(data.x[i]), function, ": x[", i / data.dims, ", ", i % data.dims, "] is ",
                         data.x[i], "; finite values are needed");
  }
  return data;
}

double squared_distance(const float* a, const float* b, std::size_t dims) {
  float sum = 0;
  for (std::size_t d = 0; d < dims; ++d) sum += (a[d] - b[d]) * (a[d] - b[d]);
  return double{sum};
}

// Weights, means and covariances from the rows nearest to k-means++ centres.
void initialise(GaussianMixture& model, const HostData& data, uint64_t seed, uint64_t restart, double floor) {
  constexpr std::size_t kMostRows = 100'000;
  HostDraws draws(seed, restart);
  std::vector<std::size_t> chosen(data.rows);
  std::iota(chosen.begin(), chosen.end(), std::size_t{0});
  if (data.rows > kMostRows) {
    for (std::size_t i = 0; i < kMostRows; ++i) std::swap(chosen[i], chosen[i + draws.below(data.rows - i)]);
    chosen.resize(kMostRows);
  }

  const auto components = static_cast<std::size_t>(model.components());
  const std::size_t dims = data.dims;
  std::vector<double> nearest(chosen.size(), INFINITY);
  std::vector<std::size_t> owner(chosen.size(), 0);
  for (std::size_t k = 0; k < components; ++k) {
    std::size_t centre = draws.below(chosen.size());
    if (k > 0) {
      // The next centre with probability proportional to the squared distance from those there are;
      // where no row is away from all of them (duplicates), any row.
      const double total = std::accumulate(nearest.begin(), nearest.end(), 0.0);
      double left = draws.uniform() * total;
      for (std::size_t i = 0; total > 0 && i < chosen.size(); ++i) {
        if (nearest[i] == 0) continue;
        centre = i;
        left -= nearest[i];
        if (left <= 0) break;
      }
    }
    constexpr int64_t kGrain = 1 << 12;
    cpu::parallel_ranges(static_cast<int64_t>(chosen.size()), kGrain, [&](int64_t begin, int64_t end, int) {
      for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
        const double distance = squared_distance(data.row(chosen[i]), data.row(chosen[centre]), dims);
        if (distance < nearest[i]) {
          nearest[i] = distance;
          owner[i] = k;
        }
      }
    });
    // A centre owns its own row even if it is a duplicate of another: no component starts empty.
    owner[centre] = k;
  }

  const bool full = model.covariance() == Covariance::full;
  const std::size_t each = full ? dims * dims : dims;
  std::vector<double> weights(components);
  std::vector<double> means(components * dims);
  std::vector<double> covariances(components * each);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    weights[owner[i]] += 1;
    for (std::size_t d = 0; d < dims; ++d) means[owner[i] * dims + d] += data.row(chosen[i])[d];
  }
  for (std::size_t k = 0; k < components; ++k) {
    for (std::size_t d = 0; d < dims; ++d) means[k * dims + d] /= std::max(1.0, weights[k]);
  }
  std::vector<double> within(each);  // scatter about the centres, of all rows together
  std::vector<double> residual(dims);
  for (std::size_t i = 0; i < chosen.size(); ++i) {
    const std::size_t k = owner[i];
    for (std::size_t d = 0; d < dims; ++d) residual[d] = data.row(chosen[i])[d] - means[k * dims + d];
    double* const scatter = covariances.data() + k * each;
    for (std::size_t e = 0; e < each; ++e) {
      const double product = full ? residual[e / dims] * residual[e % dims] : residual[e] * residual[e];
      scatter[e] += product;
      within[e] += product;
    }
  }
  for (std::size_t k = 0; k < components; ++k) {
    // A cluster of fewer rows than span the dimensions borrows the spread of all.
    const bool few = weights[k] <= static_cast<double>(dims) + 1;
    for (std::size_t e = 0; e < each; ++e) {
      double& entry = covariances[k * each + e];
      entry = few ? within[e] / static_cast<double>(chosen.size()) : entry / weights[k];
      if (!full || e / dims == e % dims) entry += floor;
    }
    weights[k] = std::max(weights[k], 1.0);
  }
  model.set(weights, means, covariances);
}

double total(const Tensor<float>& values) {
  double sum = 0;
  for (const float value : values.to_host()) sum += value;
  return sum;
}

// One maximisation, in double: statistics are about the parameters that made them.
void maximise(GaussianMixture& model, const MixtureStatistics& statistics, double floor) {
  const std::vector<double> s0 = statistics.s0.to_host();
  const std::vector<double> s1 = statistics.s1.to_host();
  const std::vector<double> s2 = statistics.s2.to_host();
  const auto components = static_cast<std::size_t>(model.components());
  const auto dims = static_cast<std::size_t>(model.dims());
  const bool full = model.covariance() == Covariance::full;
  std::vector<double> weights = s0;
  std::vector<double> means = model.means();
  std::vector<double> covariances = model.covariances();
  const double rows = std::accumulate(s0.begin(), s0.end(), 0.0);
  for (std::size_t k = 0; k < components; ++k) {
    // Below this a component has no points: its mean would be a quotient of roundings.
    if (s0[k] <= 1e-8 * rows) {
      weights[k] = 0;
      continue;
    }
    double* const covariance = covariances.data() + k * (full ? dims * dims : dims);
    if (full) {
      // The scatter of the whitened residuals about their own mean, and back through L.
      SmallMatrix scatter(dims);
      for (std::size_t i = 0; i < dims; ++i) {
        for (std::size_t j = 0; j < dims; ++j) {
          const std::size_t at = (k * dims + std::max(i, j)) * dims + std::min(i, j);
          scatter(i, j) = s2[at] / s0[k] - s1[k * dims + i] / s0[k] * (s1[k * dims + j] / s0[k]);
        }
      }
      const SmallMatrix lower = *cholesky(SmallMatrix(dims, covariance));
      const SmallMatrix result = times_transposed(times(lower, scatter), lower);
      for (std::size_t i = 0; i < dims; ++i) {
        for (std::size_t j = 0; j < dims; ++j) covariance[i * dims + j] = result(i, j) + (i == j ? floor : 0.0);
        for (std::size_t j = 0; j <= i; ++j) means[k * dims + i] += lower(i, j) * s1[k * dims + j] / s0[k];
      }
    } else {
      for (std::size_t i = 0; i < dims; ++i) {
        const double scale = std::sqrt(covariance[i]);
        const double shift = s1[k * dims + i] / s0[k];
        const double spread = std::max(0.0, s2[k * dims + i] / s0[k] - shift * shift);
        means[k * dims + i] += scale * shift;
        covariance[i] = scale * scale * spread + floor;
      }
    }
  }
  model.set(weights, means, covariances);
}

struct Run {
  double log_likelihood = -INFINITY;
  bool converged = false;
  std::vector<double> history;
};

Run run_em(GaussianMixture& model, const Tensor<float>& x, const EmOptions& options, int restart) {
  Run run;
  const double gain_wanted = options.tolerance * static_cast<double>(x.shape()[0]);
  int small_gains = 0;
  for (int iteration = 0; iteration < options.max_iterations && small_gains < 3; ++iteration) {
    const MixtureStatistics statistics = model.statistics(x);
    run.history.push_back(statistics.log_likelihood.to_host()[0]);
    const std::size_t count = run.history.size();
    small_gains = count >= 2 && run.history[count - 1] - run.history[count - 2] < gain_wanted ? small_gains + 1 : 0;
    if (options.progress) options.progress(restart, iteration, run.history.back());
    maximise(model, statistics, options.variance_floor);
  }
  run.converged = small_gains >= 3;
  run.log_likelihood = total(model.log_prob(x));
  run.history.push_back(run.log_likelihood);
  return run;
}

// Standard deviations, or the diagonals of the factors, brought up to the floor: the likelihood has
// no bound where a component narrows on one point.
void raise_to_floor(GaussianMixture& model, double variance_floor) {
  const bool full = model.covariance() == Covariance::full;
  Parameter& scale = model.parameters()[full ? "factor" : "log_scale"];
  std::vector<float> values = scale.value.to_host();
  const auto dims = static_cast<std::size_t>(model.dims());
  const auto lowest = static_cast<float>(0.5 * std::log(variance_floor));
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (!full || i / dims % dims == i % dims) values[i] = std::max(values[i], lowest);
  }
  scale.value.copy_from(Tensor<float>::from(values, scale.value.shape(), model.stream()));
}

// What one iteration of EM would gain from here, in nats a row. A learning rate that falls to 0 brings
// every run to rest, also one that was still climbing: rest says nothing about having arrived.
double gain_of_em(const GaussianMixture& model, const Tensor<float>& x, double variance_floor) {
  GaussianMixture next(model.components(), model.dims(), model.covariance(), model.stream());
  next.set(model.weights(), model.means(), model.covariances());
  const MixtureStatistics statistics = next.statistics(x);
  maximise(next, statistics, variance_floor);
  return (total(next.log_prob(x)) - statistics.log_likelihood.to_host()[0]) / static_cast<double>(x.shape()[0]);
}

Run run_sgd(GaussianMixture& model, const Tensor<float>& x, const SgdFitOptions& options, int restart) {
  Run run;
  Optimiser optimiser = adam(model.parameters(), {.rate = Schedule::cosine(options.learning_rate, options.steps)});
  const double rows = static_cast<double>(x.shape()[0]);
  Trainer trainer(optimiser, x.shape()[0],
                  {.steps = options.steps,
                   .batch = options.batch,
                   .minibatches = {.sampling = Sampling::with_replacement},
                   .seed = options.seed + static_cast<uint64_t>(restart),
                   .progress = Progress::never,
                   .validate_every = 50,
                   .validation_goal = Goal::maximise,
                   .restore_best = false});
  const auto evaluate = [&] {
    raise_to_floor(model, options.variance_floor);
    run.history.push_back(total(model.log_prob(x)));
    if (options.progress) options.progress(restart, static_cast<int>(trainer.step()), run.history.back());
    return run.history.back();
  };
  evaluate();
  trainer.train(
      [&](Tape& tape, const Minibatch& minibatch) {
        // The weights are N / M: an unbiased estimate of all rows' log-likelihood, here a row and downhill.
        return model.log_likelihood(tape, gather_rows(x, minibatch.indices), &minibatch.weights) *
               static_cast<float>(-1 / rows);
      },
      evaluate);
  run.log_likelihood = run.history.back();
  run.converged = gain_of_em(model, x, options.variance_floor) < options.tolerance;
  return run;
}

}  // namespace

void initialise_mixture(GaussianMixture& model, const Tensor<float>& x, uint64_t seed, double variance_floor) {
  const HostData data = checked_data("initialise_mixture", x, model.components());
  check<ShapeError>(x.shape()[1] == model.dims(), "initialise_mixture: x has shape ", x.shape().str(), "; (N, ",
                    model.dims(), ") is needed");
  check<ArgumentError>(variance_floor > 0, "initialise_mixture: variance_floor is ", variance_floor,
                       "; more than 0 is needed");
  initialise(model, data, seed, 0, variance_floor);
}

namespace {

// Runs from different starts, the best kept; one(model, restart) trains a model that is initialised.
template <class One>
MixtureFit best_of(const char* name, const Tensor<float>& x, int64_t components, Covariance covariance, int restarts,
                   uint64_t seed, double variance_floor, const One& one) {
  check<ArgumentError>(components >= 1, name, ": components is ", components, "; at least 1 is needed");
  check<ArgumentError>(restarts >= 1, name, ": options.restarts is ", restarts, "; at least 1 is needed");
  check<ArgumentError>(variance_floor > 0, name, ": options.variance_floor is ", variance_floor,
                       "; more than 0 is needed");
  const HostData data = checked_data(name, x, components);
  std::optional<MixtureFit> best;
  std::vector<double> finals;
  for (int restart = 0; restart < restarts; ++restart) {
    GaussianMixture model(components, x.shape()[1], covariance, x.stream());
    initialise(model, data, seed, static_cast<uint64_t>(restart), variance_floor);
    Run run = one(model, restart);
    check<NumericalError>(std::isfinite(run.log_likelihood), name, ": run ", restart, " ended at log-likelihood ",
                          run.log_likelihood);
    finals.push_back(run.log_likelihood);
    if (!best || run.log_likelihood > best->log_likelihood) {
      best.emplace(MixtureFit{std::move(model), run.log_likelihood, run.converged, std::move(run.history), {}});
    }
  }
  best->restarts = std::move(finals);
  return std::move(*best);
}

}  // namespace

MixtureFit fit_mixture_em(const Tensor<float>& x, int64_t components, Covariance covariance, const EmOptions& options) {
  constexpr const char* kName = "fit_mixture_em";
  check<ArgumentError>(options.max_iterations >= 1, kName, ": options.max_iterations is ", options.max_iterations,
                       "; at least 1 is needed");
  check<ArgumentError>(options.tolerance >= 0, kName, ": options.tolerance is ", options.tolerance,
                       "; at least 0 is needed");
  return best_of(kName, x, components, covariance, options.restarts, options.seed, options.variance_floor,
                 [&](GaussianMixture& model, int restart) { return run_em(model, x, options, restart); });
}

MixtureFit fit_mixture_sgd(const Tensor<float>& x, int64_t components, Covariance covariance,
                           const SgdFitOptions& options) {
  constexpr const char* kName = "fit_mixture_sgd";
  check<ArgumentError>(options.steps >= 1, kName, ": options.steps is ", options.steps, "; at least 1 is needed");
  check<ArgumentError>(options.batch >= 1, kName, ": options.batch is ", options.batch, "; at least 1 is needed");
  check<ArgumentError>(options.learning_rate > 0, kName, ": options.learning_rate is ", options.learning_rate,
                       "; more than 0 is needed");
  check<ArgumentError>(options.tolerance >= 0, kName, ": options.tolerance is ", options.tolerance,
                       "; at least 0 is needed");
  return best_of(kName, x, components, covariance, options.restarts, options.seed, options.variance_floor,
                 [&](GaussianMixture& model, int restart) { return run_sgd(model, x, options, restart); });
}

}  // namespace dgm
