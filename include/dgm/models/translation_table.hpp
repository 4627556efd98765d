// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/cooccurrence.hpp>
#include <dgm/models/alignment_model.hpp>

#include <cstdint>
#include <string>
#include <vector>

namespace dgm {

/// A sparse translation table t(f | e): the rows and entries of the Cooccurrence that it was trained on, without
/// the text.
class TranslationTable {
 public:
  using Translation = AlignmentModel::Translation;

  TranslationTable() = default;
  /// values (entries). Throws ShapeError for another number.
  TranslationTable(const Cooccurrence& pattern, std::vector<float> values);

  int32_t source_vocabulary() const { return source_vocabulary_; }
  int32_t target_vocabulary() const { return target_vocabulary_; }
  int64_t entries() const { return static_cast<int64_t>(values_.size()); }
  const std::vector<float>& values() const { return values_; }

  /// The table's values at another text's entries. Pairs of words that training never saw together, and words that
  /// no vocabulary holds, have `floor`; entries that training took below floor keep their value.
  /// Throws ArgumentError if the text was read with other vocabularies.
  std::vector<float> values_for(const Cooccurrence& pattern, float floor) const;
  /// The same at the entries of the Cooccurrence that the table was made of.
  std::vector<float> own_values(const Cooccurrence& pattern, float floor) const;
  /// The most probable target words of a source word, -1 for NULL, best first; equals by number of the word.
  std::vector<Translation> best(int32_t source_word, int64_t count) const;

  /// Adds "<prefix>.row_offsets", "<prefix>.words" and "<prefix>.values".
  void save(const std::string& prefix, SafeTensors& to) const;
  /// Throws FileError if what is stored is no table.
  static TranslationTable load(const std::string& prefix, const SafeTensors& from);

 private:
  int32_t source_vocabulary_ = 0, target_vocabulary_ = 0;
  std::vector<int64_t> row_offsets_;
  std::vector<int32_t> words_;
  std::vector<float> values_;
};

}  // namespace dgm
