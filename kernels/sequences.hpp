// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// y[sequence_of_rank[r], c] = sum_t x[step_begin[t] + r, c] over the steps t that have more than r rows.
struct SequenceSum {
  const float* x;                   // (step_begin[steps], cols) in packed order
  const int64_t* step_begin;        // (steps + 1)
  const int64_t* sequence_of_rank;  // (batch)
  int64_t steps;
  int64_t batch;
  int64_t cols;
  float* y;  // (batch, cols)
};
void run_cpu(const SequenceSum& args);
void run_cuda(const SequenceSum& args, void* stream);

}  // namespace dgm::kernels
