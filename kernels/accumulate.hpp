// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// to[i] += from[i].
struct Accumulate {
  const float* from;
  int64_t size;
  float* to;
};
void run_cpu(const Accumulate& args);
void run_cuda(const Accumulate& args, void* stream);

/// to[i] = value.
struct Fill {
  float value;
  int64_t size;
  float* to;
};
void run_cpu(const Fill& args);
void run_cuda(const Fill& args, void* stream);

/// x[i] *= *factor.
struct ScaleBy {
  const float* factor;  // one element on the device
  int64_t size;
  float* x;
};
void run_cpu(const ScaleBy& args);
void run_cuda(const ScaleBy& args, void* stream);

}  // namespace dgm::kernels
