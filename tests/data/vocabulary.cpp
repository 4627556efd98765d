// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/vocabulary.hpp>

#include <gtest/gtest.h>

#include <map>
#include <random>

namespace dgm {
namespace {

TEST(Vocabulary, NumbersWordsInTheOrderInWhichTheyCame) {
  Vocabulary words;
  EXPECT_EQ(words.size(), 0);
  EXPECT_EQ(words.find("a"), Vocabulary::kUnknown);
  EXPECT_EQ(words.add("b"), 0);
  EXPECT_EQ(words.add("a"), 1);
  EXPECT_EQ(words.add("b"), 0);
  EXPECT_EQ(words.add(""), 2);
  EXPECT_EQ(words.find("a"), 1);
  EXPECT_EQ(words.find(""), 2);
  EXPECT_EQ(words.find("ab"), Vocabulary::kUnknown);
  EXPECT_EQ(words.word(0), "b");
  EXPECT_EQ(words.word(2), "");
  EXPECT_EQ(words.size(), 3);
}

TEST(Vocabulary, AgreesWithAMapForWordsOfEveryLengthAndAnyBytes) {
  std::mt19937 draw(3);
  Vocabulary words;
  std::map<std::string, std::int32_t> reference;
  for (int i = 0; i < 200'000; ++i) {
    std::string word(draw() % 20, '\0');
    // Few letters, so that words of equal length often differ in one place only; some with all bytes.
    for (char& c : word) c = static_cast<char>(i % 10 == 0 ? draw() % 256 : 'a' + draw() % 3);
    const auto [at, fresh] = reference.try_emplace(word, words.size());
    ASSERT_EQ(words.add(word), at->second) << i;
  }
  ASSERT_EQ(static_cast<std::size_t>(words.size()), reference.size());
  for (const auto& [word, id] : reference) {
    ASSERT_EQ(words.find(word), id);
    ASSERT_EQ(words.word(id), word);
  }
}

TEST(Vocabulary, IsEqualIfWordsAndNumbersAre) {
  Vocabulary a;
  Vocabulary b;
  EXPECT_TRUE(a == b);
  a.add("xy");
  b.add("x");
  b.add("y");
  EXPECT_FALSE(a == b);
}

}  // namespace
}  // namespace dgm
