// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/parameters.hpp>
#include <dgm/data/cooccurrence.hpp>
#include <dgm/ops/linear_categorical.hpp>
#include <dgm/train/optimiser.hpp>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

namespace dgm {

struct NeuralTableOptions {
  /// Of the embeddings and of the hidden layer.
  int64_t width = 128;
  /// Beginnings of up to so many letters, and endings of up to so many, are features of a word; 0: the word alone.
  int32_t beginnings = 6;
  int32_t endings = 3;
  /// Source words in a minibatch.
  int64_t batch = 256;
  /// Adam's; it halves every so many epochs.
  double rate = 5e-3;
  double half_life = 3;
  uint64_t seed = 1;
  Products products = Products::kBfloat16IfFaster;
};

/// A translation table t(f | e) that a network computes, at the entries of a sparse pattern:
///
///   t(. | e) = softmax(weight h(e) + bias),  h(e) = tanh(affine(sum of the embeddings of e's features)).
///
/// Features of a source word are the word itself and its beginnings and endings, so that rare words learn from others
/// that look alike. NULL and unknown words have a feature of their own each. The softmax is over all target words, not
/// only over those of the row's entries, and no table of all words by all words is stored.
class NeuralTranslationTable {
 public:
  /// words     the source words, for their letters; null: words have no features but themselves.
  /// Throws    ArgumentError for an option out of its range or words of another vocabulary than the pattern's.
  NeuralTranslationTable(std::shared_ptr<const Cooccurrence> pattern, const Vocabulary* words, const Stream& stream,
                         const NeuralTableOptions& options = {});

  /// log t of the entries of these rows, one row after the other; differentiable by the parameters.
  Variable log_table(Tape& tape, std::span<const int32_t> rows);
  /// Of all rows, in the order of the pattern's entries.
  Variable log_table(Tape& tape);
  /// The same without gradients.
  Tensor<float> log_table() const;
  /// t itself.
  Tensor<float> table() const;

  /// Goes once through all rows, in minibatches in a random order, and climbs sum of counts log t by a step of Adam a
  /// batch: the maximisation of a generalised EM, whose counts are the gradient of the log marginal.
  ///
  /// A row weighs as the square root of its counts, not as all of them: no row's own optimum moves, but NULL and the
  /// most frequent words do not drown the others' gradients. The first call sets the output's bias to the target words'
  /// log frequencies.
  ///
  /// Begin with some epochs on the counts of a few iterations of IBM 1, then take the counts anew before each: a
  /// network that has learnt nothing yet gives counts that say nothing.
  ///
  /// counts    (entries), expected counts >= 0. Copied to the host, so it waits for the device.
  void climb(const Tensor<float>& counts);

  Parameters& parameters() { return *parameters_; }
  const Cooccurrence& pattern() const { return *pattern_; }

 private:
  void number_features(const Vocabulary* words);
  void begin_with_frequencies(const std::vector<float>& counts);
  Variable compute(const std::function<Variable(Parameter&)>& use, std::span<const int32_t> rows) const;

  std::shared_ptr<const Cooccurrence> pattern_;
  Stream stream_;
  NeuralTableOptions options_;
  int64_t features_of_word_ = 1;
  int32_t features_ = 0;
  std::vector<int32_t> word_features_;  // (rows, features_of_word), -1: none
  std::unique_ptr<Parameters> parameters_;
  std::unique_ptr<Optimiser> optimiser_;
  int64_t epochs_ = 0;
};

}  // namespace dgm
