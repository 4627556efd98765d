// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>

#include <functional>

namespace dgm {

/// A latent variable model as the estimators see it: the joint log p(x_b, z_b) of one batch of
/// observed data, with a latent variable of finitely many values a datum, z_b in 0..K-1.
///
/// A model implements it over its data; it never knows which estimator trains it.
class FiniteJoint {
 public:
  virtual ~FiniteJoint() = default;

  /// Number of data, B.
  virtual int64_t batch() const = 0;
  virtual const Stream& stream() const = 0;
  /// log p(x_b, z_bs) for given z (B, S), differentiable by the parameters; (B, S).
  virtual Variable log_joint(Tape& tape, const Tensor<int32_t>& z) const = 0;
  /// log p(x_b) = log sum_z p(x_b, z), differentiable by the parameters; (B).
  virtual Variable log_marginal(Tape& tape) const = 0;
  /// z (B, S) drawn from p(z | x_b).
  virtual Tensor<int32_t> sample_posterior(const Draws& draws, int64_t samples) const = 0;
};

/// A joint given as a table: log p(x_b, z) for all z at once. Enough for any model with few values of
/// z; those with many, or with structure, implement FiniteJoint and sum by a kernel of their own.
class TabulatedJoint : public FiniteJoint {
 public:
  using Table = std::function<Variable(Tape& tape)>;
  /// table    makes log p(x_b, z), (B, K), on the tape.
  TabulatedJoint(Table table, int64_t batch, const Stream& stream)
      : table_(std::move(table)), batch_(batch), stream_(stream) {}

  int64_t batch() const override { return batch_; }
  const Stream& stream() const override { return stream_; }
  Variable log_joint(Tape& tape, const Tensor<int32_t>& z) const override;
  Variable log_marginal(Tape& tape) const override;
  Tensor<int32_t> sample_posterior(const Draws& draws, int64_t samples) const override;

 private:
  Table table_;
  int64_t batch_;
  Stream stream_;
};

}  // namespace dgm
