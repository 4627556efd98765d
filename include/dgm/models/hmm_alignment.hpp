// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/models/alignment_model.hpp>

namespace dgm {

/// What else the model `hmm` can be told. The defaults were chosen on two texts, of 227,000 and of 5,000 pairs.
struct HmmAlignmentOptions {
  /// Iterations of IBM 1 before those of the HMM; with both directions these are tied as well.
  int ibm1_iterations = 3;
  /// Words that occur at least that often have jumps of their own; 0: all words share theirs.
  int jump_words = 20;
  /// Jumps that are told apart: -reach .. reach; all beyond are alike.
  int reach = 8;
  /// Jumps of a word weigh as much as that many of all words.
  double jump_prior = 200;
  /// Share of jumps of any length within the reach.
  double jump_floor = 0.1;
  /// Translations of a word weigh as much as that many of the words with its beginning; 0: none.
  double beginning_prior = 20;
  /// Characters of a beginning.
  int beginning_length = 3;
  /// Translations of a word into the same characters: names, numbers, punctuation.
  double identical_prior = 1;
  /// Probability of NULL, before training.
  double null_probability = 0.2;
  /// Whether the ends of sentences depend on the position of the last word that was aligned.
  bool ends = true;

  /// Maximum likelihood and nothing else: in one direction an iteration never lowers the likelihood.
  static HmmAlignmentOptions unsmoothed();
};

/// First-order word alignment, trained by expectation-maximisation. In the forward direction
///
///   p(x, a | y) = prod_i p(a_i | a_{i-1}) t(x_i | y_{a_i}),
///
/// x target words, y source words; a_i = NULL keeps the position of the last word that was aligned. The probability of
/// a jump depends on its length, on the word it starts from and, by normalisation, on the length of y.
///
/// With both directions they are trained by agreement: the expected count of a link is the product of its posteriors
/// under both, and t(x|y) and t(y|x) come from one table of counts. Translations of rare words lean on those of words
/// with the same beginning.
///
/// New text  a pair of words that did not occur together in training, or hardly, has t = 1e-7; unknown words too.
/// Memory    2 bytes a cell of the text (source words x target words, summed over pairs), 8 a word, 16 bytes an entry
///           (words that occur together), some megabytes; the trained model 12 bytes an entry that is worth keeping. On
///           a GPU besides the host's: 20 bytes an entry and of the text at most AlignmentOptions::device_memory. 10
///           million pairs of 25 x 25 words with a billion entries, computed: 34 GB on the host, 20 GB and the text's
///           share on the GPU.
/// Devices   a GPU does the work that grows with the cells; the probabilities of translations and jumps follow from the
///           counts on the host, once an iteration. Counts are sums of whole numbers: equal bits from run to run, and
///           for any share of memory. CPU and GPU agree to rounding: 1e-5 of the log-likelihood.
/// Source    Vogel et al. 1996; Och & Ney 2003 (NULL); He 2007 (jumps by word); Liang et al. 2006 (agreement).
std::unique_ptr<AlignmentModel> make_hmm_alignment(const AlignmentOptions& options,
                                                   const HmmAlignmentOptions& hmm = {});

}  // namespace dgm
