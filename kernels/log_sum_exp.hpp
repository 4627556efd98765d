// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// y[b] = shift + log sum_k exp(x[b,k]).
struct LogSumExpForward {
  const float* x;  // (rows, cols)
  int64_t rows;
  int64_t cols;  // at least 1
  float shift;
  float* y;  // (rows)
};
void run_cpu(const LogSumExpForward& args);
void run_cuda(const LogSumExpForward& args, void* stream);

/// dx[b,k] = g[b] exp(x[b,k] - (y[b] - shift)); zero where y[b] = -inf.
struct LogSumExpBackward {
  const float* x;  // (rows, cols)
  const float* y;  // (rows), what the forward pass gave
  const float* g;  // (rows)
  int64_t rows;
  int64_t cols;
  float shift;
  float* dx;  // (rows, cols)
};
void run_cpu(const LogSumExpBackward& args);
void run_cuda(const LogSumExpBackward& args, void* stream);

}  // namespace dgm::kernels
