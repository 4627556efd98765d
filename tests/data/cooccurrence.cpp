// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/device.hpp>
#include <dgm/core/error.hpp>
#include <dgm/data/cooccurrence.hpp>

#include "tests/support/files.hpp"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <set>

namespace dgm::test {
namespace {

struct Text {
  std::vector<int64_t> source_offsets = {0}, target_offsets = {0};
  std::vector<int32_t> source_words, target_words;
  int32_t source_vocabulary = 0, target_vocabulary = 0;

  void add(const std::vector<int32_t>& source, const std::vector<int32_t>& target) {
    source_words.insert(source_words.end(), source.begin(), source.end());
    target_words.insert(target_words.end(), target.begin(), target.end());
    source_offsets.push_back(static_cast<int64_t>(source_words.size()));
    target_offsets.push_back(static_cast<int64_t>(target_words.size()));
  }
  BitextView view() const {
    return {source_offsets, target_offsets, source_words, target_words, source_vocabulary, target_vocabulary};
  }
};

Text random_text(int64_t pairs, int32_t source_vocabulary, int32_t target_vocabulary, int longest, uint64_t seed) {
  std::mt19937_64 generator(seed);
  Text text;
  text.source_vocabulary = source_vocabulary;
  text.target_vocabulary = target_vocabulary;
  const auto sentence = [&](int32_t vocabulary) {
    std::vector<int32_t> words(generator() % static_cast<uint64_t>(longest + 1));
    for (int32_t& word : words) {
      // Few words are frequent; -1 is unknown.
      const double u = std::uniform_real_distribution<double>()(generator);
      word = static_cast<int32_t>(u * u * u * (vocabulary + 1)) - 1;
    }
    return words;
  };
  for (int64_t p = 0; p < pairs; ++p) text.add(sentence(source_vocabulary), sentence(target_vocabulary));
  return text;
}

// Every cell's (source word, target word) as the pattern gives it, by (pair, j, i).
using Cells = std::map<std::tuple<int64_t, int, int>, std::pair<int32_t, int32_t>>;

Cells cells_of(const Cooccurrence& pattern) {
  Cells cells;
  for (const auto& block : pattern.blocks()) {
    for (std::size_t r = 0; r < block.rows.size(); ++r) {
      const int64_t row = block.rows[r];
      pattern.for_each_occurrence(block, r, [&](const Cooccurrence::Occurrence& o, const auto* entries) {
        for (uint32_t i = 0; i < block.target_length(o.pair); ++i) {
          const int64_t entry = pattern.row_offsets()[row] + entries[i];
          EXPECT_LT(entry, pattern.row_offsets()[row + 1]);
          const auto [at, added] = cells.emplace(
              std::tuple(block.first_pair + o.pair, o.position, i),
              std::pair(static_cast<int32_t>(row - 1), pattern.entry_targets()[static_cast<std::size_t>(entry)]));
          EXPECT_TRUE(added) << "a cell twice";
        }
      });
    }
  }
  return cells;
}

Cells wanted_cells(const Text& text) {
  Cells cells;
  for (std::size_t p = 0; p + 1 < text.source_offsets.size(); ++p) {
    for (int64_t s = text.source_offsets[p]; s < text.source_offsets[p + 1]; ++s) {
      for (int64_t t = text.target_offsets[p]; t < text.target_offsets[p + 1]; ++t) {
        const int32_t e = text.source_words[s] < 0 ? text.source_vocabulary : text.source_words[s];
        const int32_t f = text.target_words[t] < 0 ? text.target_vocabulary : text.target_words[t];
        cells[{p, s - text.source_offsets[p], t - text.target_offsets[p]}] = {e, f};
      }
    }
  }
  return cells;
}

TEST(Cooccurrence, EveryCellOfEveryPairHasTheEntryOfItsWords) {
  for (const int64_t block_words : {1, 7, 100, 1 << 15}) {
    const Text text = random_text(60, 20, 30, 9, 3);
    const Cooccurrence pattern(text.view(), {.block_words = block_words});
    EXPECT_EQ(cells_of(pattern), wanted_cells(text)) << "block_words = " << block_words;
    EXPECT_EQ(pattern.cells(), static_cast<int64_t>(wanted_cells(text).size()));
  }
}

TEST(Cooccurrence, RowsHoldEachWordThatOccursWithThemOnceInOrderOfFirstOccurrence) {
  Text text;
  text.source_vocabulary = 3;
  text.target_vocabulary = 4;
  text.add({0, 2}, {3, 1});
  text.add({0}, {1, 2, 1, -1});
  const Cooccurrence pattern(text.view());
  EXPECT_EQ(pattern.row_offsets(), (std::vector<int64_t>{0, 5, 9, 9, 11, 11})) << "NULL, 0, 1, 2, unknown";
  EXPECT_EQ(pattern.entry_targets(), (std::vector<int32_t>{0, 1, 2, 3, 4, 3, 1, 2, 4, 3, 1}));
}

TEST(Cooccurrence, RowOfMoreThan65536EntriesTakesFourBytesACell) {
  Text text;
  text.source_vocabulary = 2;
  text.target_vocabulary = 70000;
  std::vector<int32_t> sentence;
  for (int32_t word = 0; word < 70000; ++word) {
    sentence.push_back(word);
    if (sentence.size() == 1000) text.add({1, 0}, sentence), sentence.clear();
  }
  for (int repeat = 0; repeat < 80; ++repeat) text.add({0}, std::vector<int32_t>(1000, repeat));
  const Cooccurrence pattern(text.view());
  EXPECT_TRUE(pattern.is_wide(1));
  EXPECT_TRUE(pattern.is_wide(2));
  EXPECT_EQ(cells_of(pattern), wanted_cells(text));
  Text narrow;
  narrow.source_vocabulary = 1;
  narrow.target_vocabulary = 70000;
  for (int repeat = 0; repeat < 80; ++repeat) narrow.add({0}, std::vector<int32_t>(1000, repeat));
  const Cooccurrence small(narrow.view());
  EXPECT_FALSE(small.is_wide(1)) << "many cells, few entries";
  EXPECT_EQ(cells_of(small), wanted_cells(narrow));
}

TEST(Cooccurrence, IsTheSameForAnyNumberOfThreads) {
  const Text text = random_text(3000, 500, 700, 30, 5);
  const int before = cpu_threads();
  set_cpu_threads(1);
  const Cooccurrence one(text.view(), {.block_words = 1000});
  set_cpu_threads(5);
  const Cooccurrence five(text.view(), {.block_words = 1000});
  set_cpu_threads(before);
  EXPECT_EQ(one.row_offsets(), five.row_offsets());
  EXPECT_EQ(one.entry_targets(), five.entry_targets());
  EXPECT_EQ(cells_of(one), cells_of(five));
}

TEST(Cooccurrence, TasksCoverEveryRowAndBlockOnce) {
  const Text text = random_text(20000, 50, 700, 30, 6);
  const Cooccurrence pattern(text.view(), {.block_words = 1000});
  ASSERT_GT(pattern.task_parts(), 2) << "rows of many cells are divided";
  std::set<std::pair<int64_t, int64_t>> seen;
  int64_t part = 0;
  for (const auto& task : pattern.tasks()) {
    if (task.part >= 0) {
      EXPECT_EQ(task.part, part++);
      EXPECT_EQ(task.row_end, task.row_begin + 1);
    } else {
      EXPECT_EQ(task.block_begin, 0);
      EXPECT_EQ(task.block_end, static_cast<int32_t>(pattern.blocks().size()));
    }
    for (int64_t row = task.row_begin; row < task.row_end; ++row) {
      for (int64_t b = task.block_begin; b < task.block_end; ++b) {
        EXPECT_TRUE(seen.emplace(row, b).second) << "row " << row << ", block " << b;
      }
    }
  }
  EXPECT_EQ(part, pattern.task_parts());
  for (std::size_t b = 0; b < pattern.blocks().size(); ++b) {
    EXPECT_TRUE(seen.count({0, b}));
    for (const int32_t row : pattern.blocks()[b].rows) EXPECT_TRUE(seen.count({row, b})) << "row " << row;
  }
}

TEST(Cooccurrence, PairsOfEqualLengthsAreCountedTogether) {
  Text text;
  text.source_vocabulary = 1;
  text.target_vocabulary = 1;
  text.add({0, 0}, {0});
  text.add({0}, {0, 0});
  text.add({0, 0}, {0});
  text.add({}, {});
  const Cooccurrence pattern(text.view());
  ASSERT_EQ(pattern.lengths().size(), 3u);
  EXPECT_EQ(pattern.lengths()[0].pairs, 2);
  EXPECT_EQ(pattern.pair_lengths(), (std::vector<int32_t>{0, 1, 0, 2}));
  EXPECT_EQ(pattern.lengths()[1].first_position, 1);
  EXPECT_EQ(pattern.positions(), 3);
}

TEST(Cooccurrence, NoPairsAndEmptySidesHaveNoCells) {
  Text text;
  text.source_vocabulary = 2;
  text.target_vocabulary = 2;
  EXPECT_EQ(Cooccurrence(text.view()).pairs(), 0);
  EXPECT_EQ(Cooccurrence(text.view()).entries(), 3);
  text.add({}, {0, 1});
  text.add({1}, {});
  text.add({}, {});
  const Cooccurrence pattern(text.view());
  EXPECT_EQ(pattern.cells(), 0);
  EXPECT_EQ(pattern.target_tokens(), 2);
  EXPECT_EQ(pattern.source_tokens(), 1);
  EXPECT_EQ(pattern.entries(), 3);
}

TEST(Cooccurrence, PartOfATextIsCompiledAsIfItWereAlone) {
  const Text text = random_text(50, 20, 30, 9, 7);
  const BitextView part = text.view().part(11, 31);
  Text alone;
  alone.source_vocabulary = 20;
  alone.target_vocabulary = 30;
  for (std::size_t p = 11; p < 31; ++p) {
    alone.add(
        {text.source_words.begin() + text.source_offsets[p], text.source_words.begin() + text.source_offsets[p + 1]},
        {text.target_words.begin() + text.target_offsets[p], text.target_words.begin() + text.target_offsets[p + 1]});
  }
  EXPECT_EQ(cells_of(Cooccurrence(part)), wanted_cells(alone));
}

TEST(Cooccurrence, HoldsItsOwnTextAndNoneThatDiffersInAWordOrALength) {
  const Text text = random_text(40, 9, 7, 6, 8);
  const Cooccurrence pattern(text.view(), {.block_words = 20});
  ASSERT_GT(pattern.blocks().size(), 3u);
  for (const auto& [first, last] : {std::pair{0, 40}, {3, 31}, {17, 18}, {40, 40}}) {
    EXPECT_TRUE(pattern.holds(text.view(), first, last)) << first << " to " << last;
  }
  EXPECT_FALSE(pattern.holds(text.view(), 0, 41));
  const auto check_changed = [&](bool source, std::size_t word) {
    Text changed = text;
    int32_t& at = (source ? changed.source_words : changed.target_words)[word];
    at = at < 3 ? at + 1 : -1;
    const auto& offsets = source ? text.source_offsets : text.target_offsets;
    int64_t pair = 0;
    while (offsets[static_cast<std::size_t>(pair) + 1] <= static_cast<int64_t>(word)) ++pair;
    EXPECT_FALSE(pattern.holds(changed.view(), pair, pair + 1)) << (source ? "source" : "target") << " word " << word;
    EXPECT_FALSE(pattern.holds(changed.view(), 0, 40));
    EXPECT_TRUE(pattern.holds(changed.view(), pair + 1, 40));
    EXPECT_TRUE(pattern.holds(changed.view(), 0, pair));
  };
  for (std::size_t word = 0; word < text.source_words.size(); word += 5) check_changed(true, word);
  for (std::size_t word = 0; word < text.target_words.size(); word += 5) check_changed(false, word);
  Text longer = text;
  for (std::size_t p = 11; p < longer.target_offsets.size(); ++p) ++longer.target_offsets[p];
  longer.target_words.insert(longer.target_words.begin() + text.target_offsets[11], 2);
  EXPECT_FALSE(pattern.holds(longer.view(), 10, 11));
}

TEST(Cooccurrence, RefusesBadArguments) {
  Text text;
  text.source_vocabulary = 2;
  text.target_vocabulary = 2;
  text.add({0}, {1});
  text.target_words[0] = 2;
  EXPECT_NE(message_of<ArgumentError>([&] { Cooccurrence pattern(text.view()); }).find("target_words[0] = 2"),
            std::string::npos);
  text.target_words[0] = 1;
  text.source_offsets = {0, 1, 0};
  EXPECT_NE(message_of<ArgumentError>([&] { Cooccurrence pattern(text.view()); }).find("must not decrease"),
            std::string::npos);
  text.source_offsets = {0, 1, 1};
  EXPECT_NE(message_of<ArgumentError>([&] { Cooccurrence pattern(text.view()); }).find("2 source sentences but 1"),
            std::string::npos);
  Text longest;
  longest.source_vocabulary = 1;
  longest.target_vocabulary = 1;
  longest.add(std::vector<int32_t>(65536, 0), {0});
  EXPECT_NE(message_of<ArgumentError>([&] { Cooccurrence pattern(longest.view()); }).find("65536 words"),
            std::string::npos);
  EXPECT_THROW(text.view().part(0, 9), ArgumentError);
}

}  // namespace
}  // namespace dgm::test
