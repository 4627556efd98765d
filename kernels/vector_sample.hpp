// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/draws.hpp"

#include <cstdint>

namespace dgm::kernels {

enum class Noise : int32_t {
  kGaussian,   // location + exp(log_scale) * normal
  kGumbel,     // location - log(-log u)
  kBernoulli,  // u <= sigmoid(location)
};

/// Where 1 - u is below this, log u is taken from 1 - u, the uniform of the inverted word: u itself has lost its last
/// bits there, may even be 1, and the Gumbel variable would be wrong or infinite.
inline constexpr float kNearOne = 0.25f;

/// z[b,s,d] from location[b,d] (and log_scale[b,d]) and word d % 4 of block s * ceil(D / 4) + d / 4 of the
/// datum; a normal takes the pair of words that its own is in.
struct VectorSample {
  Noise noise;
  const float* location;   // (B, D)
  const float* log_scale;  // (B, D); null unless Gaussian
  int64_t rows;            // B
  int64_t samples;         // S
  int64_t dims;            // D
  const int64_t* data;     // (B), null: the row's number
  DrawArgs draws;
  float* z;  // (B, S, D)

  int64_t blocks_per_sample() const { return (dims + 3) / 4; }
};
void run_cpu(const VectorSample& args);
void run_cuda(const VectorSample& args, void* stream);

/// d_location[b,d] = sum_s g[b,s,d], d_log_scale[b,d] = sum_s g[b,s,d] (z[b,s,d] - location[b,d]).
struct VectorSampleGradient {
  const float* g;         // (B, S, D)
  const float* z;         // (B, S, D), null if d_log_scale is
  const float* location;  // (B, D), null if d_log_scale is
  int64_t rows;
  int64_t samples;
  int64_t dims;
  float* d_location;   // (B, D), null: not wanted
  float* d_log_scale;  // (B, D), null: not wanted
};
void run_cpu(const VectorSampleGradient& args);
void run_cuda(const VectorSampleGradient& args, void* stream);

}  // namespace dgm::kernels
