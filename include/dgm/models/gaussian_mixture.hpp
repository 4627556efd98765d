// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/parameters.hpp>
#include <dgm/core/random.hpp>
#include <dgm/inference/joint.hpp>
#include <dgm/ops/mixture_statistics.hpp>

#include <cstdint>
#include <optional>
#include <vector>

namespace dgm {

/// Shape of a component's covariance: a variance a dimension, or any positive definite matrix.
enum class Covariance { diagonal, full };

/// A mixture of K Gaussians in D dimensions:
///
///   p(x) = sum_k pi_k N(x; mean_k, Sigma_k),  pi = softmax(logits),
///   Sigma_k = diag(exp(log_scale_k)^2)  or  L_k L_k^T with L_k from `factor`.
///
/// All parameters are free real numbers: "logits" (K), "mean" (K, D), and "log_scale" (K, D) or
/// "factor" (K, D, D), lower triangular with the logarithm of its diagonal. A new model has equal
/// weights, means zero and covariances one: initialise it with initialise_mixture, or fit it.
///
/// Data are (N, D) f32 on the model's stream. Put columns on comparable scales first (see
/// Standardisation): single precision then costs nothing.
class GaussianMixture {
 public:
  /// Throws ArgumentError unless components >= 1 and dims >= 1.
  GaussianMixture(int64_t components, int64_t dims, Covariance covariance, const Stream& stream);

  int64_t components() const { return components_; }
  int64_t dims() const { return dims_; }
  Covariance covariance() const { return covariance_; }
  const Stream& stream() const { return parameters_.stream(); }
  Parameters& parameters() { return parameters_; }
  const Parameters& parameters() const { return parameters_; }
  /// K - 1 weights, K D means, K D variances or K D (D + 1) / 2 covariances.
  int64_t degrees_of_freedom() const;
  /// Akaike's and Schwarz's criteria for a total log-likelihood log L of N rows under this model,
  /// -2 log L + 2 p and -2 log L + p log N with p = degrees_of_freedom(): lower is better.
  double aic(double log_likelihood) const;
  double bic(double log_likelihood, int64_t rows) const;

  /// Sum over the rows of w_n log p(x_n), rank 0; weights (N) or null for 1. The gradient is taken
  /// in the same pass over the data.
  Variable log_likelihood(Tape& tape, const Tensor<float>& x, const Tensor<float>* weights = nullptr);
  /// log p(x_n), (N), differentiable by the parameters.
  Variable log_marginal(Tape& tape, const Tensor<float>& x);
  /// log p(x_n, z_ns) for given components z (N, S), differentiable by the parameters.
  Variable log_joint(Tape& tape, const Tensor<float>& x, const Tensor<int32_t>& z);

  /// log p(x_n), (N).
  Tensor<float> log_prob(const Tensor<float>& x) const;
  /// p(z = k | x_n), (N, K).
  Tensor<float> responsibilities(const Tensor<float>& x) const;
  /// The most probable component of each row, the first of equals, (N) on the host; -1 for a row of
  /// no density or with a NaN.
  std::vector<int32_t> assignments(const Tensor<float>& x) const;
  /// z (N, S) drawn from p(z | x_n).
  Tensor<int32_t> sample_posterior(const Tensor<float>& x, const Draws& draws, int64_t samples = 1,
                                   const Tensor<int64_t>* data = nullptr) const;
  /// Component and data of `count` new points.
  MixtureSample sample(int64_t count, const Draws& draws) const;
  /// The sufficient statistics that EM needs, and the log marginals, in one pass.
  MixtureStatistics statistics(const Tensor<float>& x) const;

  /// On the host, in double: weights (K), means (K, D), and covariances (K, D, D) of a full or variances
  /// (K, D) of a diagonal model.
  std::vector<double> weights() const;
  std::vector<double> means() const;
  std::vector<double> covariances() const;
  /// The reverse: sets the parameters from these; the weights need not sum to 1, and a weight of 0 is a
  /// component that stays unused.
  /// Throws ShapeError for wrong sizes, ArgumentError for a negative weight or none above 0,
  /// NumericalError that names the component for a covariance that is not positive definite.
  void set(const std::vector<double>& weights, const std::vector<double>& means,
           const std::vector<double>& covariances);

 private:
  int64_t components_;
  int64_t dims_;
  Covariance covariance_;
  Parameters parameters_;
};

/// p(x_b, z_b) of one batch under a mixture, for the estimators of dgm/inference.
class MixtureJoint : public FiniteJoint {
 public:
  /// data: the rows' numbers in the data set, for the draws; null: 0, 1, ...
  /// The model must outlive the joint.
  MixtureJoint(GaussianMixture& model, Tensor<float> x, const Tensor<int64_t>* data = nullptr);
  int64_t batch() const override { return x_.shape()[0]; }
  const Stream& stream() const override { return x_.stream(); }
  Variable log_joint(Tape& tape, const Tensor<int32_t>& z) const override;
  Variable log_marginal(Tape& tape) const override;
  Tensor<int32_t> sample_posterior(const Draws& draws, int64_t samples) const override;

 private:
  GaussianMixture& model_;
  Tensor<float> x_;
  std::optional<Tensor<int64_t>> data_;
};

}  // namespace dgm
