// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/draws.hpp"
#include "kernels/math/host_device.hpp"

#include <cstdint>

namespace dgm::kernels {

enum class BatchKind : int32_t {
  all,          // 0..batch-1 with weight 1
  replacement,  // each entry uniform on 0..data-1
  wrap,         // epochs one after the other, cut into batches: some straddle two
  drop,         // epochs cut into batches, the rest left out
  pad,          // the same, the rest filled up with entries of weight 0
};

/// The data of step draws.step: indices[i] and weights[i] with E[sum_i w_i f(index_i)] = sum_n f(n).
struct DrawMinibatch {
  DrawArgs draws;
  BatchKind kind;
  int64_t data;   // at least 1
  int64_t batch;  // drop: at most data
  int64_t* indices;
  float* weights;
};
void run_cpu(const DrawMinibatch& args);
void run_cuda(const DrawMinibatch& args, void* stream);

/// Where entry i of a batch is taken from.
struct BatchEntry {
  uint64_t epoch;
  int64_t position;  // in the epoch's permutation
  double weight;
};

/// For the kinds that go by epochs.
DGM_HD inline BatchEntry batch_entry(const DrawMinibatch& args, int64_t step, int64_t i) {
  const double data = static_cast<double>(args.data);
  const double weight = data / static_cast<double>(args.batch);
  if (args.kind == BatchKind::wrap) {
    const int64_t at = step * args.batch + i;
    return {static_cast<uint64_t>(at / args.data), at % args.data, weight};
  }
  const int64_t full = args.data / args.batch;
  const bool ragged = args.kind == BatchKind::pad && full * args.batch < args.data;
  const int64_t batches = full + (ragged ? 1 : 0);
  const int64_t position = step % batches * args.batch + i;
  const auto epoch = static_cast<uint64_t>(step / batches);
  if (!ragged || step % batches < full) return {epoch, position, weight};
  const int64_t rest = args.data - full * args.batch;
  return i < rest ? BatchEntry{epoch, position, data / static_cast<double>(rest)} : BatchEntry{epoch, args.data - 1, 0};
}

/// y[i, :] = x[indices[i], :]; `missing` for an index outside 0..rows-1.
template <class T>
struct GatherRows {
  const T* x;  // (rows, cols)
  int64_t rows;
  int64_t cols;
  const int64_t* indices;  // (count)
  int64_t count;
  T missing;
  T* y;  // (count, cols)
};
void run_cpu(const GatherRows<float>& args);
void run_cuda(const GatherRows<float>& args, void* stream);
void run_cpu(const GatherRows<int32_t>& args);
void run_cuda(const GatherRows<int32_t>& args, void* stream);

/// y[indices[i], :] = x[i, :]; indices out of range are left out.
struct ScatterRows {
  const float* x;          // (count, cols)
  const int64_t* indices;  // (count)
  int64_t count;
  int64_t cols;
  int64_t rows;
  float* y;  // (rows, cols)
};
void run_cpu(const ScatterRows& args);
void run_cuda(const ScatterRows& args, void* stream);

/// Ends a training step: writes its loss and gradient norm to slot step mod capacity, then counts
/// it.
struct RecordStep {
  const float* loss;  // one element
  const float* norm;  // one element
  int64_t capacity;
  float* ring;  // (capacity, 2)
  int64_t* step;
};
void run_cpu(const RecordStep& args);
void run_cuda(const RecordStep& args, void* stream);

}  // namespace dgm::kernels
