// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/math/schedule.hpp"

#include <cstdint>

namespace dgm::kernels {

/// Elements whose squares one partial sum of GradientNorm holds.
inline constexpr int64_t kNormChunk = 4096;

/// partial[j] = sum of grad[i]^2 over chunk j of kNormChunk elements, in double: no f32 overflows.
struct GradientNorm {
  const float* grad;
  int64_t size;
  double* partial;  // (ceil(size / kNormChunk))
};
void run_cpu(const GradientNorm& args);
void run_cuda(const GradientNorm& args, void* stream);

/// What an update is told by UpdateScalars; on the device.
struct StepScalars {
  float rate;       // of the schedule
  float step_size;  // rate / (1 - beta1^t)
  float root;       // 1 / sqrt(1 - beta2^t)
  float scale;      // of the gradient: clip_norm / norm where that is below 1
  float norm;       // of the gradient before clipping; 0 if it was not wanted
  int32_t skip;     // not 0: leave everything as it is
};

/// Positions in `counters`.
enum UpdateCounter : int { kUpdates, kSkipped, kLastSkipped, kUpdateCounters };

/// Finishes the norm, decides whether this update is skipped, counts it, and evaluates schedule and
/// bias corrections for it.
struct UpdateScalars {
  ScheduleArgs schedule;
  double beta1;
  double beta2;
  const double* partial;  // null: the norm is not wanted
  int64_t partials;
  double clip_norm;  // 0: none
  bool skip_non_finite;
  int64_t* counters;  // (kUpdateCounters): updates made, updates skipped, which call skipped last
  StepScalars* scalars;
};
void run_cpu(const UpdateScalars& args);
void run_cuda(const UpdateScalars& args, void* stream);

/// What the gradient goes through first: scaled by scalars->scale, clamped, its sign turned to
/// maximise.
struct GradientArgs {
  const float* grad;
  float clip_value;  // infinite: none
  bool maximise;
};

/// Stochastic gradient descent with momentum.
struct SgdUpdate {
  GradientArgs gradient;
  const StepScalars* scalars;
  float weight_decay;
  float momentum;
  bool nesterov;
  int64_t size;
  float* value;
  float* velocity;  // null without momentum
};
void run_cpu(const SgdUpdate& args);
void run_cuda(const SgdUpdate& args, void* stream);

/// Adam, and AdamW where decoupled.
struct AdamUpdate {
  GradientArgs gradient;
  const StepScalars* scalars;
  float weight_decay;
  bool decoupled;
  float one_minus_beta1;
  float one_minus_beta2;
  float epsilon;
  int64_t size;
  float* value;
  float* first;
  float* second;
};
void run_cpu(const AdamUpdate& args);
void run_cuda(const AdamUpdate& args, void* stream);

}  // namespace dgm::kernels
