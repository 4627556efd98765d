// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/draws.hpp"

#include <cstdint>

namespace dgm::kernels {

/// y[r,c] = scale * x[r,c], or 0 where the draw says so: word c % 4 of block c / 4 of the row's datum
/// is below the threshold. Its gradient is the same launch with g for x.
struct Dropout {
  const float* x;  // (rows, cols)
  int64_t rows;
  int64_t cols;
  const int64_t* data;  // (rows) each row's datum for the draw; null: the row's number
  uint32_t threshold;
  float scale;
  DrawArgs draws;
  float* y;  // (rows, cols)
};
void run_cpu(const Dropout& args);
void run_cuda(const Dropout& args, void* stream);

}  // namespace dgm::kernels
