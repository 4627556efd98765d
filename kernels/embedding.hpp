// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::kernels {

/// y[n,:] = table[ids[n],:], or zeros where ids[n] is no row of the table.
struct Embedding {
  const float* table;  // (vocabulary, dims)
  const int32_t* ids;  // (count)
  int64_t vocabulary;
  int64_t dims;
  int64_t count;
  float* y;  // (count, dims)
};
void run_cpu(const Embedding& args);
void run_cuda(const Embedding& args, void* stream);

/// d_table[v,:] = sum over n with ids[n] = v of g[n,:], in double and in the order of n.
struct EmbeddingGradient {
  const float* g;      // (count, dims)
  const int32_t* ids;  // (count), count < 2^31
  int64_t vocabulary;
  int64_t dims;
  int64_t count;
  uint64_t* keys;  // (sorted_size(count)), scratch; null on the CPU
  float* d_table;  // (vocabulary, dims), overwritten

  /// Keys that the sort on the device works on: the next power of two.
  static int64_t sorted_size(int64_t count) {
    int64_t size = 1;
    while (size < count) size *= 2;
    return size;
  }
};
void run_cpu(const EmbeddingGradient& args);
void run_cuda(const EmbeddingGradient& args, void* stream);

}  // namespace dgm::kernels
