// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/cooccurrence.hpp>

#include "host/core/check.hpp"
#include "host/cpu/tasks.hpp"

#include <cstring>
#include <limits>
#include <unordered_map>

namespace dgm {

namespace {

using Block = Cooccurrence::Block;

constexpr int64_t kLongest = 65535;
constexpr int64_t kPairsPerBlock = 65535;

void check_side(const char* side, std::span<const int64_t> offsets, std::span<const int32_t> words,
                int32_t vocabulary) {
  check<ArgumentError>(!offsets.empty(), "Cooccurrence: ", side, "_offsets is empty; pairs + 1 are needed");
  check<ArgumentError>(offsets.front() >= 0 && offsets.back() <= static_cast<int64_t>(words.size()),
                       "Cooccurrence: ", side, "_offsets run from ", offsets.front(), " to ", offsets.back(),
                       " but there are ", words.size(), " words");
  for (std::size_t p = 0; p + 1 < offsets.size(); ++p) {
    const int64_t length = offsets[p + 1] - offsets[p];
    check<ArgumentError>(length >= 0, "Cooccurrence: ", side, "_offsets[", p + 1, "] = ", offsets[p + 1], " but [", p,
                         "] = ", offsets[p], "; offsets must not decrease");
    check<ArgumentError>(length <= kLongest, "Cooccurrence: the ", side, " sentence of pair ", p, " has ", length,
                         " words; at most ", kLongest, " are possible");
  }
  for (int64_t i = offsets.front(); i < offsets.back(); ++i) {
    check<ArgumentError>(words[i] >= -1 && words[i] < vocabulary, "Cooccurrence: ", side, "_words[", i,
                         "] = ", words[i], "; -1 <= id < ", vocabulary, " is needed");
  }
}

std::vector<Block> split_into_blocks(const BitextView& bitext, int64_t block_words) {
  std::vector<Block> blocks;
  const int64_t source_start = bitext.source_offsets.front();
  const int64_t target_start = bitext.target_offsets.front();
  for (int64_t pair = 0; pair < bitext.pairs();) {
    Block block;
    block.first_pair = pair;
    block.first_source = bitext.source_offsets[pair] - source_start;
    block.first_target = bitext.target_offsets[pair] - target_start;
    do {
      ++pair;
    } while (pair < bitext.pairs() && pair - block.first_pair < kPairsPerBlock &&
             bitext.source_offsets[pair] - source_start - block.first_source < block_words &&
             bitext.target_offsets[pair] - target_start - block.first_target < block_words);
    block.last_pair = pair;
    blocks.push_back(std::move(block));
  }
  return blocks;
}

// Sorts the source tokens of a block by row.
class OccurrenceSorter {
 public:
  // cells_of_row: what the block adds to each row of block.rows.
  void sort(const BitextView& bitext, int64_t rows, Block& block, std::vector<int64_t>& cells_of_row) {
    place_.resize(static_cast<std::size_t>(rows));
    const auto pairs = static_cast<std::size_t>(block.pairs());
    block.source_begin.resize(pairs + 1);
    block.target_begin.resize(pairs + 1);
    const int64_t* const source_offsets = &bitext.source_offsets[block.first_pair];
    const int64_t* const target_offsets = &bitext.target_offsets[block.first_pair];
    for (std::size_t p = 0; p <= pairs; ++p) {
      block.source_begin[p] = static_cast<uint32_t>(source_offsets[p] - source_offsets[0]);
      block.target_begin[p] = static_cast<uint32_t>(target_offsets[p] - target_offsets[0]);
    }
    const int32_t* const targets = bitext.target_words.data() + target_offsets[0];
    block.target_words.resize(block.target_begin[pairs]);
    for (std::size_t i = 0; i < block.target_words.size(); ++i) {
      block.target_words[i] = targets[i] < 0 ? bitext.target_vocabulary : targets[i];
    }

    const int32_t* const sources = bitext.source_words.data() + source_offsets[0];
    const auto row_of = [&](uint32_t token) {
      return static_cast<std::size_t>(sources[token] < 0 ? bitext.source_vocabulary : sources[token]) + 1;
    };
    for (std::size_t p = 0; p < pairs; ++p) {
      for (uint32_t token = block.source_begin[p]; token < block.source_begin[p + 1]; ++token) {
        Place& place = place_[row_of(token)];
        if (place.count++ == 0) block.rows.push_back(static_cast<int32_t>(row_of(token)));
        place.cells += block.target_length(p);
      }
    }
    std::sort(block.rows.begin(), block.rows.end());
    block.row_begin.assign(1, 0);
    cells_of_row.clear();
    for (const int32_t row : block.rows) {
      Place& place = place_[static_cast<std::size_t>(row)];
      cells_of_row.push_back(place.cells);
      block.row_begin.push_back(block.row_begin.back() + place.count);
      place.next = block.row_begin[block.row_begin.size() - 2];
    }
    block.occurrences.resize(block.source_begin[pairs]);
    for (std::size_t p = 0; p < pairs; ++p) {
      for (uint32_t token = block.source_begin[p]; token < block.source_begin[p + 1]; ++token) {
        block.occurrences[place_[row_of(token)].next++] = {static_cast<uint16_t>(p),
                                                           static_cast<uint16_t>(token - block.source_begin[p])};
      }
    }
    for (const int32_t row : block.rows) place_[static_cast<std::size_t>(row)] = {};
  }

 private:
  struct Place {
    int64_t cells = 0;
    uint32_t count = 0;
    uint32_t next = 0;
  };
  std::vector<Place> place_;
};

// Where a row occurs: rows[index] of a block.
struct Segment {
  uint32_t block;
  uint32_t index;
};

// The entries of one row after the other: a word's slot holds the row's base plus its entry there, or less than the
// base if this row did not see it yet.
class EntryFinder {
 public:
  explicit EntryFinder(int64_t words) : slots_(static_cast<std::size_t>(words)) {}
  void begin_row() {
    base_ += found_;
    found_ = 0;
    if (base_ > std::numeric_limits<uint32_t>::max() - slots_.size()) {
      std::fill(slots_.begin(), slots_.end(), 0);
      base_ = 1;
    }
  }
  uint32_t entry(int32_t word, std::vector<int32_t>& targets) {
    uint32_t& slot = slots_[static_cast<std::size_t>(word)];
    if (slot < base_) [[unlikely]] {
      slot = base_ + found_++;
      targets.push_back(word);
    }
    return slot - base_;
  }
  uint32_t found() const { return found_; }

 private:
  std::vector<uint32_t> slots_;
  uint32_t base_ = 1;
  uint32_t found_ = 0;
};

template <class Body>
void for_each_pair_of(const Block& block, uint32_t index, const Body& body) {
  for (uint32_t o = block.row_begin[index]; o < block.row_begin[index + 1]; ++o) body(block.occurrences[o].pair);
}

template <class Cell>
void write_cells(const Block& block, uint32_t index, Cell* cells, EntryFinder& finder, std::vector<int32_t>& targets) {
  for_each_pair_of(block, index, [&](std::size_t pair) {
    for (uint32_t i = block.target_begin[pair]; i < block.target_begin[pair + 1]; ++i) {
      *cells++ = static_cast<Cell>(finder.entry(block.target_words[i], targets));
    }
  });
}

}  // namespace

BitextView BitextView::of(const Bitext& bitext) {
  return {bitext.source_offsets, bitext.target_offsets, bitext.source_words,
          bitext.target_words,   bitext.source->size(), bitext.target->size()};
}

BitextView BitextView::part(int64_t first, int64_t last) const {
  check<ArgumentError>(0 <= first && first <= last && last <= pairs(), "BitextView::part: pairs ", first, " to ", last,
                       " of ", pairs());
  BitextView result = *this;
  result.source_offsets =
      source_offsets.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first) + 1);
  result.target_offsets =
      target_offsets.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(last - first) + 1);
  return result;
}

BitextView BitextView::reversed() const {
  return {target_offsets, source_offsets, target_words, source_words, target_vocabulary, source_vocabulary};
}

Cooccurrence::Cooccurrence(const BitextView& bitext, const Options& options)
    : source_vocabulary_(bitext.source_vocabulary), target_vocabulary_(bitext.target_vocabulary) {
  check<ArgumentError>(options.block_words >= 1 && options.block_words <= (1 << 24), "Cooccurrence: block_words is ",
                       options.block_words, "; 1 to 2^24 are possible");
  check_side("source", bitext.source_offsets, bitext.source_words, source_vocabulary_);
  check_side("target", bitext.target_offsets, bitext.target_words, target_vocabulary_);
  check<ArgumentError>(bitext.source_offsets.size() == bitext.target_offsets.size(),
                       "Cooccurrence: ", bitext.source_offsets.size() - 1, " source sentences but ",
                       bitext.target_offsets.size() - 1, " target sentences");
  pairs_ = bitext.pairs();
  source_tokens_ = bitext.source_offsets.back() - bitext.source_offsets.front();
  target_tokens_ = bitext.target_offsets.back() - bitext.target_offsets.front();
  const int64_t rows = int64_t{source_vocabulary_} + 2;
  const int64_t words = int64_t{target_vocabulary_} + 1;

  blocks_ = split_into_blocks(bitext, options.block_words);
  const auto block_count = static_cast<int64_t>(blocks_.size());
  std::vector<std::vector<int64_t>> block_cells(blocks_.size());
  {
    std::vector<OccurrenceSorter> sorters(static_cast<std::size_t>(cpu_threads()));
    cpu::parallel_tasks(block_count,
                        [&](int64_t b, int thread) { sorters[thread].sort(bitext, rows, blocks_[b], block_cells[b]); });
  }

  // The blocks of each row.
  std::vector<int64_t> segment_begin(static_cast<std::size_t>(rows) + 1);
  std::vector<int64_t> cells_of_row(static_cast<std::size_t>(rows));
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    for (std::size_t r = 0; r < blocks_[b].rows.size(); ++r) {
      ++segment_begin[blocks_[b].rows[r] + 1];
      cells_of_row[blocks_[b].rows[r]] += block_cells[b][r];
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    segment_begin[row + 1] += segment_begin[row];
    cells_ += cells_of_row[row];
  }
  std::vector<Segment> segments(static_cast<std::size_t>(segment_begin.back()));
  {
    std::vector<int64_t> next(segment_begin.begin(), segment_begin.end() - 1);
    for (uint32_t b = 0; b < blocks_.size(); ++b) {
      for (uint32_t r = 0; r < blocks_[b].rows.size(); ++r) segments[next[blocks_[b].rows[r]]++] = {b, r};
    }
  }

  // Consecutive rows of about equally many cells are one thread's work.
  constexpr int64_t kCellsPerTask = 1 << 17;
  std::vector<int64_t> task_begin = {1};
  int64_t gathered = 0;
  for (int64_t row = 1; row < rows; ++row) {
    if (gathered >= kCellsPerTask) task_begin.push_back(row), gathered = 0;
    gathered += cells_of_row[row];
  }
  task_begin.push_back(rows);
  const auto tasks = static_cast<int64_t>(task_begin.size()) - 1;
  std::vector<std::unique_ptr<EntryFinder>> finders(static_cast<std::size_t>(cpu_threads()));
  const auto finder_of = [&](int thread) -> EntryFinder& {
    if (!finders[thread]) finders[thread] = std::make_unique<EntryFinder>(words);
    return *finders[thread];
  };

  // Only a row of many cells in a language of many words can have more entries than two bytes count.
  std::vector<char> wide(static_cast<std::size_t>(rows));
  if (words > kNarrow) {
    cpu::parallel_tasks(rows, [&](int64_t row, int thread) {
      if (cells_of_row[row] <= kNarrow) return;
      EntryFinder& finder = finder_of(thread);
      std::vector<int32_t> targets;
      finder.begin_row();
      for (int64_t s = segment_begin[row]; s < segment_begin[row + 1]; ++s) {
        const Block& block = blocks_[segments[s].block];
        for_each_pair_of(block, segments[s].index, [&](std::size_t pair) {
          for (uint32_t i = block.target_begin[pair]; i < block.target_begin[pair + 1]; ++i) {
            finder.entry(block.target_words[i], targets);
          }
        });
      }
      wide[row] = finder.found() > kNarrow;
    });
    finders.clear();
    finders.resize(static_cast<std::size_t>(cpu_threads()));
  }
  for (std::size_t b = 0; b < blocks_.size(); ++b) {
    Block& block = blocks_[b];
    int64_t narrow_cells = 0;
    int64_t wide_cells = 0;
    for (std::size_t r = 0; r < block.rows.size(); ++r) {
      int64_t& used = wide[block.rows[r]] ? wide_cells : narrow_cells;
      block.cell_begin.push_back(used);
      used += block_cells[b][r];
    }
    block.narrow = std::make_unique_for_overwrite<uint16_t[]>(static_cast<std::size_t>(narrow_cells) + 32);
    std::memset(block.narrow.get() + narrow_cells, 0, 32 * sizeof(uint16_t));
    block.wide = std::make_unique_for_overwrite<uint32_t[]>(static_cast<std::size_t>(wide_cells) + 16);
    std::memset(block.wide.get() + wide_cells, 0, 16 * sizeof(uint32_t));
  }

  row_offsets_.assign(static_cast<std::size_t>(rows) + 1, 0);
  row_offsets_[1] = words;
  std::vector<std::vector<int32_t>> task_targets(static_cast<std::size_t>(tasks));
  cpu::parallel_tasks(tasks, [&](int64_t task, int thread) {
    EntryFinder& finder = finder_of(thread);
    std::vector<int32_t> targets;
    for (int64_t row = task_begin[task]; row < task_begin[task + 1]; ++row) {
      finder.begin_row();
      for (int64_t s = segment_begin[row]; s < segment_begin[row + 1]; ++s) {
        Block& block = blocks_[segments[s].block];
        const int64_t begin = block.cell_begin[segments[s].index];
        if (wide[row]) {
          write_cells(block, segments[s].index, block.wide.get() + begin, finder, targets);
        } else {
          write_cells(block, segments[s].index, block.narrow.get() + begin, finder, targets);
        }
      }
      row_offsets_[row + 1] = finder.found();
    }
    task_targets[task].assign(targets.begin(), targets.end());
  });
  for (int64_t row = 0; row < rows; ++row) row_offsets_[row + 1] += row_offsets_[row];
  entry_targets_.resize(static_cast<std::size_t>(row_offsets_.back()));
  for (int32_t word = 0; word < words; ++word) entry_targets_[word] = word;
  for (int64_t task = 0; task < tasks; ++task) {
    std::copy(task_targets[task].begin(), task_targets[task].end(),
              entry_targets_.begin() + row_offsets_[task_begin[task]]);
  }
  count_lengths(bitext);
  make_tasks(cells_of_row, block_cells);
}

void Cooccurrence::count_lengths(const BitextView& bitext) {
  std::unordered_map<int64_t, int32_t> known;
  pair_lengths_.resize(static_cast<std::size_t>(pairs_));
  for (int64_t p = 0; p < pairs_; ++p) {
    const int64_t source = bitext.source_offsets[p + 1] - bitext.source_offsets[p];
    const int64_t target = bitext.target_offsets[p + 1] - bitext.target_offsets[p];
    const auto [it, added] = known.try_emplace(source << 16 | target, static_cast<int32_t>(lengths_.size()));
    if (added) {
      lengths_.push_back({static_cast<int32_t>(source), static_cast<int32_t>(target), 0, positions_});
      positions_ += target;
    }
    ++lengths_[it->second].pairs;
    pair_lengths_[p] = it->second;
  }
}

void Cooccurrence::make_tasks(const std::vector<int64_t>& cells_of_row,
                              const std::vector<std::vector<int64_t>>& block_cells) {
  // The second bound keeps the sums of divided rows few, however large the text.
  const int64_t cells_per_task = std::max<int64_t>(1 << 17, (cells_ + target_tokens_) / 256);
  const auto last_block = static_cast<int32_t>(blocks_.size());
  const auto divide = [&](int32_t row, const auto& cells_in_block) {
    int32_t begin = 0;
    int64_t cells = 0;
    for (int32_t b = 0; b < last_block; ++b) {
      cells += cells_in_block(b);
      if (cells < cells_per_task && b + 1 < last_block) continue;
      tasks_.push_back({row, row + 1, begin, b + 1, task_parts_++});
      begin = b + 1;
      cells = 0;
    }
  };
  divide(0, [&](int32_t b) { return blocks_[b].target_tokens(); });
  int64_t gathered = 0;
  int32_t begin = 1;
  const auto rows_end = static_cast<int32_t>(rows());
  const auto finish = [&](int32_t end) {
    if (gathered > 0) tasks_.push_back({begin, end, 0, last_block, -1});
    begin = end;
    gathered = 0;
  };
  for (int32_t row = 1; row < rows_end; ++row) {
    if (cells_of_row[row] > cells_per_task) {
      finish(row);
      divide(row, [&](int32_t b) -> int64_t {
        const auto& rows_of_block = blocks_[b].rows;
        const auto it = std::lower_bound(rows_of_block.begin(), rows_of_block.end(), row);
        return it != rows_of_block.end() && *it == row ? block_cells[b][it - rows_of_block.begin()] : 0;
      });
      begin = row + 1;
      continue;
    }
    gathered += cells_of_row[row];
    if (gathered >= cells_per_task) finish(row + 1);
  }
  finish(rows_end);
}

std::size_t Cooccurrence::bytes() const {
  std::size_t bytes = row_offsets_.size() * sizeof(int64_t) + entry_targets_.size() * sizeof(int32_t) +
                      static_cast<std::size_t>(cells_) * sizeof(uint16_t);
  for (const Block& block : blocks_) {
    bytes += (block.source_begin.size() + block.target_begin.size() + block.row_begin.size()) * sizeof(uint32_t) +
             (block.target_words.size() + block.rows.size()) * sizeof(int32_t) +
             block.cell_begin.size() * sizeof(int64_t) + block.occurrences.size() * sizeof(Occurrence);
    for (std::size_t r = 0; r < block.rows.size(); ++r) {
      if (!is_wide(block.rows[r])) continue;
      visit(block, r, block.wide.get(),
            [&](const Occurrence& o, const uint32_t*) { bytes += block.target_length(o.pair) * sizeof(uint16_t); });
    }
  }
  return bytes;
}

bool Cooccurrence::holds(const BitextView& text, int64_t first, int64_t last) const {
  if (first < 0 || last > pairs_ || last > text.pairs()) return false;
  for (const Block& block : blocks_) {
    const int64_t begin = std::max(first, block.first_pair) - block.first_pair;
    const int64_t end = std::min(last, block.last_pair) - block.first_pair;
    if (begin >= end) continue;
    const int64_t* const sources = &text.source_offsets[block.first_pair];
    const int64_t* const targets = &text.target_offsets[block.first_pair];
    for (int64_t p = begin; p < end; ++p) {
      if (sources[p + 1] - sources[p] != block.source_length(p) ||
          targets[p + 1] - targets[p] != block.target_length(p))
        return false;
    }
    const auto same = [](int32_t word, int32_t here, int32_t unknown) { return (word < 0 ? unknown : word) == here; };
    for (int64_t i = targets[begin]; i < targets[end]; ++i) {
      const int32_t here = block.target_words[block.target_begin[begin] + static_cast<std::size_t>(i - targets[begin])];
      if (!same(text.target_words[i], here, target_vocabulary_)) return false;
    }
    for (std::size_t r = 0; r < block.rows.size(); ++r) {
      for (uint32_t o = block.row_begin[r]; o < block.row_begin[r + 1]; ++o) {
        const auto [pair, position] = block.occurrences[o];
        if (pair < begin || pair >= end) continue;
        if (!same(text.source_words[sources[pair] + position], block.rows[r] - 1, source_vocabulary_)) return false;
      }
    }
  }
  return true;
}

std::vector<int32_t> find_entries(const Cooccurrence& text, std::span<const int64_t> row_offsets,
                                  std::span<const int32_t> words, int32_t target_vocabulary) {
  check<ArgumentError>(
      text.rows() == static_cast<int64_t>(row_offsets.size()) - 1 && text.target_vocabulary() == target_vocabulary,
      "find_entries: the text's vocabularies have ", text.source_vocabulary(), " and ", text.target_vocabulary(),
      " words, the table's ", static_cast<int64_t>(row_offsets.size()) - 3, " and ", target_vocabulary,
      "; read the text with the table's vocabularies");
  std::vector<int32_t> result(static_cast<std::size_t>(text.entries()), -1);
  // place[word] holds the entry of the row at hand.
  struct Place {
    int64_t row = -1;
    int32_t entry = -1;
  };
  std::vector<std::vector<Place>> places(static_cast<std::size_t>(cpu_threads()));
  constexpr int64_t kRowsPerTask = 256;
  const int64_t rows = text.rows();
  cpu::parallel_tasks((rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int thread) {
    std::vector<Place>& place = places[thread];
    for (int64_t row = task * kRowsPerTask; row < std::min(rows, (task + 1) * kRowsPerTask); ++row) {
      const int64_t begin = text.row_offsets()[row];
      const int64_t end = text.row_offsets()[row + 1];
      if (begin == end) continue;
      place.resize(static_cast<std::size_t>(target_vocabulary) + 1);
      for (int64_t e = row_offsets[row]; e < row_offsets[row + 1]; ++e)
        place[words[e]] = {row, static_cast<int32_t>(e)};
      for (int64_t e = begin; e < end; ++e) {
        const Place& at = place[text.entry_targets()[e]];
        if (at.row == row) result[e] = at.entry;
      }
    }
  });
  return result;
}

}  // namespace dgm
