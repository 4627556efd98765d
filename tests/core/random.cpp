// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/random.hpp>

#include "kernels/math/philox.hpp"

#include <gtest/gtest.h>

#include <array>

namespace dgm::test {
namespace {

std::array<uint32_t, 4> words(const PhiloxWords& block) { return {block.w[0], block.w[1], block.w[2], block.w[3]}; }

TEST(Philox, GivesThePublishedTestVectors) {
  // Random123's known answers for philox4x32 with ten rounds.
  EXPECT_EQ(words(philox4x32_10({{0, 0, 0, 0}}, 0, 0)),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(words(philox4x32_10({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff)),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(words(philox4x32_10({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0)),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Philox, GivesCurandsWordsForItsFirstTwoBlocks) {
  EXPECT_EQ(words(draw_words(1234, {0, 0, 0, 0})),
            (std::array<uint32_t, 4>{546353992u, 3665621163u, 1140953199u, 3419031310u}));
  EXPECT_EQ(words(draw_words(1234, {0, 0, 0, 1})),
            (std::array<uint32_t, 4>{2666454581u, 482218876u, 4196888723u, 343858512u}));
}

TEST(Philox, UniformsAreAboveZeroAndAtMostOne) {
  EXPECT_GT(uniform_from_word(0), 0.0f);
  EXPECT_EQ(uniform_from_word(0xffffffffu), 1.0f);
}

TEST(Philox, IndicesCoverTheirRangeEvenly) {
  constexpr int64_t kRange = 7;
  std::array<int, kRange> counts = {};
  for (uint32_t i = 0; i < 70000; ++i) {
    const PhiloxWords block = draw_words(5, {1, i, 0, 0});
    const int64_t index = index_from_words(block.w[0], block.w[1], kRange);
    ASSERT_GE(index, 0);
    ASSERT_LT(index, kRange);
    ++counts[static_cast<std::size_t>(index)];
  }
  for (const int count : counts) EXPECT_NEAR(count, 10000, 5 * 93) << "5 standard deviations";
  EXPECT_EQ(index_from_words(0xffffffffu, 0xffffffffu, int64_t{1} << 40), (int64_t{1} << 40) - 1);
}

TEST(DrawHandles, ShareTheStepAndCheckTheirRanges) {
  Draws draws(42, Device::cpu());
  const Draws other = draws.at(3);
  draws.set_step(17);
  EXPECT_EQ(other.step().item(), 17);
  EXPECT_EQ(other.site(), 3);
  EXPECT_THROW(draws.at(-1), ArgumentError);
  EXPECT_THROW(draws.at(65536), ArgumentError);
  EXPECT_THROW(draws.set_step(-1), ArgumentError);
}

}  // namespace
}  // namespace dgm::test
