// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/parameters.hpp>
#include <dgm/inference/estimator.hpp>

#include <string>
#include <vector>

namespace dgm {

/// How an estimator's gradient by one parameter tensor compares with the exact one.
struct ParameterReport {
  std::string name;
  double gradient_norm = 0;
  double mean_norm = 0;  ///< |mean of the estimates|: of what an estimator that has another aim ascends
  double bias = 0;
  double bias_standard_error = 0;
  double variance = 0;
  double signal_to_noise = 0;
};

/// How an estimator's gradient compares with the exact one, over all parameters together.
struct EstimatorReport {
  std::string name;
  int64_t repetitions = 0;
  double gradient_norm = 0;  ///< |g|, of the exact gradient
  double bias = 0;           ///< |mean of the estimates - g|
  /// What |mean - g| comes to without any bias, from variance alone: sqrt(variance / repetitions).
  double bias_standard_error = 0;
  /// The largest |mean - g| of one parameter in standard errors of its own. Without bias it stays
  /// near sqrt(2 log P) for P parameters.
  double largest_z_score = 0;
  double variance = 0;         ///< trace of the covariance of one estimate
  double signal_to_noise = 0;  ///< |g| / sqrt(variance); infinite for an exact gradient
  /// How many independent single draws from the exact posterior have this variance together;
  /// infinite for an exact gradient. Without CompareOptions::posterior_draw the mean of what the estimator
  /// reports of its weights, NaN if it has none.
  double effective_sample_size = 0;
  /// The largest Pareto k-hat of a datum, from up to 16384 of its log weights; NaN for an estimator without
  /// weights. From 0.7 on its draws miss the posterior: bias and variance above are then too low themselves.
  double pareto_k = 0;
  double acceptance_rate = 0;  ///< mean over data and repetitions; NaN for an estimator without chains
  double seconds = 0;          ///< of one estimate with its gradient, median
  std::vector<ParameterReport> parameters;
};

struct CompareOptions {
  int64_t repetitions = 1000;  ///< estimates of each; at least 2
  /// An estimator of one exact draw from the posterior, the unit of the effective sample size; null: none.
  const Estimator* posterior_draw = nullptr;
};

/// Runs each estimator `repetitions` times on the batch of its joint, each time with new draws, and holds its
/// gradients against that of `exact`. Sums in double. Leaves the parameters' values as they are, their
/// gradients zero and the step of `draws` at 0.
///
/// Throws ArgumentError for no estimators, fewer than 2 repetitions or no parameters.
std::vector<EstimatorReport> compare(const std::vector<const Estimator*>& estimators, const Estimator& exact,
                                     Parameters& parameters, Draws draws, const CompareOptions& options = {});

/// The same for a finite latent variable: against Exact(joint), in units of PosteriorSampling(joint, 1).
std::vector<EstimatorReport> compare(const std::vector<const Estimator*>& estimators, const FiniteJoint& joint,
                                     Parameters& parameters, Draws draws, CompareOptions options = {});

/// The reports as an aligned table, a line each; under it a warning for every k-hat above 0.7.
std::string comparison_table(const std::vector<EstimatorReport>& reports);
/// A line for each estimator and parameter tensor.
std::string parameter_table(const std::vector<EstimatorReport>& reports);

}  // namespace dgm
