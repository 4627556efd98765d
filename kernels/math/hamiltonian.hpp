// SPDX-License-Identifier: Apache-2.0
// What the CPU backend and the kernels share of Hamiltonian Monte Carlo: step sizes and the decision to accept.
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>

namespace dgm {

/// The step size of a datum's chains and what adapts it; four floats in memory. All 0 is the start.
struct StepSize {
  float log_step;     // relative to the first step
  float log_average;  // of the steps so far, later ones counting more; relative too
  float shortfall;    // mean of target - acceptance
  float count;        // adaptations so far
};

/// Dual averaging: the step follows the shortfall, with a gain that falls, towards ten times the first step.
/// Source: Hoffman & Gelman 2014, section 3.2, with their constants.
DGM_HD inline StepSize adapted(StepSize s, float acceptance, float target) {
  constexpr float kLogCentre = 2.30258509f;  // log 10
  constexpr float kGamma = 0.05f;
  constexpr float kT0 = 10.0f;
  constexpr float kKappa = 0.75f;
  // Chains that go on for ever follow a model that is trained: the gains stop falling here.
  constexpr float kMostCounted = 200.0f;
  s.count = fminf(s.count + 1.0f, kMostCounted);
  const float gain = 1.0f / (s.count + kT0);
  s.shortfall += gain * (target - acceptance - s.shortfall);
  s.log_step = kLogCentre - sqrtf(s.count) / kGamma * s.shortfall;
  s.log_average += powf(s.count, -kKappa) * (s.log_step - s.log_average);
  return s;
}

/// The probability with which a chain moves: min(1, exp(rise of log density - rise of kinetic energy)). A place without
/// a finite log density is never moved to and always left.
DGM_HD inline float acceptance_of(float log_density, float kinetic, float moved_log_density, float moved_kinetic) {
  if (!(fabsf(moved_log_density) < INFINITY)) return 0.0f;
  if (!(fabsf(log_density) < INFINITY)) return 1.0f;
  // The densities first: both are large where there are many data, and their difference is not.
  const float rise = (moved_log_density - log_density) - (moved_kinetic - kinetic);
  if (!(rise < 0.0f)) return rise >= 0.0f ? 1.0f : 0.0f;
  return expf(rise);
}

}  // namespace dgm
