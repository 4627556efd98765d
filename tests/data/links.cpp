// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/links.hpp>

#include <gtest/gtest.h>

#include "tests/support/files.hpp"

namespace dgm {
namespace {

using test::message_of;
using test::put;
using test::TempDir;

TEST(Pharaoh, LinesComeBackAsTheyWereWritten) {
  const TempDir dir;
  const std::vector<Links> links = {{{0, 0}, {1, 2}, {10, 1}}, {}, {{2147483647, 0}}};
  std::string lines;
  for (const Links& pair : links) append_pharaoh(pair, lines);
  EXPECT_EQ(lines, "0-0 1-2 10-1\n\n2147483647-0\n");
  EXPECT_EQ(read_pharaoh(put(dir / "links", lines)), links);
}

TEST(Pharaoh, ReadsAnyOrderAndRepeatedLinks) {
  const TempDir dir;
  EXPECT_EQ(read_pharaoh(put(dir / "links", "3-1 0-2\t0-2 \r\n1-1")), (std::vector<Links>{{{0, 2}, {3, 1}}, {{1, 1}}}));
}

TEST(Pharaoh, RefusesWhatIsNoLinkAndNamesTheLine) {
  const TempDir dir;
  EXPECT_EQ(message_of<FileError>([&] { read_pharaoh(put(dir / "l", "0-0\n1-1 2-x\n")); }),
            dir / "l" + ": line 2: '2-x' is not a link; source-target from 0 is needed, for instance 3-4");
  for (const std::string bad : {"1", "-1", "1-", "-1-2", "1--2", "1-2-3", "1-99999999999", "a-1", "1:2"}) {
    EXPECT_THROW(read_pharaoh(put(dir / "l", bad)), FileError) << bad;
  }
}

TEST(GoldLinks, SureLinksArePossibleToo) {
  const TempDir dir;
  const GoldLinks gold =
      read_gold_links(put(dir / "gold.wa", "0001 1 1 S\n3 2 1 P\n3 1 2\r\n1 2 3 P 0.5\n3 0 2 S\n3 1 0 P\n\n"));
  EXPECT_EQ(gold.sure, (std::vector<Links>{{{0, 0}}, {}, {{0, 1}}}));
  EXPECT_EQ(gold.possible, (std::vector<Links>{{{0, 0}, {1, 2}}, {}, {{0, 1}, {1, 0}}}));
  const GoldLinks swapped = read_gold_links(dir / "gold.wa", true);
  EXPECT_EQ(swapped.possible, (std::vector<Links>{{{0, 0}, {2, 1}}, {}, {{0, 1}, {1, 0}}}));
}

TEST(GoldLinks, RefusesOtherLinesAndNamesThem) {
  const TempDir dir;
  EXPECT_EQ(message_of<FileError>([&] { read_gold_links(put(dir / "g", "1 1 1 S\n1 1 X\n")); }),
            dir / "g" + ": line 2: '1 1 X' is not a gold link; `sentence source target S|P`, all from 1, is needed");
  for (const std::string bad :
       {"", "0-0 1-1\n", "0 1 1 S\n", "1 1 1 Q\n", "1 1\n", "-1 1 1\n", "999999999999 1 1 S\n", "2000000000 1 1 S\n"}) {
    EXPECT_THROW(read_gold_links(put(dir / "g", bad)), FileError) << bad;
  }
}

TEST(AlignmentScore, CountsByHand) {
  // |A| = 4, |S| = 3, |P| = 5; A and S: 2, A and P: 3. The second sentence is not annotated.
  GoldLinks gold;
  gold.sure = {{{0, 0}, {1, 1}}, {}, {{0, 1}}};
  gold.possible = {{{0, 0}, {1, 1}, {2, 2}}, {}, {{0, 1}, {1, 0}}};
  const std::vector<Links> links = {{{0, 0}, {1, 2}, {2, 2}}, {{5, 5}}, {{0, 1}}, {{7, 7}}};
  const AlignmentScore score = alignment_score(links, gold);
  EXPECT_EQ(score.links, 4);
  EXPECT_EQ(score.sure, 3);
  EXPECT_EQ(score.possible, 5);
  EXPECT_EQ(score.sentences, 2);
  EXPECT_DOUBLE_EQ(score.precision, 3.0 / 4);
  EXPECT_DOUBLE_EQ(score.recall, 2.0 / 3);
  EXPECT_DOUBLE_EQ(score.aer, 1 - 5.0 / 7);
}

TEST(AlignmentScore, OfNothingIsPerfectPrecisionAndOfTooFewSentencesAnError) {
  GoldLinks gold;
  gold.sure = {{{0, 0}}};
  gold.possible = gold.sure;
  const AlignmentScore score = alignment_score(std::vector<Links>{{}}, gold);
  EXPECT_EQ(score.precision, 1);
  EXPECT_EQ(score.recall, 0);
  EXPECT_EQ(score.aer, 1);
  EXPECT_EQ(alignment_score({}, {}).aer, 0);
  EXPECT_THROW(alignment_score({}, gold), ShapeError);
}

}  // namespace
}  // namespace dgm
