// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/data/cooccurrence.hpp>

#include <cstdint>
#include <span>

namespace dgm {

/// A block of sentence pairs on a device: which entry of the translation table each cell (source word, target word)
/// uses. Source words are the states that generate target words; Cooccurrence of the reversed text gives the other
/// direction.
class HmmBatch {
 public:
  /// Block number `block` of the pattern. word_class: for each source word the row of log_jump that its jumps use,
  /// 0 .. classes - 1; none: all words use row 0 and classes is 1.
  ///
  /// Throws    ArgumentError for a block that is not there, a target word that is unknown (-1), or classes that do not
  ///           fit.
  HmmBatch(const Cooccurrence& pattern, std::size_t block, const Stream& stream,
           std::span<const std::int32_t> word_class = {}, std::int64_t classes = 1);

  std::int64_t pairs() const { return pairs_; }
  std::int64_t cells() const { return cells_; }
  std::int64_t source_words() const { return source_words_; }
  std::int64_t target_words() const { return target_words_; }
  /// Of the whole pattern: the size of log_table.
  std::int64_t entries() const { return entries_; }
  std::int64_t classes() const { return classes_; }
  const Stream& stream() const { return cell_begin_.stream(); }

 private:
  friend struct HmmBatchAccess;
  HmmBatch(const Cooccurrence& pattern, const struct HmmBatchContent& content, const Stream& stream);

  std::int64_t pairs_, cells_, source_words_, target_words_, entries_, classes_, rows_;
  Tensor<std::int32_t> source_begin_, target_begin_, row_, row_begin_, states_, targets_, classes_of_;
  Tensor<std::int64_t> cell_begin_, row_cells_, row_offsets_;
  Tensor<std::uint8_t> occurrences_, narrow_, wide_;
};

/// Log marginals of first-order alignment: for a pair of source words y_1 .. y_n and target words x_1 .. x_m
///
///   log sum_a prod_i p(a_i | a_{i-1}) t(x_i | a_i),  a_i in 1..n or NULL after position j.
///
/// A move goes to NULL with weight move[0] and stays at its position, or to a word with weight move[1] times
/// exp log_jump[k, b(i - j)] / sum over i' of exp log_jump[k, b(i' - j)], k the class of y_j and b the bucket of the
/// jump: jumps beyond the reach share one on each side. The beginning is position 0, before the first word, with the
/// last row of log_jump.
///
/// log_table   (entries) f32, natural logs by entry of the pattern; the first are t(x | NULL) by target word.
/// log_jump    (classes + 1, 2 reach + 3), reach >= 0, natural logs up to a constant a row.
/// log_move    (2), natural logs: to NULL, to a word. They need not sum to one.
/// returns     (pairs) f32 on the batch's stream; does not synchronise.
///
/// Gradient    of log_table the posteriors, of log_move the expected moves, of log_jump the expected jumps less those
///             that the probabilities of jumps would give from the same positions; each pair's times its upstream
///             gradient. Equal bits run to run on one device, and on the CPU for any number of threads.
/// Edges       -inf is a weight of zero. A pair without an alignment of positive weight gives -inf and a zero
///             gradient; any NaN that it can use gives NaN and a zero gradient. A pair with an empty side gives 0. A
///             position from which no jump has weight can only move to NULL.
/// Underflow   sums are scaled at each step, on the CPU in single precision. What rounds to zero there could matter
///             only if it grew later, and backward variables bound that growth: a pair that exceeds the bound (2^80 of
///             2^126 in single precision) is done again in logarithms, in double precision. So sentences of any length
///             and weights of any size are right.
/// Memory      4 bytes a cell on the CPU; 24 on CUDA. Nothing is kept for the backward pass, which computes again.
/// Accuracy    |error| <= kHmmAlignmentError * max(1, |y|); gradients to the same, relative to the sum of |upstream|.
/// Throws      ShapeError, DeviceError; BackendUnavailable for CUDA in a CPU-only build.
/// Source      Vogel et al. 1996; Och & Ney 2003, sections 2.1 and 2.2 (NULL).
Variable hmm_alignment(const Variable& log_table, const Variable& log_jump, const Variable& log_move,
                       const HmmBatch& batch);
inline constexpr double kHmmAlignmentError = 2e-6;

struct HmmPosteriors {
  Tensor<float> log_marginal;  // (pairs)
  Tensor<float> link;          // (cells), p(a_i = j | x, y): pairs one after the other, (n, m) row-major
  Tensor<float> null;          // (target words), p(a_i = NULL | x, y)
};
/// The same, with the posteriors of all links.
HmmPosteriors hmm_alignment_posteriors(const Tensor<float>& log_table, const Tensor<float>& log_jump,
                                       const Tensor<float>& log_move, const HmmBatch& batch);

}  // namespace dgm
