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

}  // namespace dgm::kernels
