// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// y = log softmax of each row of x, or softmax.
struct LogSoftmaxForward {
  const float* x;  // (rows, cols)
  int64_t rows;
  int64_t cols;        // at least 1
  bool exponentiated;  // y is the softmax itself
  float* y;            // (rows, cols)
};
void run_cpu(const LogSoftmaxForward& args);
void run_cuda(const LogSoftmaxForward& args, void* stream);

/// dx[b,k] = g[b,k] - exp(y[b,k]) sum_j g[b,j] over y > -inf; or y[b,k] (g[b,k] - sum_j y[b,j] g[b,j])
/// over y != 0. Entries that are left out have dx = 0.
struct LogSoftmaxBackward {
  const float* y;  // (rows, cols), what the forward pass gave
  const float* g;  // (rows, cols)
  int64_t rows;
  int64_t cols;
  bool exponentiated;
  float* dx;  // (rows, cols)
};
void run_cpu(const LogSoftmaxBackward& args);
void run_cuda(const LogSoftmaxBackward& args, void* stream);

}  // namespace dgm::kernels
