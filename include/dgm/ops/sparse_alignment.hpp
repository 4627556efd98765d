// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>
#include <dgm/data/cooccurrence.hpp>

#include <memory>

namespace dgm {

/// A Cooccurrence where ops can use it. A handle.
///
/// Memory    nothing on the CPU but what the pattern takes (sampling and joints add 12 bytes a cell there, when
///           first used). On CUDA 12 bytes a cell, with NULL's, 4 an entry and 20 a target word: a text that is
///           larger than the GPU is divided by BitextView::part.
class AlignmentCells {
 public:
  /// Copies to the stream's device. Throws OutOfMemory; ArgumentError for 2^31 entries, words or more.
  AlignmentCells(std::shared_ptr<const Cooccurrence> pattern, const Stream& stream);
  const Cooccurrence& pattern() const { return *pattern_; }
  const Stream& stream() const { return stream_; }

  struct Index;
  /// The cells in the order of pairs and of entries, made on first use.
  const Index& index() const;

 private:
  std::shared_ptr<const Cooccurrence> pattern_;
  Stream stream_;
  struct Lazy;
  std::shared_ptr<Lazy> lazy_;
};

/// Log marginals of sentences whose words x_1..x_m are each generated from a word of y_1..y_n or from NULL:
///
///   log p(x | y) = sum_i log( sum_{j = 0..n} prior(j | i, m, n) t(x_i | y_j) ),  y_0 = NULL.
///
/// cells      which entry of the table each t(x_i | y_j) is.
/// log_table  (entries) f32, natural logs, in the order of the Cooccurrence; not necessarily normalised; may be -inf.
/// diagonal   null: the uniform prior 1 / (n + 1). Else (2) f32: p0 and tension, the prior of Dyer et al. 2013:
///            p0 for NULL, (1 - p0) h(j) / sum_j h(j) for j >= 1, h(j) = exp(-tension |i/m - j/n|);
///            0 <= p0 < 1, tension >= 0, not checked.
/// returns    (pairs) f32; word_ gives the summands, (target words), in the order of the text.
///
/// Nothing of the size of the cells is stored. Gradients are posterior expected counts, added in an order that
/// depends on the text alone:
///   d log_table[e] = sum of g p(a_i = j | x, y) over the cells of e;
///   d p0 = sum_i g (p(NULL)/p0 - (1 - p(NULL)) / (1 - p0)),
///   d tension = sum_i g sum_{j >= 1} (p(j | x, y) - (1 - p(NULL)) prior(j)/(1 - p0)) (-|i/m - j/n|).
/// Edges      a word all of whose terms are -inf makes its pair -inf and has no gradient; no target words: 0; no source
///            words: NULL alone, whose prior stays p0 or 1; NaN among a word's terms makes its pair NaN; +inf NaN.
/// Accuracy   of a word |error| <= kSparseAlignmentError * max(1, |log p|) plus 1.2e-7 tension; of a gradient
///            kSparseAlignmentGradientError times the sum of |g p| over the entry's cells.
/// Throws     ShapeError, DeviceError.
/// Source     Brown et al. 1993, model 1; Dyer, Chahuneau & Smith 2013.
Variable sparse_alignment_log_marginal(const AlignmentCells& cells, const Variable& log_table,
                                       const Variable* diagonal = nullptr);
Variable sparse_alignment_word_log_marginal(const AlignmentCells& cells, const Variable& log_table,
                                            const Variable* diagonal = nullptr);

/// A log table from any numbers: y[e] = x[e] - log sum of exp(x) over e's row, so that exp(y) sums to 1 in each row.
///
/// logits     (entries) f32; may be -inf. Of a row of -inf alone y is -inf, without a gradient.
/// Gradient   dx[e] = g[e] - exp(y[e]) sum of g over the row; entries of y = -inf have none and are left out.
/// Accuracy   |error| <= kSparseAlignmentError * max(1, |y|).
Variable sparse_alignment_log_table(const AlignmentCells& cells, const Variable& logits);

/// What an iteration of EM needs.
struct AlignmentCounts {
  Tensor<float> counts;        ///< (entries): expected number of times that an entry generated a word
  Tensor<float> log_marginal;  ///< (pairs)
  /// (3): the log marginal of all; expected number of words from NULL; under the diagonal prior the expected sum
  /// of |i/m - j/n| over the other words.
  Tensor<double> totals;
};

/// Expected counts from probabilities: no logarithm or exponential of a cell but the prior's.
///
/// table      (entries) f32, probabilities >= 0. A word whose terms sum to 0, or below 1.2e-38, has log marginal -inf
///            and no counts: for tables that do not fit floats, sparse_alignment_log_marginal has the same counts
///            as its gradient.
/// Accuracy   counts kSparseAlignmentGradientError relative, log marginals as above.
AlignmentCounts sparse_alignment_counts(const AlignmentCells& cells, const Tensor<float>& table,
                                        const Tensor<float>* diagonal = nullptr);
/// Adds to what is there, for texts in parts that share one table's entries.
void sparse_alignment_add_counts(const AlignmentCells& cells, const Tensor<float>& table, const Tensor<float>* diagonal,
                                 AlignmentCounts& to);

/// The maximisation: each row of counts divided by its sum; with alpha > 0 exp(digamma(count + alpha) -
/// digamma(sum of (count + alpha))), the variational Bayes form under a Dirichlet(alpha) prior. A row without counts
/// becomes zeros. Writes to table, (entries).
void sparse_alignment_normalise(const AlignmentCells& cells, const Tensor<float>& counts, float alpha,
                                Tensor<float>& table);

/// p(a_i = j | x, y) for each cell without NULL's: of each pair (m, n) row-major, pairs one after the other.
/// table as for sparse_alignment_counts; a word without mass has zeros. Those of a pair are the same bits in any text.
Tensor<float> sparse_alignment_posteriors(const AlignmentCells& cells, const Tensor<float>& table,
                                          const Tensor<float>* diagonal = nullptr);
/// The same of the pairs first .. last - 1, on the host, in the memory of out; waits for the stream.
/// Throws ArgumentError for pairs that the text does not have.
void sparse_alignment_posteriors(const AlignmentCells& cells, const Tensor<float>& table, const Tensor<float>* diagonal,
                                 int64_t first, int64_t last, std::vector<float>& out);

/// z (target words, S) drawn from p(a_i | x, y): 0 for NULL, j for the j-th source word, -1 for a word all of whose
/// terms are -inf, or NaN. The datum of a word's draws is its number in the text.
Tensor<int32_t> sparse_alignment_sample(const AlignmentCells& cells, const Tensor<float>& log_table, const Draws& draws,
                                        int64_t samples = 1, const Tensor<float>* diagonal = nullptr);

/// log p(x_i, a_i = z | y) = log prior(z) + log_table[entry], (target words, S); differentiable by log_table, the prior
/// is a constant here. -inf for a z that is no place of the word's pair.
Variable sparse_alignment_log_joint(const AlignmentCells& cells, const Tensor<int32_t>& z, const Variable& log_table,
                                    const Tensor<float>* diagonal = nullptr);

inline constexpr double kSparseAlignmentError = 2e-6;
inline constexpr double kSparseAlignmentGradientError = 2e-5;

}  // namespace dgm
