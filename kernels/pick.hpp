// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// y[b,s] = x[b, index[b,s]]; NaN for an index that is out of range.
struct PickForward {
  const float* x;        // (rows, cols)
  const int32_t* index;  // (rows, samples)
  int64_t rows;
  int64_t cols;
  int64_t samples;
  float* y;  // (rows, samples)
};
void run_cpu(const PickForward& args);
void run_cuda(const PickForward& args, void* stream);

/// dx[b,k] = sum over s with index[b,s] = k of g[b,s], in the order of s.
struct PickBackward {
  const float* g;        // (rows, samples)
  const int32_t* index;  // (rows, samples)
  int64_t rows;
  int64_t cols;
  int64_t samples;
  float* dx;  // (rows, cols), overwritten
};
void run_cpu(const PickBackward& args);
void run_cuda(const PickBackward& args, void* stream);

}  // namespace dgm::kernels
