// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/draws.hpp"

#include <cstddef>
#include <cstdint>

namespace dgm {
class Cooccurrence;
}

namespace dgm::kernels {

/// The cells of a Cooccurrence in the order of pairs and, again, in the order of entries; on the launch's
/// device. A pair's cells are (1 + source words, target words), NULL's first.
struct AlignmentIndex {
  int64_t pairs = 0;
  int64_t tokens = 0;  // target words
  int64_t entries = 0;
  int64_t longest = 0;  // source sentence
  int64_t positions = 0;
  const int32_t* token_pair = nullptr;        // (tokens)
  const int64_t* target_begin = nullptr;      // (pairs + 1)
  const int64_t* source_begin = nullptr;      // (pairs + 1)
  const int64_t* cell_begin = nullptr;        // (pairs + 1)
  const int32_t* cell_entry = nullptr;        // (cells)
  const int64_t* entry_begin = nullptr;       // (entries + 1), into the two below
  const int32_t* cell_token = nullptr;        // (cells)
  const int32_t* cell_source = nullptr;       // (cells): position of the source word, 0 for NULL
  const int64_t* pair_position = nullptr;     // (pairs): first of its lengths' positions
  const int32_t* position_lengths = nullptr;  // (positions, 3): i from 1, target and source length
  // Entries of many cells are divided into parts.
  int64_t parts = 0;
  int64_t long_entries = 0;
  const int64_t* part_begin = nullptr;  // (parts, 2): first cell and the cell behind the last
  const int32_t* long_entry = nullptr;  // (long_entries)
  const int64_t* long_part = nullptr;   // (long_entries + 1): parts of each
};

/// Entries of more cells than this have parts, of at most kPartCells cells.
inline constexpr int64_t kLongEntry = 64;
inline constexpr int64_t kPartCells = 1024;

/// The prior over source positions; all null for the uniform one, 1 / (source words + 1).
struct AlignmentPrior {
  const float* parameters = nullptr;  // (2): p0 and tension
  float* log_factor = nullptr;        // (positions + kPadding): log((1 - p0) / sum_j h(j))
  float* distance = nullptr;          // (positions + kPadding): mean of |i/m - j/n| under the prior, NULL apart
  float* place = nullptr;             // (positions + kPadding): i/m
};
/// Floats behind the last that vector loads may read.
inline constexpr int64_t kPadding = 64;

struct AlignmentText {
  const Cooccurrence* pattern;  // what the CPU reads
  AlignmentIndex index;         // what CUDA reads
  AlignmentPrior prior;
};

/// Fills the prior's log_factor, distance and place.
struct SparseAlignmentPrior {
  AlignmentText text;
};
void run_cpu(const SparseAlignmentPrior& args);
void run_cuda(const SparseAlignmentPrior& args, void* stream);

/// log p(x_i | y) = log sum_j prior(i, j) exp(log_table[entry(i, j)]).
struct SparseAlignmentForward {
  AlignmentText text;
  const float* log_table;     // (entries)
  float* token_log_marginal;  // (tokens + kPadding)
  float* pair_log_marginal;   // (pairs), or null
};
void run_cpu(const SparseAlignmentForward& args);
void run_cuda(const SparseAlignmentForward& args, void* stream);

/// d_table[e] = sum over its cells of g p(j | i), p the posterior.
struct SparseAlignmentBackward {
  AlignmentText text;
  const float* log_table;
  const float* token_log_marginal;
  const float* g;  // (tokens), or (pairs)
  bool pair_g;     // g is a pair's
  float* d_table;  // (entries), overwritten; or null
  float* d_prior;  // (2): by p0 and tension, overwritten; or null
  void* scratch = nullptr;
};
void run_cpu(const SparseAlignmentBackward& args);
void run_cuda(const SparseAlignmentBackward& args, void* stream);
std::size_t cuda_scratch_bytes(const SparseAlignmentBackward& args);

/// Expected counts of an EM iteration from probabilities, without logarithms or exponentials of a cell.
struct SparseAlignmentCounts {
  AlignmentText text;
  const float* table;        // (entries + kPadding)
  float* weights;            // (tokens + kPadding), scratch: 1 / sum_j prior table
  float* counts;             // (entries): added to
  float* pair_log_marginal;  // (pairs)
  double* totals;            // (3): log marginal, expected count of NULL, expected sum of |i/m - j/n|; added to
  void* scratch = nullptr;
};
void run_cpu(const SparseAlignmentCounts& args);
void run_cuda(const SparseAlignmentCounts& args, void* stream);
std::size_t cuda_scratch_bytes(const SparseAlignmentCounts& args);

/// posterior[pair's cell (i, j)] = p(a_i = j | x, y), j from the first source word: (target, source) row-major,
/// the pairs first_pair .. last_pair - 1 one after the other.
struct SparseAlignmentPosteriors {
  AlignmentText text;
  const float* table;  // (entries + kPadding), probabilities
  int64_t first_pair, last_pair;
  int64_t first_token, last_token;  // their target words
  float* posteriors;
};
void run_cpu(const SparseAlignmentPosteriors& args);
void run_cuda(const SparseAlignmentPosteriors& args, void* stream);

/// z[token, s] ~ p(a | x, y): 0 for NULL, j + 1 for source word j; -1 where there is no distribution. Reads the
/// index on every device.
struct SparseAlignmentSample {
  AlignmentText text;
  const float* log_table;
  DrawArgs draws;
  int64_t samples;
  int32_t* z;  // (tokens, samples)
};
void run_cpu(const SparseAlignmentSample& args);
void run_cuda(const SparseAlignmentSample& args, void* stream);

/// Entries and log priors of given alignments; -1 and -inf where z is none of the pair's. Reads the index on
/// every device.
struct SparseAlignmentPick {
  AlignmentText text;
  const int32_t* z;  // (tokens, samples)
  int64_t samples;
  int32_t* entries;  // (tokens, samples)
  float* log_prior;  // (tokens, samples)
};
void run_cpu(const SparseAlignmentPick& args);
void run_cuda(const SparseAlignmentPick& args, void* stream);

/// table[e] = counts[e] / sum of its row's; with alpha > 0 the variational Bayes form,
/// exp(digamma(counts[e] + alpha) - digamma(sum of (counts + alpha))). A row without counts gives zeros.
struct NormaliseRows {
  const int64_t* row_offsets;  // (rows + 1)
  int64_t rows;
  const float* counts;
  float alpha;
  float* table;
};
void run_cpu(const NormaliseRows& args);
void run_cuda(const NormaliseRows& args, void* stream);

/// y[e] = x[e] - log sum of exp(x) over e's row.
struct LogSoftmaxRows {
  const int64_t* row_offsets;  // (rows + 1)
  int64_t rows;
  const float* x;
  float* y;
};
void run_cpu(const LogSoftmaxRows& args);
void run_cuda(const LogSoftmaxRows& args, void* stream);

/// dx[e] = g[e] - exp(y[e]) sum of g over the row, of y > -inf; 0 else.
struct LogSoftmaxRowsGradient {
  const int64_t* row_offsets;
  int64_t rows;
  const float* y;
  const float* g;
  float* dx;
};
void run_cpu(const LogSoftmaxRowsGradient& args);
void run_cuda(const LogSoftmaxRowsGradient& args, void* stream);

}  // namespace dgm::kernels
