// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/estimator.hpp>
#include <dgm/inference/latent_joint.hpp>

#include <optional>

namespace dgm {

/// The chains of every datum of a data set, which go on at its next visit where they stopped: posteriors move little
/// between two visits, so that few moves a step are enough. A handle; its tensors are all there is to save.
struct PersistentChains {
  Tensor<float> z;      ///< (N, C, D)
  Tensor<float> steps;  ///< (N, 4), as StepSizes::state; zeros where a datum has not been visited

  /// Throws ShapeError for negative numbers.
  PersistentChains(int64_t data, int64_t chains, int64_t dims, const Stream& stream)
      : z(Tensor<float>::zeros({data, chains, dims}, stream)), steps(Tensor<float>::zeros({data, 4}, stream)) {}
};

struct HamiltonianOptions {
  int64_t chains = 1;    ///< of each datum, C
  int64_t warm_up = 20;  ///< moves that adapt the steps, and leave where the chains began
  int64_t moves = 1;     ///< moves after them, by the steps' average; after each the chains' places are kept
  int64_t leaps = 10;    ///< leapfrog steps of a move, each of which evaluates the joint and its gradient by z
  double first_step = 0.1;
  double target = 0.8;  ///< acceptance that the steps are adapted to
  double jitter = 0.1;  ///< of a chain's step, as in MoveOptions
  /// Chains to go on with, a datum's by LatentJoint::data(); none: new ones, from the proposal, at each call.
  std::optional<PersistentChains> persistent = {};
};

/// Draws z_s from p(z | x) by Hamiltonian Monte Carlo and averages: (1/S) sum_s grad log p(x, z_s) for S = chains *
/// moves. Needs a continuous z and nothing of the posterior but the joint. The bias is that of chains that have not yet
/// forgotten where they began: it falls geometrically with the moves; the variance as 1/chains.
///
/// Chains start at draws from the proposal. If that is trained, its gradient is (1/S) sum_s grad log q(z_s | x), of
/// the divergence of the posterior from it (Markovian score climbing).
/// Source    Neal 2011; Hoffman & Gelman 2014 (adaptation); Naesseth, Lindsten & Blei 2020 (the proposal).
class HamiltonianMonteCarlo : public Estimator {
 public:
  /// Throws ArgumentError if chains, moves or leaps are below 1, warm_up is negative, or 0 with persistent chains, or
  /// first_step, target or jitter are out of range.
  HamiltonianMonteCarlo(const LatentJoint& joint, Proposal proposal, HamiltonianOptions options = {});
  std::string name() const override;
  /// log_marginal is log (1/C) sum_c p(x_b, z_c) / q(z_c) over draws from the proposal: a lower bound in expectation.
  /// acceptance_rate is that of the moves after the warm-up. A datum whose joint is NaN or -inf everywhere stays at
  /// its first draws. The objective's value is the mean of log p(x, z_s).
  /// Throws ArgumentError if z is discrete; ShapeError if persistent chains are not (N, chains, D).
  Estimate operator()(Tape& tape, const Draws& draws) const override;

 private:
  const LatentJoint& joint_;
  Proposal proposal_;
  HamiltonianOptions options_;
};

}  // namespace dgm
