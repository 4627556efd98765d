// SPDX-License-Identifier: Apache-2.0
// Launches of first-order alignment models over a block of sentence pairs. A cell is a pair of words; the cells of a
// pair are (source words, target words) row-major from cell_begin.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dgm::kernels {

struct HmmBlock {
  int64_t pairs;
  const uint32_t* source_begin;  // (pairs + 1), words of the block before a pair
  const uint32_t* target_begin;  // (pairs + 1)
  const int64_t* cell_begin;     // (pairs + 1)
};

/// Which entry of a sparse table each cell uses, by rows of the table, as Cooccurrence keeps it.
struct HmmPattern {
  int64_t rows;                 // that occur in the block
  const int32_t* row;           // (rows), the row of the table
  const uint32_t* row_begin;    // (rows + 1), occurrences
  const int64_t* row_cells;     // (rows), the first cell in narrow or wide
  const uint16_t* occurrences;  // (source words, 2): pair and source position
  const uint16_t* narrow;
  const uint32_t* wide;
  const int64_t* row_offsets;  // (all rows + 1), entries
  int64_t widest_narrow;       // rows of more entries than this are in wide
};

/// cells[k][cell] = table[k][entry of the cell], k = 0, 1.
struct HmmLookup {
  HmmBlock block;
  HmmPattern pattern;
  const float* table[2];  // the second may be null
  float* cells[2];
};
void run_cpu(const HmmLookup& args);
void run_cuda(const HmmLookup& args, void* stream);

/// sums[entry] += the entry's cells, and sums[word] += null_cells of the target word. In an order that is fixed on the
/// CPU; on CUDA as whole numbers of 2^-40 x the scale, whose sum is the same in any order.
struct HmmScatter {
  HmmBlock block;
  HmmPattern pattern;
  const float* cells;
  const float* null_cells;  // (target words); may be null
  const int32_t* target_words;
  int64_t target_tokens;
  const float* scale;  // what |cells| are at most; null: 1
  int64_t entries;
  float* sums;    // (entries)
  void* scratch;  // of CUDA
  /// CUDA, in the place of sums, over many launches: (entries), whole numbers of 1 / kHmmFixed are added.
  int64_t* fixed = nullptr;
};
void run_cpu(const HmmScatter& args);
void run_cuda(const HmmScatter& args, void* stream);
inline std::size_t cuda_scratch_bytes(const HmmScatter& args) {
  return args.fixed != nullptr ? 0 : static_cast<std::size_t>(args.entries) * sizeof(int64_t);
}

/// What is added to whole numbers is rounded to its inverse; sums may reach 2^31.
inline constexpr double kHmmFixed = 4294967296.0;

/// sums[word of a token] += values[token], as whole numbers of 1 / kHmmFixed; the sum is the same in any order. Unknown
/// words (-1) are left out.
struct HmmNullCounts {
  int64_t tokens;
  const int32_t* words;
  const float* values;
  int64_t* sums;  // (vocabulary)
};
void run_cpu(const HmmNullCounts& args);
void run_cuda(const HmmNullCounts& args, void* stream);

/// values[k] = fixed[k] / kHmmFixed.
struct HmmFromFixed {
  int64_t size;
  const int64_t* fixed;
  float* values;
};
void run_cpu(const HmmFromFixed& args);
void run_cuda(const HmmFromFixed& args, void* stream);

/// cells[c] *= by[c].
struct HmmProduct {
  int64_t size;
  float* cells;
  const float* by;
};
void run_cpu(const HmmProduct& args);
void run_cuda(const HmmProduct& args, void* stream);

/// Words that are independent given their states (IBM 1, and with a diagonal prior Dyer et al.'s model 2): cells from
/// t(step word | state word) to posteriors, in place. A pair with an empty side has log marginal 0 and posteriors of 0.
struct HmmIndependent {
  HmmBlock block;
  bool target_states;
  const int32_t* step_words;   // of the block; -1 unknown
  const float* null_emission;  // (vocabulary + 1), word w at w + 1
  const float* diagonal;       // (2): p0 and tension; null: uniform
  float* cells;
  float* null_posterior;  // (step words)
  float* log_marginal;    // (pairs)
  float* distance;        // (pairs): expected sum of |i/m - j/n| over words not from NULL; null: not wanted
};
void run_cpu(const HmmIndependent& args);
void run_cuda(const HmmIndependent& args, void* stream);

/// Moves towards the end of a sentence are told apart up to this distance.
inline constexpr int kHmmStops = 33;

/// The expected counts of a pass, as whole numbers of 2^-30 x the scale, so that their sum is the same in any order:
/// jumps (classes + 1, buckets), the same under the transitions' own probabilities (classes + 1, buckets), moves to
/// NULL and to words (2), ends by distance (kHmmStops), other moves by distance (kHmmStops).
struct HmmCountsLayout {
  int64_t classes, buckets;
  constexpr int64_t jumps() const { return 0; }
  constexpr int64_t expected() const { return (classes + 1) * buckets; }
  constexpr int64_t moves() const { return 2 * (classes + 1) * buckets; }
  constexpr int64_t stops() const { return moves() + 2; }
  constexpr int64_t goes() const { return stops() + kHmmStops; }
  constexpr int64_t size() const { return goes() + kHmmStops; }
};

/// Forward-backward of one direction: the words of the state side generate those of the step side.
struct HmmPass {
  HmmBlock block;
  bool target_states;  // false: source words are the states
  bool logs;           // emissions, null_emission and log_jump are logarithms

  const float* emission;       // (cells)
  const int32_t* state_words;  // of the block; -1 unknown
  const int32_t* step_words;
  const float* null_emission;  // (vocabulary + 1), word w at w + 1
  const int32_t* word_class;   // (vocabulary + 1), word w at w + 1; null: class 0
  int64_t classes;
  int reach;              // buckets are min(max(jump, -reach - 1), reach + 1): 2 reach + 3
  const float* jump;      // (classes + 1, buckets) >= 0, up to a factor a row; the last row: from the beginning, -1
  const float* log_jump;  // the same; null: the logarithm of jump
  const float* move;      // (2), to NULL and to a word
  const float* stop;      // (kHmmStops), the end follows a state this many before the last; null: no ends

  const float* weight;       // (pairs), of the counts and cells; null: 1
  const float* count_scale;  // what weights are at most; null: 1

  float* posterior;       // (cells), weighted; may be emission; null: not wanted
  float* null_posterior;  // (step words), weighted; null: not wanted
  float* log_marginal;    // (pairs)
  int64_t* counts;        // (count_copies, HmmCountsLayout), their sum is added to; null: not wanted
  int64_t count_copies;   // at least 1; as many as threads spare the CPU a copy of its own
  int64_t cells, source_words, target_words;  // of the block
  void* scratch;                              // of CUDA
};
void run_cpu(const HmmPass& args);
void run_cuda(const HmmPass& args, void* stream);

/// Twice (states + 1)(steps + 1), states + 1 and twice steps a pair fit into its part.
inline std::size_t cuda_scratch_bytes(const HmmPass& args) {
  return static_cast<std::size_t>(2 * args.cells + 4 * (args.source_words + args.target_words + args.block.pairs)) *
         sizeof(double);
}

/// jump[r, b] = exp(log_jump[r, b] - max_b log_jump[r, b]), and move = exp(log_move).
struct HmmWeights {
  const float* log_jump;  // (rows, buckets)
  int64_t rows, buckets;
  const float* log_move;  // (2)
  float* jump;
  float* move;
};
void run_cpu(const HmmWeights& args);
void run_cuda(const HmmWeights& args, void* stream);

/// scale = a power of two that no |weight| passes.
struct HmmScale {
  const float* weight;  // (pairs)
  int64_t pairs;
  float* scale;  // (1)
};
void run_cpu(const HmmScale& args);
void run_cuda(const HmmScale& args, void* stream);

/// Gradients from counts: log_jump (jumps - expected), log_move (moves).
struct HmmGradient {
  const int64_t* counts;
  HmmCountsLayout layout;
  const float* scale;  // (1)
  float* log_jump;     // (classes + 1, buckets)
  float* log_move;     // (2)
};
void run_cpu(const HmmGradient& args);
void run_cuda(const HmmGradient& args, void* stream);

}  // namespace dgm::kernels
