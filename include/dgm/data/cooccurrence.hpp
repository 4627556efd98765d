// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/bitext.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace dgm {

/// Sentence pairs as word ids, seen, not owned. Pair p is source_words[source_offsets[p]] ..
/// source_words[source_offsets[p + 1] - 1] and the same of the target. Ids are 0..vocabulary-1, or -1 for
/// a word that the vocabulary does not hold. A part of a bitext is a part of its offsets.
struct BitextView {
  std::span<const int64_t> source_offsets, target_offsets;  // pairs + 1 each
  std::span<const int32_t> source_words, target_words;
  int32_t source_vocabulary = 0;
  int32_t target_vocabulary = 0;

  int64_t pairs() const { return static_cast<int64_t>(source_offsets.size()) - 1; }
  static BitextView of(const Bitext& bitext);
  /// Pairs first..last-1.
  BitextView part(int64_t first, int64_t last) const;
  /// Source and target exchanged.
  BitextView reversed() const;
};

/// Which target words occur with which source words: a sparse table's rows and entries, and for each cell of
/// each sentence pair (source position j, target position i) the entry that it uses. Compiled once, so that
/// no iteration of training looks a word up.
///
/// Rows      row 0 is NULL and has an entry for each target word, in order; row e + 1 is source word e with
///           an entry for each target word that occurs with it, in order of first occurrence. Unknown source
///           words (-1) share the row behind the last word's, unknown target words are word target_vocabulary.
/// Cells     are kept by source word within blocks of pairs, relative to their row, two bytes each (four in
///           rows of more than 65536 entries), those of one occurrence side by side over i: what reads or
///           adds up a row's entries finds the row in the nearest cache. NULL's cells are the target words.
/// Memory    2 bytes a cell, 4 a source token, 4 a target token, 12 a pair, 4 an entry (that is the target
///           word; a table of f32 adds 4). 10 million pairs of 25 x 25 words: 12.5 GB for cells, 2 GB for
///           tokens. The whole pattern lies in the host's memory; text for which there is no room has to be
///           compiled in parts.
/// Order     the same pattern for any number of threads.
class Cooccurrence {
 public:
  /// One place of a source word: the pair, counted within the block, and the position in its sentence.
  struct Occurrence {
    uint16_t pair;
    uint16_t position;
  };

  /// Consecutive pairs, whose target words fit into a core's own cache as floats.
  struct Block {
    int64_t first_pair = 0, last_pair = 0;
    int64_t first_source = 0, first_target = 0;        // tokens of the pattern before the block
    std::vector<uint32_t> source_begin, target_begin;  // (pairs + 1), tokens of the block before a pair
    std::vector<int32_t> target_words;                 // (target tokens), target_vocabulary for unknown
    std::vector<int32_t> rows;                         // those that occur, ascending, without NULL's
    std::vector<uint32_t> row_begin;                   // (rows + 1), the first occurrence of a row
    std::vector<int64_t> cell_begin;                   // (rows), the first cell of a row in narrow or wide
    std::vector<Occurrence> occurrences;               // (source tokens), by row, pair, position
    std::unique_ptr<uint16_t[]> narrow;                // readable 32 cells past the end
    std::unique_ptr<uint32_t[]> wide;                  // readable 16 cells past the end

    int64_t pairs() const { return last_pair - first_pair; }
    uint32_t source_length(std::size_t pair) const { return source_begin[pair + 1] - source_begin[pair]; }
    uint32_t target_length(std::size_t pair) const { return target_begin[pair + 1] - target_begin[pair]; }
    int64_t target_tokens() const { return static_cast<int64_t>(target_words.size()); }
  };

  /// All pairs of n source and m target words; positions are numbered over the target sides of all lengths.
  struct Lengths {
    int32_t source, target;
    int64_t pairs;
    int64_t first_position;
  };

  /// Rows row_begin .. row_end - 1 in blocks block_begin .. block_end - 1: what one thread adds up. A row of
  /// many cells is alone and divided by blocks; its parts are numbered, those of a row one after the other.
  struct Task {
    int32_t row_begin, row_end;
    int32_t block_begin, block_end;
    int64_t part = -1;  // -1: the rows are complete
  };

  struct Options {
    /// A block ends with the pair that reaches this many words on one side.
    int64_t block_words = 1 << 15;
  };

  /// Throws ArgumentError for a sentence of more than 65535 words, ids out of range, offsets that decrease, or
  /// sides of different numbers of pairs.
  explicit Cooccurrence(const BitextView& bitext) : Cooccurrence(bitext, Options()) {}
  Cooccurrence(const BitextView& bitext, const Options& options);

  int64_t pairs() const { return pairs_; }
  int64_t source_tokens() const { return source_tokens_; }
  int64_t target_tokens() const { return target_tokens_; }
  /// Cells without NULL's; those with NULL's are target_tokens() more.
  int64_t cells() const { return cells_; }
  int32_t source_vocabulary() const { return source_vocabulary_; }
  int32_t target_vocabulary() const { return target_vocabulary_; }
  int64_t rows() const { return static_cast<int64_t>(row_offsets_.size()) - 1; }
  int64_t entries() const { return row_offsets_.back(); }
  /// (rows + 1): the entries of row r are row_offsets[r] .. row_offsets[r + 1] - 1.
  const std::vector<int64_t>& row_offsets() const { return row_offsets_; }
  /// (entries): the target word of each.
  const std::vector<int32_t>& entry_targets() const { return entry_targets_; }
  /// Whether the cells of a row take four bytes.
  bool is_wide(int64_t row) const { return row_offsets_[row + 1] - row_offsets_[row] > kNarrow && row > 0; }
  const std::vector<Block>& blocks() const { return blocks_; }
  const std::vector<Lengths>& lengths() const { return lengths_; }
  /// (pairs): the index of each pair's lengths.
  const std::vector<int32_t>& pair_lengths() const { return pair_lengths_; }
  int64_t positions() const { return positions_; }
  const std::vector<Task>& tasks() const { return tasks_; }
  int64_t task_parts() const { return task_parts_; }
  std::size_t bytes() const;
  /// Whether the pairs first .. last - 1 of a text have the words that these pairs have here.
  bool holds(const BitextView& text, int64_t first, int64_t last) const;

  /// Calls body(occurrence, cells) for each occurrence of blocks()[b].rows[index]; cells points to one entry,
  /// relative to the row, for each target word of the occurrence's pair: const uint16_t* or const uint32_t*.
  template <class Body>
  void for_each_occurrence(const Block& block, std::size_t index, const Body& body) const {
    if (is_wide(block.rows[index])) {
      visit(block, index, block.wide.get(), body);
    } else {
      visit(block, index, block.narrow.get(), body);
    }
  }

 private:
  static constexpr int64_t kNarrow = 65536;

  template <class Cell, class Body>
  static void visit(const Block& block, std::size_t index, const Cell* cells, const Body& body) {
    cells += block.cell_begin[index];
    for (uint32_t o = block.row_begin[index]; o < block.row_begin[index + 1]; ++o) {
      const Occurrence& occurrence = block.occurrences[o];
      body(occurrence, cells);
      cells += block.target_length(occurrence.pair);
    }
  }

  void count_lengths(const BitextView& bitext);
  void make_tasks(const std::vector<int64_t>& cells_of_row, const std::vector<std::vector<int64_t>>& block_cells);

  int64_t pairs_ = 0, source_tokens_ = 0, target_tokens_ = 0, cells_ = 0;
  int32_t source_vocabulary_ = 0, target_vocabulary_ = 0;
  std::vector<int64_t> row_offsets_;
  std::vector<int32_t> entry_targets_;
  std::vector<Block> blocks_;
  std::vector<Lengths> lengths_;
  std::vector<int32_t> pair_lengths_;
  int64_t positions_ = 0;
  std::vector<Task> tasks_;
  int64_t task_parts_ = 0;
};

/// For each entry of a text, the entry of a table that has the same two words; -1 where the table has none. The table's
/// row r holds words[row_offsets[r]] .. words[row_offsets[r + 1] - 1], as Cooccurrence has them. A minibatch of a text
/// finds its entries in the text's table by this.
/// Throws ArgumentError if text and table are of vocabularies of different sizes.
std::vector<int32_t> find_entries(const Cooccurrence& text, std::span<const int64_t> row_offsets,
                                  std::span<const int32_t> words, int32_t target_vocabulary);

}  // namespace dgm
