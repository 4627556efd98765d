// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/translation_table.hpp>

#include "host/core/check.hpp"

#include <algorithm>

namespace dgm {

TranslationTable::TranslationTable(const Cooccurrence& pattern, std::vector<float> values)
    : source_vocabulary_(pattern.source_vocabulary()),
      target_vocabulary_(pattern.target_vocabulary()),
      row_offsets_(pattern.row_offsets()),
      words_(pattern.entry_targets()),
      values_(std::move(values)) {
  check<ShapeError>(values_.size() == words_.size(), "TranslationTable: ", values_.size(), " values for ",
                    words_.size(), " entries");
}

namespace {

// Unknown words have rows and entries of their own, which training may have left without counts.
void raise_unknown(const Cooccurrence& pattern, float floor, std::vector<float>& values) {
  const int64_t unknown_row = pattern.row_offsets()[pattern.rows() - 1];
  for (std::size_t e = 0; e < values.size(); ++e) {
    const bool unknown =
        static_cast<int64_t>(e) >= unknown_row || pattern.entry_targets()[e] == pattern.target_vocabulary();
    if (unknown && !(values[e] > floor)) values[e] = floor;
  }
}

}  // namespace

std::vector<float> TranslationTable::values_for(const Cooccurrence& pattern, float floor) const {
  const std::vector<int32_t> entries = find_entries(pattern, row_offsets_, words_, target_vocabulary_);
  std::vector<float> result(entries.size());
  for (std::size_t e = 0; e < result.size(); ++e) result[e] = entries[e] < 0 ? floor : values_[entries[e]];
  raise_unknown(pattern, floor, result);
  return result;
}

std::vector<float> TranslationTable::own_values(const Cooccurrence& pattern, float floor) const {
  std::vector<float> result = values_;
  raise_unknown(pattern, floor, result);
  return result;
}

std::vector<TranslationTable::Translation> TranslationTable::best(int32_t source_word, int64_t count) const {
  check<ArgumentError>(source_word >= -1 && source_word < source_vocabulary_, "TranslationTable::best: source_word is ",
                       source_word, "; -1 <= word < ", source_vocabulary_, " is needed");
  std::vector<Translation> translations;
  const int64_t row = int64_t{source_word} + 1;
  for (int64_t e = row_offsets_[row]; e < row_offsets_[row + 1]; ++e) {
    if (words_[e] < target_vocabulary_ && values_[e] > 0.0f) translations.push_back({words_[e], values_[e]});
  }
  const auto kept = std::min(translations.size(), static_cast<std::size_t>(std::max<int64_t>(count, 0)));
  const auto better = [](const Translation& a, const Translation& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.word < b.word;
  };
  std::partial_sort(translations.begin(), translations.begin() + static_cast<std::ptrdiff_t>(kept), translations.end(),
                    better);
  translations.resize(kept);
  return translations;
}

void TranslationTable::save(const std::string& prefix, SafeTensors& to) const {
  to.tensors[prefix + ".row_offsets"] = StoredTensor::of(row_offsets_, {static_cast<int64_t>(row_offsets_.size())});
  to.tensors[prefix + ".words"] = StoredTensor::of(words_, {entries()});
  to.tensors[prefix + ".values"] = StoredTensor::of(values_, {entries()});
  to.tensors[prefix + ".target_vocabulary"] = StoredTensor::scalar(int64_t{target_vocabulary_});
}

TranslationTable TranslationTable::load(const std::string& prefix, const SafeTensors& from) {
  TranslationTable table;
  table.row_offsets_ = from.at(prefix + ".row_offsets").as<int64_t>();
  table.words_ = from.at(prefix + ".words").as<int32_t>();
  table.values_ = from.at(prefix + ".values").as<float>();
  const std::vector<int64_t> vocabulary = from.at(prefix + ".target_vocabulary").as<int64_t>();
  const auto rows = static_cast<int64_t>(table.row_offsets_.size()) - 1;
  bool good = rows >= 2 && rows < INT32_MAX && vocabulary.size() == 1 && vocabulary[0] >= 0 &&
              vocabulary[0] < INT32_MAX && table.row_offsets_.front() == 0 &&
              table.row_offsets_.back() == static_cast<int64_t>(table.words_.size()) &&
              table.words_.size() == table.values_.size() &&
              std::is_sorted(table.row_offsets_.begin(), table.row_offsets_.end());
  if (good) {
    good = std::all_of(table.words_.begin(), table.words_.end(),
                       [&](int32_t word) { return word >= 0 && word <= vocabulary[0]; });
  }
  check<FileError>(good, "TranslationTable::load: the tensors \"", prefix, ".*\" are no translation table");
  table.source_vocabulary_ = static_cast<int32_t>(rows - 2);
  table.target_vocabulary_ = static_cast<int32_t>(vocabulary[0]);
  return table;
}

}  // namespace dgm
