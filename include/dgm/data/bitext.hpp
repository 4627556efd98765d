// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/vocabulary.hpp>

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// Pairs of sentences, a source and its translation, as numbers of words.
///
/// Memory    4 bytes a word and 8 a sentence, and the vocabularies.
struct Bitext {
  std::shared_ptr<const Vocabulary> source, target;
  /// Sentence p of a side is words[offsets[p]] .. words[offsets[p + 1] - 1]; pairs + 1 of them, the first 0.
  std::vector<std::int64_t> source_offsets = {0}, target_offsets = {0};
  /// Vocabulary::kUnknown for what a fixed vocabulary does not hold.
  std::vector<std::int32_t> source_words, target_words;
  /// The first pair of each file that was read.
  std::vector<std::int64_t> files;
  /// Pairs that BitextOptions::skip_bad_pairs left empty.
  std::int64_t skipped = 0;

  std::int64_t pairs() const { return static_cast<std::int64_t>(source_offsets.size()) - 1; }
  std::span<const std::int32_t> source_sentence(std::int64_t pair) const {
    return sentence(source_offsets, source_words, pair);
  }
  std::span<const std::int32_t> target_sentence(std::int64_t pair) const {
    return sentence(target_offsets, target_words, pair);
  }

 private:
  static std::span<const std::int32_t> sentence(const std::vector<std::int64_t>& offsets,
                                                const std::vector<std::int32_t>& words, std::int64_t pair) {
    const auto p = static_cast<std::size_t>(pair);
    return std::span(words).subspan(static_cast<std::size_t>(offsets[p]),
                                    static_cast<std::size_t>(offsets[p + 1] - offsets[p]));
  }
};

struct BitextOptions {
  /// Lower-cases Latin (ASCII, Latin-1, Latin Extended-A), Greek and Cyrillic letters; others stay as they are.
  bool lowercase = false;
  /// Words a side of a pair may have: the work grows with the product of both sides.
  std::int64_t longest = 1000;
  /// What to do about a pair with an empty side, or with one that is too long: refuse the file, or leave both sides of
  /// that pair empty, so that pair i of the bitext still is line i of the files. The words of such a pair may be in
  /// the vocabulary without occurring anywhere.
  bool skip_bad_pairs = false;
  /// Vocabularies to use instead of new ones, for instance those of a trained model.
  std::shared_ptr<const Vocabulary> source = nullptr;
  std::shared_ptr<const Vocabulary> target = nullptr;
};

/// Reads text with a sentence a line, words separated by blanks or tabs: line i of the target is the translation of
/// line i of the source. Several files a side are read one after the other; the files of a pair must have as many
/// lines. Both sides are read at once, on two threads if cpu_threads() allows.
///
/// Files     UTF-8, a byte order mark or not; plain or gzipped; lines end in LF or CR LF, the last may end without. A
/// pipe
///           will do. They are read in blocks: memory does not grow with the text, only with its words.
/// Throws    FileError naming the file and, where there is one, the line: missing, not permitted, damaged gzip data,
///           not UTF-8, no lines, other numbers of lines on both sides, an empty side, a side longer than
///           options.longest words; ArgumentError for other numbers of files, or none.
Bitext read_bitext(const std::vector<std::string>& source_paths, const std::vector<std::string>& target_paths,
                   const BitextOptions& options = {});
Bitext read_bitext(const std::string& source_path, const std::string& target_path, const BitextOptions& options = {});

/// The same for files with both sides in a line: `a small house ||| ein kleines haus`. The separator is a word.
///
/// Throws    the same, and FileError for a line without a separator or with more than one.
Bitext read_joined_bitext(const std::vector<std::string>& paths, const BitextOptions& options = {});

}  // namespace dgm
