// SPDX-License-Identifier: Apache-2.0
// Launches that sum over one axis of an array seen as (outer, count, inner), and their gradient; and the largest
// entry of each row, whose gradient is that of pick.
#pragma once

#include <algorithm>
#include <cstdint>

namespace dgm::kernels {

/// y[o,i] = scale * sum_c x[o,c,i] factor[o,c,i], summed in double.
struct SumAxis {
  const float* x;       // (outer, count, inner)
  const float* factor;  // (outer, count, inner); null: all 1
  int64_t outer;
  int64_t count;
  int64_t inner;
  double scale;
  double* partial;  // (outer, chunks, inner), scratch; null where chunks = 1
  float* y;         // (outer, inner)

  /// Parts that the summed axis is cut into, each summed by itself. Follows from the extents alone,
  /// so that neither the threads nor the grid change a sum's order.
  static int64_t chunks(int64_t outer, int64_t count, int64_t inner) {
    constexpr int64_t kMost = 1024;
    constexpr int64_t kElements = 8192;  // of a chunk, at least
    constexpr int64_t kFewest = 64;      // entries of a chunk, at least: scratch stays below the input
    const int64_t most = std::min(kMost / std::max<int64_t>(outer, 1), count / kFewest);
    return std::clamp<int64_t>(count * inner / kElements, 1, std::max<int64_t>(most, 1));
  }
  int64_t chunks() const { return chunks(outer, count, inner); }
  static int64_t chunk_begin(int64_t chunk, int64_t chunks, int64_t count) {
    return count / chunks * chunk + std::min(chunk, count % chunks);
  }
};
void run_cpu(const SumAxis& args);
void run_cuda(const SumAxis& args, void* stream);

/// dx[o,c,i] = scale * g[o,i].
struct SpreadAxis {
  const float* g;  // (outer, inner)
  int64_t outer;
  int64_t count;
  int64_t inner;
  float scale;
  float* dx;  // (outer, count, inner)
};
void run_cpu(const SpreadAxis& args);
void run_cuda(const SpreadAxis& args, void* stream);

/// y[r] = max_c x[r,c] and the first c that has it; a NaN counts as larger than any number.
struct RowMax {
  const float* x;  // (rows, cols)
  int64_t rows;
  int64_t cols;    // 1..2^31 - 1
  float* y;        // (rows)
  int32_t* index;  // (rows)
};
void run_cpu(const RowMax& args);
void run_cuda(const RowMax& args, void* stream);

}  // namespace dgm::kernels
