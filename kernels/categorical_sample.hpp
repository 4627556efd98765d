// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/draws.hpp"

#include <cstdint>

namespace dgm::kernels {

/// z[b,s] ~ Cat(softmax(logits[b])), by inversion with word s % 4 of block s / 4 of the row's datum;
/// -1 for a row without a distribution.
struct CategoricalSample {
  const float* logits;  // (rows, cols)
  int64_t rows;
  int64_t cols;         // at least 1
  const int64_t* data;  // (rows), null: the row's number
  int64_t samples;      // at least 1
  DrawArgs draws;
  int32_t* z;  // (rows, samples)
};
void run_cpu(const CategoricalSample& args);
void run_cuda(const CategoricalSample& args, void* stream);

}  // namespace dgm::kernels
