// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// to[r, to_begin + c] = from[r, from_begin + c] for c < cols; the other columns of `to` are left alone.
struct CopyColumns {
  const float* from;  // (rows, from_cols)
  int64_t from_cols;
  int64_t from_begin;
  int64_t rows;
  int64_t cols;
  float* to;  // (rows, to_cols)
  int64_t to_cols;
  int64_t to_begin;
};
void run_cpu(const CopyColumns& args);
void run_cuda(const CopyColumns& args, void* stream);

/// to[r, begin + c] = from[r, c] for c < cols, and 0 in the other columns.
struct PadColumns {
  const float* from;  // (rows, cols)
  int64_t rows;
  int64_t cols;
  float* to;  // (rows, to_cols)
  int64_t to_cols;
  int64_t begin;
};
void run_cpu(const PadColumns& args);
void run_cuda(const PadColumns& args, void* stream);

}  // namespace dgm::kernels
