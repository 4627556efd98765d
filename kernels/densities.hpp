// SPDX-License-Identifier: Apache-2.0
// Launches that sum a term over the last axis, y[b,s] = sum_d f(u, p, q): log-densities of independent
// coordinates, and the divergences and entropies that have a closed form.
#pragma once

#include "kernels/map.hpp"

/// To add one: its name here, its formula and slopes in kernels/math/densities-inl.hpp, its function in
/// include/dgm/ops/densities.hpp and host/ops/densities.cpp.
// clang-format off
#define DGM_DENSITIES(DO)                                                    \
  DO(Gaussian) DO(StandardGaussian) DO(GaussianKl) DO(StandardGaussianKl)    \
  DO(Bernoulli) DO(BernoulliEntropy) DO(BernoulliKl) DO(CategoricalEntropy)  \
  DO(CategoricalKl) DO(GaussianCdf) DO(BernoulliCdf)
// clang-format on

namespace dgm::kernels {

enum class Density : int32_t { DGM_DENSITIES(DGM_ENUMERATOR) };

inline constexpr int kMostDensityArguments = 4;

/// Element (b, s, d) is data[b * batch_stride + s * sample_stride + d]: a stride of 0 shares the argument.
struct DensityArgument {
  const float* data;
  int64_t batch_stride;
  int64_t sample_stride;
};

struct DensityInput {
  Density function;
  DensityArgument arguments[kMostDensityArguments];
  int64_t batch;    // B
  int64_t samples;  // S
  int64_t dims;     // D, may be 0
};

/// y[b,s] = sum_d f(arguments at (b, s, d)).
struct DensitySum {
  DensityInput in;
  float* y;  // (B, S)
};
void run_cpu(const DensitySum& args);
void run_cuda(const DensitySum& args, void* stream);

/// The gradients of sum_bs g[b,s] y[b,s]: for an argument with sample_stride 0 summed over the samples,
/// (B, D), else (B, S, D). Rows with g = 0 have none, whatever the arguments are.
struct DensityGradient {
  DensityInput in;
  const float* g;                           // (B, S)
  float* gradients[kMostDensityArguments];  // null: not wanted
};
void run_cpu(const DensityGradient& args);
void run_cuda(const DensityGradient& args, void* stream);

}  // namespace dgm::kernels
