// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/neural_translation_table.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"

#include <cmath>

namespace dgm::test {
namespace {

/// Every source word with every target word, in one pair.
struct Text {
  Vocabulary source;
  std::vector<int64_t> source_offsets, target_offsets;
  std::vector<int32_t> source_words, target_words;

  Text(const std::vector<std::string>& words, int32_t targets) {
    for (const std::string& word : words) source_words.push_back(source.add(word));
    for (int32_t f = 0; f < targets; ++f) target_words.push_back(f);
    source_offsets = {0, static_cast<int64_t>(source_words.size())};
    target_offsets = {0, targets};
  }
  std::shared_ptr<const Cooccurrence> pattern() const {
    return std::make_shared<const Cooccurrence>(BitextView{source_offsets, target_offsets, source_words, target_words,
                                                           source.size(), static_cast<int32_t>(target_words.size())});
  }
};

class NeuralTable : public OnEveryDevice {
 protected:
  static NeuralTableOptions small() {
    NeuralTableOptions options;
    options.width = 8;
    options.batch = 3;
    options.rate = 0.02;
    options.half_life = 100;
    return options;
  }
  /// sum of counts log t.
  static double value(const NeuralTranslationTable& table, const std::vector<float>& counts) {
    const auto log_t = table.log_table().to_host();
    double sum = 0;
    for (std::size_t e = 0; e < counts.size(); ++e)
      sum += static_cast<double>(counts[e]) * static_cast<double>(log_t[e]);
    return sum;
  }
  Tensor<float> put(const std::vector<float>& counts) const {
    return Tensor<float>::from(counts, {static_cast<int64_t>(counts.size())}, device());
  }
};

TEST_P(NeuralTable, RowsAreDistributionsOverAllTargetWords) {
  const Text text({"maison", "maisons", "chat"}, 5);
  const NeuralTranslationTable table(text.pattern(), &text.source, device(), small());
  const auto log_t = table.log_table().to_host();
  const auto& offsets = table.pattern().row_offsets();
  for (std::size_t row = 0; row < 4; ++row) {
    // NULL's row has an entry for the unknown word, too; to the others that is missing.
    ASSERT_EQ(offsets[row + 1] - offsets[row], row == 0 ? 6 : 5) << "row " << row;
    double sum = 0;
    for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) {
      sum += std::exp(static_cast<double>(log_t[static_cast<std::size_t>(e)]));
    }
    EXPECT_LT(sum, 1 + 1e-5) << "row " << row;
    EXPECT_GT(sum, row == 0 ? 1 - 1e-5 : 0.7) << "row " << row;
  }
}

TEST_P(NeuralTable, RowsOneByOneAreThoseOfTheWholeTable) {
  const Text text({"a", "bb", "bc", "bd"}, 7);
  NeuralTranslationTable table(text.pattern(), &text.source, device(), small());
  const auto whole = table.log_table().to_host();
  Tape tape;
  EXPECT_EQ(table.log_table(tape).value().to_host(), whole);
  const auto& offsets = table.pattern().row_offsets();
  for (const int32_t row : {4, 0, 2}) {
    const auto part = table.log_table(tape, std::vector<int32_t>{row}).value().to_host();
    const std::vector<float> wanted(whole.begin() + offsets[static_cast<std::size_t>(row)],
                                    whole.begin() + offsets[static_cast<std::size_t>(row) + 1]);
    ASSERT_EQ(part.size(), wanted.size()) << "row " << row;
    for (std::size_t e = 0; e < part.size(); ++e) EXPECT_NEAR(part[e], wanted[e], 1e-5f) << "row " << row << ", " << e;
  }
}

TEST_P(NeuralTable, ClimbingReachesTheTableThatTheCountsAskFor) {
  const Text text({"un", "deux", "trois"}, 4);
  NeuralTranslationTable table(text.pattern(), &text.source, device(), small());
  std::vector<float> counts(static_cast<std::size_t>(table.pattern().entries()), 0.0f);
  const auto& offsets = table.pattern().row_offsets();
  for (std::size_t row = 1; row < 4; ++row) counts[static_cast<std::size_t>(offsets[row]) + row] = 10.0f;
  const double before = value(table, counts);
  for (int epoch = 0; epoch < 60; ++epoch) table.climb(put(counts));
  const double after = value(table, counts);
  EXPECT_LT(before, -30.0);
  EXPECT_GT(after, -3.0) << "of 30 words";
}

TEST_P(NeuralTable, AWordWithoutCountsLearnsFromOneThatLooksAlike) {
  const Text text({"parlement", "parlements", "xyz"}, 4);
  std::vector<double> gap;
  for (const bool letters : {true, false}) {
    NeuralTranslationTable table(text.pattern(), letters ? &text.source : nullptr, device(), small());
    std::vector<float> counts(static_cast<std::size_t>(table.pattern().entries()), 0.0f);
    const auto& offsets = table.pattern().row_offsets();
    counts[static_cast<std::size_t>(offsets[1]) + 2] = 10.0f;
    counts[static_cast<std::size_t>(offsets[3]) + 0] = 10.0f;
    for (int epoch = 0; epoch < 60; ++epoch) table.climb(put(counts));
    const auto log_t = table.log_table().to_host();
    gap.push_back(static_cast<double>(log_t[static_cast<std::size_t>(offsets[2]) + 2]) -
                  static_cast<double>(log_t[static_cast<std::size_t>(offsets[2]) + 0]));
  }
  EXPECT_GT(gap[0], 2.0) << "with letters";
  EXPECT_GT(gap[0], gap[1] + 1.0) << "without letters " << gap[1];
}

TEST_P(NeuralTable, TheSameSeedGivesTheSameBits) {
  const Text text({"one", "two", "three", "four", "five"}, 6);
  std::vector<std::vector<float>> results;
  for (const uint64_t seed : {1u, 1u, 2u}) {
    NeuralTableOptions options = small();
    options.seed = seed;
    NeuralTranslationTable table(text.pattern(), &text.source, device(), options);
    const std::vector<float> counts(static_cast<std::size_t>(table.pattern().entries()), 1.0f);
    for (int epoch = 0; epoch < 2; ++epoch) table.climb(put(counts));
    results.push_back(table.log_table().to_host());
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_NE(results[0], results[2]);
}

TEST_P(NeuralTable, RefusesWhatDoesNotFit) {
  const Text text({"one", "two"}, 3);
  NeuralTableOptions options = small();
  options.width = 0;
  EXPECT_EQ(message_of<ArgumentError>([&] { NeuralTranslationTable(text.pattern(), nullptr, device(), options); }),
            "NeuralTranslationTable: width is 0; at least 1 is needed");
  const Vocabulary other;
  EXPECT_EQ(message_of<ArgumentError>([&] { NeuralTranslationTable(text.pattern(), &other, device(), small()); }),
            "NeuralTranslationTable: there are 0 words, but the pattern's vocabulary has 2");
  NeuralTranslationTable table(text.pattern(), nullptr, device(), small());
  EXPECT_THROW(table.climb(put({1.0f})), ShapeError);
}

DGM_ON_EVERY_DEVICE(NeuralTable);

}  // namespace
}  // namespace dgm::test
