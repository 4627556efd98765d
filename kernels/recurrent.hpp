// SPDX-License-Identifier: Apache-2.0
// Steps of recurrent cells over a packed batch: step t has rows step_begin[t] .. step_begin[t + 1] - 1, of the
// sequences of rank 0, 1, ...
#pragma once

#include <cstddef>
#include <cstdint>

namespace dgm::kernels {

enum class Cell : int32_t { lstm, gru };

/// Parts of a cell's input: i f g o, or r z n.
constexpr int64_t parts_of(Cell cell) { return cell == Cell::lstm ? 4 : 3; }

struct Recurrence {
  Cell cell;
  const int64_t* step_begin;  // (steps + 1), on the host on every device
  int64_t steps;
  int64_t batch;
  int64_t hidden;
  const float* input;   // (inputs, parts * hidden)
  const int32_t* rows;  // (step_begin[steps]) row of input; null: its own
  int64_t inputs;
  const float* context;  // (batch, parts * hidden) by rank; null: none
  const float* weight;   // (parts * hidden, hidden)
  const float* bias;     // gru: (parts * hidden), added to the product
  const float* h0;       // (batch, hidden) by rank; null: zeros
  float* c;              // lstm: (batch, hidden) by rank, cells before the first step; after the last on return
  float* h;              // (step_begin[steps], hidden)
  float* gates;          // (step_begin[steps], 4 * hidden): i f g o, or r z n and the product's n; null: not kept
  float* cells;          // lstm: (step_begin[steps], hidden), with gates
  float* products;       // CUDA: (batch, parts * hidden)
  void* workspace;       // CUDA: cuBLAS's
  std::size_t workspace_bytes;
};
void run_cpu(const Recurrence& args);
void run_cuda(const Recurrence& args, void* stream);

struct RecurrenceGradient {
  Cell cell;
  const int64_t* step_begin;  // as above
  int64_t steps;
  int64_t batch;
  int64_t hidden;
  const float* weight;
  const float* h0;  // null: zeros
  const float* c0;  // lstm; null: zeros
  const float* h;
  const float* gates;
  const float* cells;
  const float* g;    // (step_begin[steps], hidden)
  float* d_input;    // (step_begin[steps], parts * hidden): gradient of each packed row's input
  float* d_product;  // gru: the same of the product; lstm: unused, it is d_input
  float* previous;   // (step_begin[steps], hidden): the state before each packed row's step
  float* d_h;        // (batch, hidden), by rank: zeros; the gradient of h0 on return
  float* d_c;        // lstm: the same of c0
  void* workspace;
  std::size_t workspace_bytes;
};
void run_cpu(const RecurrenceGradient& args);
void run_cuda(const RecurrenceGradient& args, void* stream);

}  // namespace dgm::kernels
