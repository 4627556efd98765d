// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/device.hpp>
#include <dgm/core/error.hpp>
#include <dgm/data/bitext.hpp>

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>

#include "host/data/utf8.hpp"
#include "tests/support/files.hpp"

namespace dgm {
namespace {

using test::message_of;
using test::put;
using test::TempDir;

// Sentence p of a side, its words separated by one blank.
std::string line(const Bitext& bitext, bool source, std::int64_t pair) {
  std::string out;
  for (const std::int32_t word : source ? bitext.source_sentence(pair) : bitext.target_sentence(pair)) {
    if (!out.empty()) out += " ";
    out += word == Vocabulary::kUnknown ? "?" : std::string((source ? bitext.source : bitext.target)->word(word));
  }
  return out;
}

std::string zipped(const std::string& bytes) {
  std::string out(bytes.size() + 1000, '\0');
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

class Threads {
 public:
  explicit Threads(int count) : before_(cpu_threads()) { set_cpu_threads(count); }
  ~Threads() { set_cpu_threads(before_); }

 private:
  int before_;
};

TEST(ReadBitext, NumbersTheWordsOfBothSides) {
  const TempDir dir;
  for (const int threads : {1, 2}) {
    const Threads use(threads);
    const Bitext bitext =
        read_bitext(put(dir / "s", "the house\nthe  \t red house \n"), put(dir / "t", "das Haus\ndas rote Haus\n"));
    ASSERT_EQ(bitext.pairs(), 2);
    EXPECT_EQ(bitext.source_words, (std::vector<std::int32_t>{0, 1, 0, 2, 1}));
    EXPECT_EQ(bitext.target_words, (std::vector<std::int32_t>{0, 1, 0, 2, 1}));
    EXPECT_EQ(bitext.source_offsets, (std::vector<std::int64_t>{0, 2, 5}));
    EXPECT_EQ(line(bitext, true, 1), "the red house");
    EXPECT_EQ(line(bitext, false, 1), "das rote Haus");
    EXPECT_EQ(bitext.files, std::vector<std::int64_t>{0});
  }
}

TEST(ReadBitext, TakesCrLfByteOrderMarksGzipAndALastLineWithoutEnd) {
  const TempDir dir;
  const std::string source =
      "\xef\xbb\xbf"
      "a b\r\nc\r\n";
  for (const std::string& target : {std::string("x\ny z"), zipped("x\ny z"), zipped("x\n") + zipped("y z\n")}) {
    const Bitext bitext = read_bitext(put(dir / "s", source), put(dir / "t", target));
    ASSERT_EQ(bitext.pairs(), 2);
    EXPECT_EQ(line(bitext, true, 0), "a b");
    EXPECT_EQ(line(bitext, true, 1), "c");
    EXPECT_EQ(line(bitext, false, 1), "y z");
  }
}

TEST(ReadBitext, KeepsSeveralFilesInOrderAndKnowsWhereTheyBegin) {
  const TempDir dir;
  const std::vector<std::string> sources = {put(dir / "s1", "a\nb"), put(dir / "s2", "c\n"), put(dir / "s3", "a\nd\n")};
  const std::vector<std::string> targets = {put(dir / "t1", "a\nb\n"), put(dir / "t2", "c"), put(dir / "t3", "a\nd\n")};
  const Bitext bitext = read_bitext(sources, targets);
  EXPECT_EQ(bitext.files, (std::vector<std::int64_t>{0, 2, 3}));
  ASSERT_EQ(bitext.pairs(), 5);
  EXPECT_EQ(line(bitext, true, 2), "c");
  EXPECT_EQ(line(bitext, false, 4), "d");
  EXPECT_THROW(read_bitext(sources, {targets[0]}), ArgumentError);
  EXPECT_THROW(read_bitext(std::vector<std::string>{}, std::vector<std::string>{}), ArgumentError);
}

TEST(ReadBitext, ReadsTextsOfManyBlocksAndLinesOfAnyLength) {
  const TempDir dir;
  std::mt19937 draw(7);
  std::vector<std::string> lines;
  std::string whole;
  std::size_t words = 0;
  for (int i = 0; i < 30'000; ++i) {
    std::string sentence;
    // One line is longer than any block.
    const std::size_t count = i == 20'000 ? 700'000 : 1 + draw() % 30;
    words += count;
    for (std::size_t w = 0; w < count; ++w) sentence += (w > 0 ? " " : "") + std::to_string(draw() % 1000);
    whole += sentence + "\n";
    lines.push_back(sentence);
  }
  const std::string plain = put(dir / "s", whole);
  const std::string packed = put(dir / "t", zipped(whole));
  const Bitext bitext = read_bitext(plain, packed, {.longest = 1'000'000});
  ASSERT_EQ(bitext.pairs(), static_cast<std::int64_t>(lines.size()));
  ASSERT_EQ(bitext.source_words.size(), words);
  EXPECT_TRUE(*bitext.source == *bitext.target);
  EXPECT_EQ(bitext.source_words, bitext.target_words);
  for (std::size_t p = 0; p < lines.size(); ++p) ASSERT_EQ(line(bitext, true, static_cast<std::int64_t>(p)), lines[p]);

  std::string joined;
  for (const std::string& sentence : lines) joined += sentence + " ||| " + sentence + "\n";
  const Bitext same = read_joined_bitext({put(dir / "j", joined)}, {.longest = 1'000'000});
  EXPECT_EQ(same.source_words, bitext.source_words);
  EXPECT_EQ(same.target_offsets, bitext.target_offsets);
}

TEST(ReadBitext, NamesBothCountsOfLines) {
  const TempDir dir;
  const std::string message =
      message_of<FileError>([&] { read_bitext(put(dir / "s", "a\nb\nc\n"), put(dir / "t", "a\nb\n")); });
  EXPECT_EQ(message, dir / "s" + " has 3 lines but " + (dir / "t") +
                         " has 2; line i of one must be the translation of line i of the other");
}

TEST(ReadBitext, RefusesAnEmptySideAndSaysWhatTheOtherHas) {
  const TempDir dir;
  std::string message = message_of<FileError>([&] {
    read_bitext({put(dir / "s1", "a\n"), put(dir / "s2", "a\nb c d\n")},
                {put(dir / "t1", "a\n"), put(dir / "t2", "a\n \t\r\n")});
  });
  EXPECT_EQ(message, dir / "t2" + ": line 2 is empty while line 2 of " + (dir / "s2") +
                         " has 3 words; skip_bad_pairs keeps such pairs, without links");
  message = message_of<FileError>([&] { read_bitext(dir / "t2", dir / "t2"); });
  EXPECT_NE(message.find("t2: line 2 is empty"), std::string::npos) << message;
}

TEST(ReadBitext, RefusesALineOfTenThousandWordsAndNamesTheLimit) {
  const TempDir dir;
  std::string many;
  for (int i = 0; i < 10'000; ++i) many += "w ";
  const std::string message =
      message_of<FileError>([&] { read_bitext(put(dir / "s", "a\n" + many), put(dir / "t", "b\nc\n")); });
  EXPECT_EQ(message, dir / "s" +
                         ": line 2 has 10,000 words; at most 1,000 words are aligned (longest); skip_bad_pairs keeps "
                         "such pairs, without links");
  EXPECT_EQ(read_bitext(dir / "s", dir / "t", {.longest = 10'000}).source_words.size(), 10'001u);
}

TEST(ReadBitext, SkippedPairsKeepTheirPlace) {
  const TempDir dir;
  const Bitext bitext = read_bitext(put(dir / "s", "a b\n\nc\n\nd e f\ng\n"), put(dir / "t", "A B\nX\nC\n\nD\n\n"),
                                    {.longest = 2, .skip_bad_pairs = true});
  ASSERT_EQ(bitext.pairs(), 6);
  EXPECT_EQ(bitext.skipped, 4);
  EXPECT_EQ(bitext.source_offsets, (std::vector<std::int64_t>{0, 2, 2, 3, 3, 3, 3}));
  EXPECT_EQ(bitext.target_offsets, (std::vector<std::int64_t>{0, 2, 2, 3, 3, 3, 3}));
  EXPECT_EQ(line(bitext, true, 2), "c");
  EXPECT_EQ(line(bitext, false, 2), "C");
}

TEST(ReadBitext, RefusesWhatIsNotUtf8AndNamesTheLine) {
  const TempDir dir;
  put(dir / "t", "a\nb\n");
  const std::string message =
      message_of<FileError>([&] { read_bitext(put(dir / "s", "a\nun caf\xe9 noir\n"), dir / "t"); });
  EXPECT_EQ(message, dir / "s" + ": line 2 is not UTF-8: byte 4 of word 2 is 233");
  for (const std::string bad : {"\xff", "a\xc3", "\xc0\xaf", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xe2\x82", "\x80"}) {
    put(dir / "s", "a\n" + bad + " b\n");
    EXPECT_THROW(read_bitext(dir / "s", dir / "t"), FileError) << bad;
    EXPECT_THROW(read_bitext(dir / "t", dir / "s"), FileError) << bad;
  }
  put(dir / "s", "\xc3\xa9\n\xe2\x82\xac \xf0\x9f\x98\x80\n");
  EXPECT_EQ(read_bitext(dir / "s", dir / "t").source->size(), 3);
}

TEST(ReadBitext, RefusesFilesThatCannotBeRead) {
  const TempDir dir;
  put(dir / "t", "a\nb\n");
  put(dir / "empty", "");
  put(dir / "cut", zipped("a\nb\n").substr(0, 15));
  std::string damaged = zipped("a b c d e f g h i j k l m n o p q r s t u v w\nb\n");
  damaged[20] = static_cast<char>(damaged[20] ^ 0x55);
  put(dir / "damaged", damaged);
  for (const std::string name : {"absent", "empty", "cut", "damaged", "."}) {
    EXPECT_THROW(read_bitext(dir / name, dir / "t"), FileError) << name;
    EXPECT_THROW(read_bitext(dir / "t", dir / name), FileError) << name;
  }
  EXPECT_THROW(read_bitext(dir / "empty", dir / "empty"), FileError);
}

TEST(ReadBitext, NeverCrashesOnDamagedGzip) {
  const TempDir dir;
  put(dir / "t", "a b\nc\n");
  test::for_every_damage(zipped("a b\nc\n"), [&](const std::string& bytes) {
    put(dir / "s", bytes);
    try {
      read_bitext(dir / "s", dir / "t");
    } catch (const FileError&) {
    }
  });
}

TEST(ReadBitext, GivesWordsThatAFixedVocabularyDoesNotHoldNoNumber) {
  const TempDir dir;
  const Bitext trained = read_bitext(put(dir / "s", "a b\n"), put(dir / "t", "x y\n"));
  const Bitext fresh = read_bitext(put(dir / "s2", "b c a\n"), put(dir / "t2", "z y\n"),
                                   {.source = trained.source, .target = trained.target});
  EXPECT_EQ(fresh.source_words, (std::vector<std::int32_t>{1, Vocabulary::kUnknown, 0}));
  EXPECT_EQ(fresh.target_words, (std::vector<std::int32_t>{Vocabulary::kUnknown, 1}));
  EXPECT_EQ(fresh.source, trained.source);
}

TEST(ReadBitext, LowerCasesWhatTheHeaderSays) {
  const TempDir dir;
  const Bitext bitext = read_bitext(put(dir / "s", "ÉTÉ Été Straße ŁÓDŹ Ÿ ΆΑΩ Ёлка ҐАВА ỆƯ × 日本 İ\n"),
                                    put(dir / "t", "A\n"), {.lowercase = true});
  EXPECT_EQ(line(bitext, true, 0), "été été straße łódź ÿ άαω ёлка ґава ệư × 日本 İ");
  EXPECT_EQ(line(bitext, false, 0), "a");
}

TEST(LowercaseUtf8, KeepsEveryCharacterValidAndIsIdempotent) {
  for (std::uint32_t c = 1; c < 0x11000; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string bytes;
    if (c < 0x80) {
      bytes = {static_cast<char>(c)};
    } else if (c < 0x800) {
      bytes = {static_cast<char>(0xc0 | c >> 6), static_cast<char>(0x80 | (c & 63))};
    } else if (c < 0x10000) {
      bytes = {static_cast<char>(0xe0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 63)),
               static_cast<char>(0x80 | (c & 63))};
    } else {
      bytes = {static_cast<char>(0xf0), static_cast<char>(0x80 | (c >> 12 & 63)),
               static_cast<char>(0x80 | (c >> 6 & 63)), static_cast<char>(0x80 | (c & 63))};
    }
    ASSERT_EQ(valid_utf8_prefix(bytes), bytes.size()) << c;
    std::string once = bytes;
    lowercase_utf8(once);
    ASSERT_EQ(valid_utf8_prefix(once), bytes.size()) << c;
    std::string twice = once;
    lowercase_utf8(twice);
    ASSERT_EQ(once, twice) << c;
  }
}

TEST(ReadJoinedBitext, SplitsAtTheSeparator) {
  const TempDir dir;
  for (const int threads : {1, 2}) {
    const Threads use(threads);
    const Bitext bitext = read_joined_bitext({put(dir / "j", "a b ||| x\nc|||d \t|||\ty |z|\r\n|| || ||| ||||")});
    ASSERT_EQ(bitext.pairs(), 3);
    EXPECT_EQ(line(bitext, true, 1), "c|||d");
    EXPECT_EQ(line(bitext, false, 1), "y |z|");
    EXPECT_EQ(line(bitext, true, 2), "|| ||");
    EXPECT_EQ(line(bitext, false, 2), "||||");
  }
}

TEST(ReadJoinedBitext, RefusesLinesWithoutOrWithTwoSeparatorsAndEmptySides) {
  const TempDir dir;
  const auto message = [&](const std::string& bytes) {
    return message_of<FileError>([&] { read_joined_bitext({put(dir / "j", bytes)}); });
  };
  EXPECT_EQ(message("a ||| b\nc d\n"), dir / "j" + ": line 2 has no ||| between its sides");
  EXPECT_EQ(message("a ||| b ||| c\n"), dir / "j" + ": line 1 has more than one |||");
  EXPECT_EQ(message("a ||| b\nc ||| \n"), dir / "j" +
                                              ": the target side of line 2 is empty while the other side has 1 word; "
                                              "skip_bad_pairs keeps such pairs, without links");
  EXPECT_NE(message("||| b c\n").find("the source side of line 1 is empty while the other side has 2 words"),
            std::string::npos);
  EXPECT_NE(message("a ||| b\n\n").find("line 2 has no |||"), std::string::npos);
  EXPECT_NE(message("").find("has no lines"), std::string::npos);
  EXPECT_EQ(read_joined_bitext({put(dir / "j", "a ||| b\n||| c\n|||\n")}, {.skip_bad_pairs = true}).skipped, 2);
}

}  // namespace
}  // namespace dgm
