// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>

#include <memory>
#include <optional>

namespace dgm {

/// Distributions of vectors with D independent coordinates, one for each of B data. The parameters are Variables:
/// gradients flow to them from log_prob, entropy, kl and, where reparameterised(), from the draws.
///
/// Shapes    draws z are (B, S, D), S of them a datum; log_prob takes these, or (B, D).
/// Nothing waits for the device. Natural logs.
class VectorDistribution {
 public:
  virtual ~VectorDistribution() = default;
  virtual int64_t batch() const = 0;
  virtual int64_t dims() const = 0;

  /// Whether gradients flow through draws.
  virtual bool reparameterised() const = 0;
  /// Whether coordinates are real numbers, by which the log probability can be differentiated.
  virtual bool continuous() const { return reparameterised(); }
  /// z (B, S, D). data: each row's datum for the draws (B); null: the row's number.
  /// Throws ArgumentError if samples < 1.
  virtual Variable sample(const Draws& draws, int64_t samples, const Tensor<int64_t>* data = nullptr) const = 0;
  /// (B, S) for z (B, S, D), (B) for z (B, D).
  virtual Variable log_prob(const Variable& z) const = 0;
  /// (B).
  virtual Variable entropy() const = 0;
  /// (B, D): a most probable value.
  virtual Tensor<float> mode() const = 0;
  /// The coordinates' divergences KL(this || other), (B, D); none where there is no closed form.
  virtual std::optional<Variable> coordinate_kl(const VectorDistribution& other) const = 0;
  /// The same distribution with constants for parameters: gradients still flow through z.
  virtual std::unique_ptr<VectorDistribution> detach() const = 0;
};

/// N(mean, diag(exp(log_scale)^2)).
class DiagonalGaussian : public VectorDistribution {
 public:
  /// mean, log_scale (B, D). Throws ShapeError, DeviceError.
  DiagonalGaussian(Variable mean, Variable log_scale);
  /// B times N(0, I).
  static DiagonalGaussian standard(int64_t batch, int64_t dims, const Stream& stream);

  int64_t batch() const override { return mean_.shape()[0]; }
  int64_t dims() const override { return mean_.shape()[1]; }
  bool reparameterised() const override { return true; }
  Variable sample(const Draws& draws, int64_t samples, const Tensor<int64_t>* data = nullptr) const override;
  Variable log_prob(const Variable& z) const override;
  Variable entropy() const override;
  /// The mean.
  Tensor<float> mode() const override { return mean_.value(); }
  /// log P(X <= x), every coordinate at most x's: (B, S) for x (B, S, D), (B) for x (B, D). Accurate in both tails;
  /// its exponential is the distribution function.
  Variable log_cdf(const Variable& x) const;
  /// Each coordinate's value below which it is with probability p: mean + scale * z_p, (B, D); -inf for p = 0, inf for
  /// 1. Relative error of z_p below 1e-7. Throws ArgumentError unless 0 <= p <= 1.
  Variable quantile(double p) const;
  /// In closed form for another DiagonalGaussian.
  std::optional<Variable> coordinate_kl(const VectorDistribution& other) const override;
  std::unique_ptr<VectorDistribution> detach() const override;

  const Variable& mean() const { return mean_; }
  const Variable& log_scale() const { return log_scale_; }

 private:
  Variable mean_;
  Variable log_scale_;
  bool standard_ = false;
};

/// D bits, 1 with probability sigmoid(logits). A logit of +-inf makes a bit certain.
class BernoulliVector : public VectorDistribution {
 public:
  /// logits (B, D). Throws ShapeError.
  explicit BernoulliVector(Variable logits);

  int64_t batch() const override { return logits_.shape()[0]; }
  int64_t dims() const override { return logits_.shape()[1]; }
  bool reparameterised() const override { return false; }
  Variable sample(const Draws& draws, int64_t samples, const Tensor<int64_t>* data = nullptr) const override;
  Variable log_prob(const Variable& z) const override;
  Variable entropy() const override;
  /// 1 where the logit is above 0.
  Tensor<float> mode() const override;
  /// log P(X <= x), every coordinate at most x's, shapes as for log_prob: of a coordinate -inf below 0, log P(X = 0)
  /// below 1, 0 from there on.
  Variable log_cdf(const Variable& x) const;
  /// In closed form for another BernoulliVector.
  std::optional<Variable> coordinate_kl(const VectorDistribution& other) const override;
  std::unique_ptr<VectorDistribution> detach() const override;

  const Variable& logits() const { return logits_; }

 private:
  Variable logits_;
};

}  // namespace dgm
