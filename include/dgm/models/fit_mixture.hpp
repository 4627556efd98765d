// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/models/gaussian_mixture.hpp>

#include <functional>
#include <vector>

namespace dgm {

/// Sets a mixture from data: centres by k-means++ (Arthur & Vassilvitskii 2007, on at most 100,000
/// rows chosen at random), then the weights, means and covariances of the rows nearest to each.
///
/// variance_floor  added to every variance, in the data's units squared.
/// Throws          ArgumentError if x has fewer rows than there are components, or a value that is not
///                 finite (named by row and column); ShapeError if x is not (N, D).
void initialise_mixture(GaussianMixture& model, const Tensor<float>& x, uint64_t seed, double variance_floor = 1e-6);

/// Called as a fit goes on: the run, the iteration and the log-likelihood of all data there.
using MixtureProgress = std::function<void(int restart, int iteration, double log_likelihood)>;

struct EmOptions {
  int restarts = 10;          ///< runs from different k-means++ centres; the best is kept
  int max_iterations = 1000;  ///< of each run
  /// A run has converged when an iteration gains less than this, in nats a row, three times in a row.
  double tolerance = 1e-7;
  /// Added to every variance, in the data's units squared: keeps a component from collapsing on one
  /// point, where the likelihood has no bound.
  double variance_floor = 1e-6;
  uint64_t seed = 1;
  MixtureProgress progress = {};
};

struct MixtureFit {
  GaussianMixture model;
  double log_likelihood = 0;     ///< of all rows together, in nats, under the model as it is
  bool converged = false;        ///< of the run that was kept
  std::vector<double> history;   ///< log-likelihood before each iteration of that run, and at its end
  std::vector<double> restarts;  ///< final log-likelihood of every run

  /// The model's criteria at this log-likelihood.
  double aic() const { return model.aic(log_likelihood); }
  double bic(int64_t rows) const { return model.bic(log_likelihood, rows); }
};

/// Fits by expectation-maximisation (Dempster, Laird & Rubin 1977): exact responsibilities from the
/// fused kernel, maximisation in double on the host. A component that loses all its points keeps its
/// place with weight 0.
///
/// x         (N, D) f32 on the stream that the model will be on; N >= K.
/// Accuracy  statistics as of the ops, summed in double.
/// Throws    as initialise_mixture; ArgumentError for options out of range.
MixtureFit fit_mixture_em(const Tensor<float>& x, int64_t components, Covariance covariance,
                          const EmOptions& options = {});

struct SgdFitOptions {
  int restarts = 10;             ///< runs from different k-means++ centres; the best is kept
  int64_t steps = 2000;          ///< of each run
  int64_t batch = 256;           ///< rows a step, drawn with replacement
  double learning_rate = 0.02;   ///< Adam's, falling to 0 along a cosine
  double variance_floor = 1e-6;  ///< no standard deviation (diagonal of a factor) goes below its root
  /// A run has converged when an iteration of EM from its end would gain less than this, in nats a row.
  double tolerance = 1e-4;
  uint64_t seed = 1;
  MixtureProgress progress = {};
};

/// Fits by stochastic gradient ascent on the same exact marginal: Adam on minibatches drawn uniformly
/// with replacement, whose gradient times N / M is unbiased. On a GPU a step is one CUDA graph.
/// The history has the log-likelihood of all data every 50 steps. Otherwise as fit_mixture_em.
MixtureFit fit_mixture_sgd(const Tensor<float>& x, int64_t components, Covariance covariance,
                           const SgdFitOptions& options = {});

}  // namespace dgm
