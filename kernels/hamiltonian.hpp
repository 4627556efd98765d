// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/draws.hpp"
#include "kernels/math/hamiltonian.hpp"

#include <cstdint>

namespace dgm::kernels {

/// C chains for each of B data; coordinates (B, C, D), all else of chains (B, C). A datum's draws of one move are
/// blocks first_block + chain * blocks_per_chain() + i: momenta, and in the last block a uniform for the decision
/// and one for the step.
struct ChainDraws {
  int64_t rows;         // B
  int64_t chains;       // C
  int64_t dims;         // D
  const int64_t* data;  // (B), null: the row's number
  DrawArgs draws;
  uint32_t first_block;

  int64_t momentum_blocks() const { return (dims + 3) / 4; }
  int64_t blocks_per_chain() const { return momentum_blocks() + 1; }
};

/// New momenta, their kinetic energy, each chain's step, half a kick and the first drift.
struct TrajectoryStart {
  ChainDraws chains;
  const float* z;
  const float* gradient;
  const StepSize* steps;  // (B)
  float first_step;
  bool averaged;  // take the average of the steps
  float jitter;   // a chain's step is the datum's times 1 + jitter * uniform(-1, 1)
  float* moved;
  float* momentum;
  float* kinetic;
  float* step;
};
void run_cpu(const TrajectoryStart& args);
void run_cuda(const TrajectoryStart& args, void* stream);

/// momentum += step * gradient; moved += step * momentum.
struct Leapfrog {
  int64_t rows;  // B * C
  int64_t dims;
  const float* gradient;
  const float* step;
  float* moved;
  float* momentum;
};
void run_cpu(const Leapfrog& args);
void run_cuda(const Leapfrog& args, void* stream);

/// Half a kick, the decision, and the adaptation of the datum's step.
struct TrajectoryEnd {
  ChainDraws chains;
  const float* moved;
  const float* moved_log_density;
  const float* moved_gradient;
  const float* momentum;
  const float* kinetic;  // at the start
  const float* step;
  float* z;  // these three become the moved ones where a chain moves
  float* log_density;
  float* gradient;
  float* acceptance;
  StepSize* steps;  // (B); null: none is adapted
  float target;
};
void run_cpu(const TrajectoryEnd& args);
void run_cuda(const TrajectoryEnd& args, void* stream);

}  // namespace dgm::kernels
