// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// y[r,c] = bias[c]: what a product with beta = 1 then adds to.
struct BiasRows {
  const float* bias;  // (cols)
  int64_t rows;
  int64_t cols;
  float* y;  // (rows, cols)
};
void run_cpu(const BiasRows& args);
void run_cuda(const BiasRows& args, void* stream);

}  // namespace dgm::kernels
