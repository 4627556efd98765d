// SPDX-License-Identifier: Apache-2.0
// Hamiltonian Monte Carlo, move by move: C chains for each of B data, whose stationary distribution has the density
// that the caller evaluates between the calls. None of them waits for the device: the decision to accept and the
// adaptation of the step sizes stay there.
//
//   StepSizes steps = {Tensor<float>::zeros({batch, 4}, stream), 0.1f};
//   for (int64_t move = 0; move < moves; ++move) {
//     Trajectory path = begin_trajectory(chains, steps, draws, move);
//     for (int i = 1; i < leaps; ++i) leapfrog(path, gradient of the log density at path.moved);
//     end_trajectory(chains, path, log density and gradient at path.moved, steps, draws, move);
//   }
//
// Source    Neal 2011, "MCMC using Hamiltonian dynamics"; the adaptation: Hoffman & Gelman 2014, section 3.2.
#pragma once

#include <dgm/core/random.hpp>

namespace dgm {

/// Where the chains are, and their log density there, known up to a constant of the datum.
struct Chains {
  Tensor<float> z;            ///< (B, C, D)
  Tensor<float> log_density;  ///< (B, C)
  Tensor<float> gradient;     ///< (B, C, D), of the log density by z
};

/// A step size for each datum, shared by its chains: scales of posteriors differ from datum to datum, and no datum's
/// draws may depend on what else is in its batch.
struct StepSizes {
  /// (B, 4), zeros at first: the logarithms of the step and of its average so far, relative to the first, the mean of
  /// target - acceptance, and the number of adaptations, which counts to 200.
  Tensor<float> state;
  /// The step to begin with; adaptation tries up to about ten times as much at once.
  float first;
};

/// A move that has begun.
struct Trajectory {
  Tensor<float> moved;     ///< (B, C, D)
  Tensor<float> momentum;  ///< (B, C, D)
  Tensor<float> kinetic;   ///< (B, C), |momentum|^2 / 2 at the start
  Tensor<float> step;      ///< (B, C)
};

struct MoveOptions {
  bool adapt = true;    ///< the steps; otherwise their average is taken, and stays
  double target = 0.8;  ///< acceptance that the steps are adapted to, in (0, 1)
  double jitter = 0.1;  ///< each chain's step is the datum's times 1 + jitter u, u ~ U(-1, 1): no period; in [0, 1)
  /// Each row's datum for the draws (B); null: the row's number.
  const Tensor<int64_t>* data = nullptr;
};

/// Draws momenta from N(0, I) and makes half a kick and the first drift: momentum += step/2 gradient, then
/// moved = z + step momentum.
///
/// draws     move m of chain c takes blocks 2^31 + (m C + c) (ceil(D / 4) + 1) + i of the row's datum, momenta as
///           gaussian_sample takes its words; of the last block the first word is for the decision, the second for
///           the step. Draws of the same site and step before block 2^31 are free: those of the first positions.
/// Throws    ShapeError, DeviceError; ArgumentError for options out of range or a move that needs blocks past 2^32.
Trajectory begin_trajectory(const Chains& chains, const StepSizes& steps, const Draws& draws, int64_t move,
                            const MoveOptions& options = {});

/// A whole kick and a drift, for the gradient (B, C, D) at path.moved; in place.
void leapfrog(Trajectory& path, const Tensor<float>& gradient);

/// The last half kick, and the decision: a chain takes its end point with probability
/// min(1, exp(log density - |momentum|^2/2 at the end - the same at the start)). chains and, if adapted, steps are
/// changed in place.
///
/// end       the log density and its gradient at path.moved, which end.z is; options as at the beginning.
/// returns   (B, C): that probability, 0 where the log density or the energy at the end is not finite; 1 where only
///           that at the start is not.
/// Accuracy  energies to 1e-6 of the largest term.
Tensor<float> end_trajectory(Chains& chains, const Trajectory& path, const Chains& end, StepSizes& steps,
                             const Draws& draws, int64_t move, const MoveOptions& options = {});

}  // namespace dgm
