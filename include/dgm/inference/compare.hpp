// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/parameters.hpp>
#include <dgm/inference/estimator.hpp>

#include <string>
#include <vector>

namespace dgm {

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
  /// infinite for an exact gradient.
  double effective_sample_size = 0;
  double seconds = 0;  ///< of one estimate with its gradient, median
};

struct CompareOptions {
  int64_t repetitions = 1000;  ///< estimates of each; at least 2
};

/// Runs each estimator `repetitions` times on one batch, each time with new draws, and holds its
/// gradients against the exact one. Sums in double. Leaves the parameters' values as they are, their
/// gradients zero and the step of `draws` at 0.
///
/// Throws ArgumentError for no estimators, fewer than 2 repetitions or no parameters.
std::vector<EstimatorReport> compare(const std::vector<const Estimator*>& estimators, const FiniteJoint& joint,
                                     Parameters& parameters, Draws draws, const CompareOptions& options = {});

/// The reports as an aligned table.
std::string comparison_table(const std::vector<EstimatorReport>& reports);

}  // namespace dgm
