// SPDX-License-Identifier: Apache-2.0
// Launches of the categorical distribution over a large vocabulary, computed from hidden states:
//   log p[b,v] = h_b . w_v + c_v - log sum_u exp(h_b . w_u + c_u).
//
// Letters: B rows, H numbers in a hidden state, V words, E entries (b, v) whose log probability is asked for.
//
// scratch: device memory of cuda_scratch_bytes(args) that run_cuda works in; dgm::run() provides it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dgm::kernels {

struct LinearCategorical {
  const float* hidden;     // (B, H)
  const float* weight;     // (V, H)
  const float* bias;       // (V), null: none; -inf excludes a word
  int64_t rows;            // B >= 1
  int64_t width;           // H >= 0
  int64_t words;           // V >= 1
  const int64_t* offsets;  // (B + 1): row b has entries offsets[b] .. offsets[b + 1] - 1; null: entry b alone
  const int32_t* labels;   // (E) the word of each entry
  int64_t entries;         // E
  bool bfloat16;           // the CPU may round what it multiplies to bfloat16
};

/// y[e] = log p[b_e, labels[e]]: -inf for an excluded word, NaN for a label that is no word.
struct LinearCategoricalForward {
  LinearCategorical model;
  float* log_normaliser;  // (B) log sum_u exp(h_b . w_u + c_u)
  float* y;               // (E)
  void* scratch = nullptr;
};
void run_cpu(const LinearCategoricalForward& args);
void run_cuda(const LinearCategoricalForward& args, void* stream);
std::size_t cuda_scratch_bytes(const LinearCategoricalForward& args);

/// Gradients of sum_e g_e y_e, from
///   dlogit[b,v] = sum_{e of b} g_e [labels[e] = v] - (sum_{e of b} g_e) p[b,v],
/// where an entry whose y is -inf or whose label is no word counts nowhere.
struct LinearCategoricalBackward {
  LinearCategorical model;
  const float* log_normaliser;  // (B), of the forward pass
  const float* y;               // (E), likewise
  const float* g;               // (E)
  float* d_hidden;              // (B, H), null: not wanted
  float* d_weight;              // (V, H), null: not wanted
  float* d_bias;                // (V), null: not wanted
  void* scratch = nullptr;
};
void run_cpu(const LinearCategoricalBackward& args);
void run_cuda(const LinearCategoricalBackward& args, void* stream);
std::size_t cuda_scratch_bytes(const LinearCategoricalBackward& args);

}  // namespace dgm::kernels
