// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/distributions/vector_distribution.hpp>

#include <functional>
#include <memory>

namespace dgm {

/// A latent variable model as the estimators see it, for a latent vector z_b of D coordinates, continuous or
/// bits: log p(x_b, z) = log p(z) + log p(x_b | z) of one batch of observed data.
///
/// A model implements it over its data; it never knows which estimator trains it.
class LatentJoint {
 public:
  virtual ~LatentJoint() = default;
  /// Number of data, B.
  virtual int64_t batch() const = 0;
  virtual const Stream& stream() const = 0;
  /// p(z) for each datum.
  virtual std::unique_ptr<VectorDistribution> prior(Tape& tape) const = 0;
  /// log p(x_b | z_bs) for z (B, S, D), differentiable by the parameters and by z; (B, S).
  virtual Variable log_likelihood(Tape& tape, const Variable& z) const = 0;
  /// Each datum's number in the data set, for the draws; null: 0, 1, ...
  virtual const Tensor<int64_t>* data() const { return nullptr; }
};

/// q(z | x_b) for the batch of a joint: the distribution that draws come from and, if its parameters are watched on
/// the tape, one that is trained. An empty Proposal is the prior, held constant.
using Proposal = std::function<std::unique_ptr<VectorDistribution>(Tape& tape)>;

}  // namespace dgm
