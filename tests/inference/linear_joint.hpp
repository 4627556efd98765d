// SPDX-License-Identifier: Apache-2.0
// A latent vector that is small enough to be integrated or summed out, and what estimators are held against.
#pragma once

#include <dgm/inference/estimator.hpp>
#include <dgm/inference/latent_joint.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/reference.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace dgm::test {

/// Few draws where sanitizers or the executor make each a hundred times slower.
#if defined(DGM_SIMT)
inline constexpr bool kFewDraws = true;
#else
inline constexpr bool kFewDraws = false;
#endif

/// An objective that needs no draws: what an estimator is held against.
class Deterministic : public Estimator {
 public:
  using Objective = std::function<Variable(Tape&)>;
  explicit Deterministic(Objective objective) : objective_(std::move(objective)) {}
  std::string name() const override { return "reference"; }
  Estimate operator()(Tape& tape, const Draws&) const override {
    const Variable objective = objective_(tape);
    return {objective, objective.value()};
  }

 private:
  Objective objective_;
};

/// x_b ~ N(w . z + c, 1) for a latent vector z of D coordinates, Gaussian or bits.
class LinearJoint : public LatentJoint {
 public:
  LinearJoint(Parameters& parameters, const std::vector<float>& x, int64_t dims, bool bits, const Stream& stream)
      : parameters_(parameters),
        x_(Tensor<float>::from(x, {static_cast<int64_t>(x.size()), 1}, stream)),
        dims_(dims),
        bits_(bits) {
    parameters_.add("w", Tensor<float>::from(random_normals(dims, 31), {dims}, stream));
    parameters_.add("c", Tensor<float>::from({0.3f}, {1}, stream));
    if (bits_) parameters_.add("prior", Tensor<float>::from(random_normals(dims, 32, 0.5), {dims}, stream));
  }
  int64_t batch() const override { return x_.shape()[0]; }
  const Stream& stream() const override { return x_.stream(); }
  std::unique_ptr<VectorDistribution> prior(Tape& tape) const override {
    const auto zeros = Tensor<float>::zeros({batch(), dims_}, stream());
    if (bits_) return std::make_unique<BernoulliVector>(zeros + tape.watch(parameters_["prior"]));
    return std::make_unique<DiagonalGaussian>(DiagonalGaussian::standard(batch(), dims_, stream()));
  }
  Variable log_likelihood(Tape& tape, const Variable& z) const override {
    const Variable mean = sum(z * tape.watch(parameters_["w"]), -1) + tape.watch(parameters_["c"]);  // (B, S)
    return square(mean - x_) * -0.5f - 0.918938533f + bad_;
  }
  /// Added to every log-likelihood.
  void spoil(float bad) { bad_ = bad; }
  const Tensor<float>& x() const { return x_; }

 private:
  Parameters& parameters_;
  Tensor<float> x_;
  int64_t dims_;
  bool bits_;
  float bad_ = 0;
};

}  // namespace dgm::test
