// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/array.hpp>
#include <dgm/data/file.hpp>
#include <dgm/data/table.hpp>

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tests/support/files.hpp"

namespace dgm {
namespace {

using test::message_of;
using test::put;
using ::testing::ExitedWithCode;
using Doubles = std::vector<double>;
using Names = std::vector<std::string>;

class ReadTable : public ::testing::Test {
 protected:
  Table read(const std::string& bytes, const TableOptions& options = {}) {
    return read_table(put(dir_ / "points.csv", bytes), options);
  }
  std::string refusal(const std::string& bytes, const TableOptions& options = {}) {
    const std::string message = message_of<FileError>([&] { read(bytes, options); });
    const std::string folder = dir_.path() + "/";
    EXPECT_EQ(message.substr(0, folder.size()), folder) << message;
    return message.substr(std::min(folder.size(), message.size()));
  }
  test::TempDir dir_;
};

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, bytes.size()) + 32, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string raw_deflate(const std::string& bytes) {
  const std::string whole = gzip(bytes);
  return whole.substr(10, whole.size() - 18);  // without gzip's header and trailer
}

template <class T>
std::string bytes_of(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

std::string reversed(std::string bytes, std::size_t width) {
  for (std::size_t i = 0; i < bytes.size(); i += width) std::reverse(&bytes[i], &bytes[i] + width);
  return bytes;
}

std::string npy(const std::string& header, const std::string& data, int version = 1) {
  std::string out = "\x93NUMPY";
  out += static_cast<char>(version);
  out += '\0';
  for (int i = 0; i < (version == 1 ? 2 : 4); ++i) out += static_cast<char>(header.size() >> 8 * i & 255);
  return out + header + data;
}

std::string header(const std::string& descr, const std::string& shape, const char* fortran = "False") {
  return "{'descr': '" + descr + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }          \n";
}

std::string little(std::uint32_t value, int width) {
  std::string out;
  for (int i = 0; i < width; ++i) out += static_cast<char>(value >> 8 * i & 255);
  return out;
}

/// A zip archive with one member, as numpy.savez and numpy.savez_compressed lay it out.
std::string zip(const std::string& name, const std::string& content, bool deflated) {
  const std::string stored = deflated ? raw_deflate(content) : content;
  const auto crc = static_cast<std::uint32_t>(
      crc32(0, reinterpret_cast<const Bytef*>(content.data()), static_cast<uInt>(content.size())));
  const auto size32 = [](const std::string& s) { return little(static_cast<std::uint32_t>(s.size()), 4); };
  const std::string common = little(20, 2) + little(0, 2) + little(deflated ? 8 : 0, 2) + little(0, 4) +
                             little(crc, 4) + size32(stored) + size32(content) +
                             little(static_cast<std::uint32_t>(name.size()), 2);
  const std::string member = "PK\x03\x04" + common + little(4, 2) + name + "abcd" + stored;
  const std::string entry = "PK\x01\x02" + little(20, 2) + common + little(0, 2) + little(0, 2) + little(0, 4) +
                            little(0, 4) + little(0, 4) + name;
  return member + entry + "PK\x05\x06" + little(0, 4) + little(1, 2) + little(1, 2) + size32(entry) + size32(member) +
         little(0, 2);
}

TEST_F(ReadTable, ReadsCommasWithAHeader) {
  const Table table = read("x,y\n1,2\n-3.5,4e2\n");
  EXPECT_EQ(table.rows, 2u);
  EXPECT_EQ(table.cols, 2u);
  EXPECT_EQ(table.values, (Doubles{1, 2, -3.5, 400}));
  EXPECT_EQ(table.names, (Names{"x", "y"}));
  EXPECT_EQ(table.column(1), (Doubles{2, 400}));
  EXPECT_EQ(table.row(1)[0], -3.5f);
}

TEST_F(ReadTable, ReadsEveryDelimiterWithAndWithoutHeader) {
  for (const std::string d : {",", ";", "\t", " ", "   ", " \t ", ", ", "; "}) {
    for (const bool named : {false, true}) {
      for (const std::string end : {"\n", "\r\n"}) {
        for (const bool last : {false, true}) {
          const std::string text = (named ? "a" + d + "b" + d + "c" + end : "") + "1" + d + "2" + d + "3" + end + "4" +
                                   d + "5" + d + "6" + (last ? end : "");
          const Table table = read(text);
          EXPECT_EQ(table.rows, 2u) << text;
          EXPECT_EQ(table.values, (Doubles{1, 2, 3, 4, 5, 6})) << text;
          EXPECT_EQ(table.names, named ? (Names{"a", "b", "c"}) : Names{}) << text;
        }
      }
    }
  }
}

TEST_F(ReadTable, SkipsBlankLinesCommentsIndentationAndAByteOrderMark) {
  EXPECT_EQ(read("\xEF\xBB\xBF# made by hand\n\n  1 2\n   \n# more\n  3 4  \n\n\n").values, (Doubles{1, 2, 3, 4}));
}

TEST_F(ReadTable, ReadsQuotedFieldsWithDelimitersQuotesAndLineEndsInside) {
  const Table table = read("\"a, b\",\"say \"\"hi\"\"\",\"two\nlines\"\n\"1\", \"2\" ,3\n4,5,\"6\"\r\n");
  EXPECT_EQ(table.names, (Names{"a, b", "say \"hi\"", "two\nlines"}));
  EXPECT_EQ(table.values, (Doubles{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(read("\"a b\" \"c\"\n\"1\"   2\n").names, (Names{"a b", "c"}));
  EXPECT_EQ(read("a\tb c\n1\t2\n").names, (Names{"a", "b c"}));
}

TEST_F(ReadTable, ReadsOneNumber) {
  const Table table = read("42");
  EXPECT_EQ(table.rows, 1u);
  EXPECT_EQ(table.values, (Doubles{42}));
}

TEST_F(ReadTable, ReadsNumbersInEveryNotation) {
  EXPECT_EQ(read("+1,-2,.5,5.,1E3,1e-2,+.25,00012\n").values, (Doubles{1, -2, .5, 5, 1000, .01, .25, 12}));
  EXPECT_EQ(read("1e-400,-1e-5000,16777216,0.1\n").values, (Doubles{0, -0., 16777216, .1}));
}

TEST_F(ReadTable, NamesFileAndLineOfARaggedLine) {
  std::string text;
  for (int line = 1; line <= 16; ++line) text += "1,2\n";
  EXPECT_EQ(refusal(text + "1,2,3\n"), "points.csv: line 17 has 3 fields while line 1 has 2");
  EXPECT_EQ(refusal("# comment\nx y\n\n1 2\n\n3\n"), "points.csv: line 6 has 1 field while line 2 has 2");
  EXPECT_EQ(refusal("\"a\nb\",c\n1,2\n3\n"), "points.csv: line 4 has 1 field while line 1 has 2");
}

TEST_F(ReadTable, NamesLineAndColumnOfAFieldThatIsNoNumber) {
  EXPECT_EQ(refusal("x,y\n1,2\n3,4f\n"), "points.csv: line 3, column 2 (y): '4f' is not a number");
  EXPECT_EQ(refusal("1 2\n3 --4\n"), "points.csv: line 2, column 2: '--4' is not a number");
  EXPECT_EQ(refusal("1;2\n3;4,5\n"), "points.csv: line 2, column 2: '4,5' is not a number");
  EXPECT_EQ(refusal("1\n0x10\n"), "points.csv: line 2, column 1: '0x10' is not a number");
  EXPECT_EQ(refusal("1\n\x1b[2J" + std::string(60, 'x')),
            "points.csv: line 2, column 1: '?[2J" + std::string(36, 'x') + "...' is not a number");
}

TEST_F(ReadTable, RefusesAFirstLineOfWordsAndNumbers) {
  EXPECT_EQ(refusal("1,x\n2,3\n"),
            "points.csv: line 1 has words and numbers; is it a header, or data that are not numbers?");
  TableOptions options;
  options.header = TableOptions::Header::present;
  EXPECT_EQ(read("2019,x\n2,3\n", options).names, (Names{"2019", "x"}));
  options.header = TableOptions::Header::absent;
  EXPECT_EQ(refusal("x,y\n2,3\n", options), "points.csv: line 1, column 1: 'x' is not a number");
}

TEST_F(ReadTable, RefusesValuesThatAreNotFiniteUnlessAllowed) {
  EXPECT_EQ(refusal("1,2\n3,nan\n"), "points.csv: line 2, column 2: 'nan' is not finite");
  EXPECT_EQ(refusal("1,2\n-inf,4\n"), "points.csv: line 2, column 1: '-inf' is not finite");
  EXPECT_EQ(refusal("a\n1e309\n"), "points.csv: line 2, column 1 (a): '1e309' is not finite");
  EXPECT_EQ(refusal("a\n1e5000\n"), "points.csv: line 2, column 1 (a): '1e5000' is not finite");
  EXPECT_EQ(refusal("1,2\n3,\n"), "points.csv: line 2, column 2: the value is missing ('')");
  EXPECT_EQ(refusal("1,NA\n3,4\n"), "points.csv: line 1, column 2: the value is missing ('NA')");
  TableOptions options;
  options.allow_non_finite = true;
  const Table table = read("nan,Inf,-infinity\n,NA,-1e999\n", options);
  EXPECT_TRUE(std::isnan(table.at(0, 0)) && std::isnan(table.at(1, 0)) && std::isnan(table.at(1, 1)));
  EXPECT_EQ(table.at(0, 1), INFINITY);
  EXPECT_EQ(table.at(0, 2), -INFINITY);
  EXPECT_EQ(table.at(1, 2), -INFINITY);
}

TEST_F(ReadTable, RefusesFilesWithoutRows) {
  EXPECT_EQ(refusal(""), "points.csv: is empty; a table of numbers is needed");
  EXPECT_EQ(refusal("\n\n# nothing\n"), "points.csv: is empty; a table of numbers is needed");
  EXPECT_EQ(refusal("x,y\n"), "points.csv: has a header but no rows");
  EXPECT_EQ(refusal(npy(header("<f4", "(0, 3)"), "")), "points.csv: is empty: its shape is (0, 3)");
}

TEST_F(ReadTable, RefusesBinaryFilesOtherEncodingsAndOpenQuotes) {
  EXPECT_EQ(refusal(std::string("1,2\n\0,3\n", 8)),
            "points.csv: is neither text nor .npy nor idx, but some other binary file");
  EXPECT_EQ(refusal("\xFF\xFE\x31"), "points.csv: is UTF-16 text; UTF-8 is needed");
  EXPECT_EQ(refusal("1,2\n3,\"4\n5,6\n"), "points.csv: line 2 opens a quote that is never closed");
  EXPECT_EQ(refusal("1,2\n3,\"4\"5\n"), "points.csv: line 2 goes on after a closing quote; a delimiter is needed");
}

TEST_F(ReadTable, NamesAFileThatCannotBeOpened) {
  EXPECT_EQ(message_of<FileError>([] { read_table("/nonexistent/points.csv"); }),
            "/nonexistent/points.csv: cannot be opened: No such file or directory");
  EXPECT_EQ(message_of<FileError>([&] { read_table(dir_.path()); }),
            dir_.path() + ": is a directory; a file is needed");
}

TEST_F(ReadTable, NamesAFileThatMayNotBeRead) {
  const std::string path = put(dir_ / "secret.csv", "1,2\n");
  std::filesystem::permissions(path, std::filesystem::perms::none);
  const auto as_nobody = [&] {
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(1);  // root may read everything
    const std::string message = message_of<FileError>([&] { read_table(path); });
    ::_exit(message == path + ": cannot be opened: Permission denied" ? 7 : 1);
  };
  EXPECT_EXIT(as_nobody(), ExitedWithCode(7), "");
}

TEST_F(ReadTable, KeepsTheColumnsAskedFor) {
  TableOptions options;
  options.columns = {"y", "1"};
  const Table table = read("x,y,z\n1,2,red\n3,4,blue\n", options);
  EXPECT_EQ(table.values, (Doubles{2, 1, 4, 3}));
  EXPECT_EQ(table.names, (Names{"y", "x"}));
  options.columns = {"2", "1"};
  EXPECT_EQ(read("5.1,3.5,setosa\n4.9,3.0,setosa\n", options).values, (Doubles{3.5, 5.1, 3, 4.9}));
  EXPECT_EQ(read(npy(header("<f4", "(2, 3)"), bytes_of<float>({1, 2, 3, 4, 5, 6})), options).values,
            (Doubles{2, 1, 5, 4}));
  options.columns = {"2019"};
  EXPECT_EQ(read("place,2019\nx,7\n", options).values, (Doubles{7}));
  for (const std::string wrong : {"w", "0", "4", ""}) {
    options.columns = {wrong};
    const std::string path = put(dir_ / "p", "x,y,z\n1,2,3\n");
    EXPECT_EQ(message_of<ArgumentError>([&] { read_table(path, options); }),
              "read_table: there is no column '" + wrong + "' in " + path + ", which has 3 columns");
  }
}

TEST_F(ReadTable, ReadsGzipByItsBytes) {
  const std::string text = "x,y\n1,2\n3,4\n";
  EXPECT_EQ(read(gzip(text)).values, (Doubles{1, 2, 3, 4}));
  EXPECT_EQ(read(gzip("x,y\n1,2\n") + gzip("3,4\n")).values, (Doubles{1, 2, 3, 4})) << "two members";
  EXPECT_EQ(read(gzip(text) + std::string(100, '\0')).values, (Doubles{1, 2, 3, 4})) << "padded";
  EXPECT_EQ(read(gzip(npy(header("<f4", "(2,)"), bytes_of<float>({1, 2})))).values, (Doubles{1, 2}));
  std::string large;
  for (int i = 0; i < 100000; ++i) large += "0.000000,1.000000\n";  // far larger than its compressed size
  EXPECT_EQ(read(gzip(large)).rows, 100000u);
}

TEST_F(ReadTable, RefusesDamagedGzip) {
  const std::string whole = gzip("x,y\n1,2\n3,4\n");
  EXPECT_EQ(refusal(whole.substr(0, whole.size() - 5)),
            "points.csv: its gzip data end too early; the file is truncated");
  std::string damaged = whole;
  damaged[whole.size() - 6] ^= 1;  // in the checksum
  EXPECT_EQ(refusal(damaged), "points.csv: its gzip data are damaged: incorrect data check");
  EXPECT_EQ(refusal(whole + "more"), "points.csv: 4 bytes follow its gzip data");
}

template <class T>
void expect_npy(const std::string& path, const std::string& code, const std::vector<T>& values) {
  const Doubles want(values.begin(), values.end());
  const std::string data = bytes_of(values);
  for (const int version : {1, 2, 3}) {
    put(path, npy(header("<" + code, "(2, 2)"), data, version));
    EXPECT_EQ(read_table(path).values, want) << code << " little endian, version " << version;
    put(path, npy(header(">" + code, "(2, 2)"), reversed(data, sizeof(T)), version));
    EXPECT_EQ(read_table(path).values, want) << code << " big endian, version " << version;
  }
}

TEST_F(ReadTable, ReadsEveryNpyTypeInBothByteOrdersAndAllVersions) {
  const std::string path = dir_ / "a.npy";
  expect_npy<float>(path, "f4", {1, -2.5, 3e30, 0});
  expect_npy<double>(path, "f8", {1, -2.5, 0.1, 1e-300});
  expect_npy<std::int8_t>(path, "i1", {1, -128, 127, 0});
  expect_npy<std::int16_t>(path, "i2", {1, -32768, 32767, 0});
  expect_npy<std::int32_t>(path, "i4", {1, -16777216, 16777216, 0});
  expect_npy<std::int64_t>(path, "i8", {1, INT64_MIN, 1 << 20, 0});
  expect_npy<std::uint8_t>(path, "u1", {1, 255, 7, 0});
  expect_npy<std::uint16_t>(path, "u2", {1, 65535, 7, 0});
  expect_npy<std::uint32_t>(path, "u4", {1, 4294967295u, 7, 0});
  expect_npy<std::uint64_t>(path, "u8", {1, UINT64_MAX, 7, 0});
  put(path, npy(header("|b1", "(3,)"), std::string("\1\0\1", 3)));
  EXPECT_EQ(read_table(path).values, (Doubles{1, 0, 1}));
  // Half: 1, -2, largest, smallest subnormal, largest subnormal.
  put(path, npy(header("<f2", "(5,)"), bytes_of<std::uint16_t>({0x3C00, 0xC000, 0x7BFF, 0x0001, 0x03FF})));
  EXPECT_EQ(read_table(path).values, (Doubles{1, -2, 65504, 0x1p-24, 0x1.ff8p-15}));
}

TEST_F(ReadTable, ReadsNpyShapesInCAndFortranOrder) {
  const std::string data = bytes_of<float>({0, 1, 2, 3, 4, 5});
  const Table vector = read(npy(header("<f4", "(6,)"), data));
  EXPECT_EQ(vector.rows, 6u);
  EXPECT_EQ(vector.cols, 1u);
  EXPECT_EQ(read(npy(header("<f4", "(2, 3)"), data)).values, (Doubles{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(read(npy(header("<f4", "(2, 3)", "True"), data)).values, (Doubles{0, 2, 4, 1, 3, 5}));
  const Table cube = read(npy(header("<f4", "(1, 2, 3)", "True"), data));
  EXPECT_EQ(cube.rows, 1u);
  EXPECT_EQ(cube.values, (Doubles{0, 2, 4, 1, 3, 5}));
  EXPECT_EQ(read(npy(header("<f4", "(3, 1, 2)", "True"), data)).values, (Doubles{0, 3, 1, 4, 2, 5}));
  EXPECT_EQ(read(npy("{\"shape\": (2L, 3L), \"fortran_order\":False,\"descr\":\"<f4\"}", data)).rows, 2u);
}

TEST_F(ReadTable, SaysWhatIsWrongWithAnNpyFile) {
  const std::string data = bytes_of<float>({0, 1, 2, 3, 4, 5});
  EXPECT_EQ(refusal(npy(header("<f4", "(2, 3)"), data.substr(0, 23))),
            "points.csv: is truncated: shape (2, 3) needs 24 bytes of data but 23 are there");
  EXPECT_EQ(refusal(npy(header("<f4", "(5,)"), data)), "points.csv: has 4 bytes after its array of shape (5,)");
  EXPECT_EQ(refusal(npy(header("<c8", "(3,)"), data)),
            "points.csv: has elements of type '<c8'; floats of 16 to 64 bits, integers or bool are needed");
  EXPECT_EQ(refusal(npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (6,), }", data)),
            "points.csv: holds records; an array of plain numbers is needed");
  EXPECT_EQ(refusal(npy(header("<f4", "()"), "abcd")), "points.csv: holds one number without axes; a table is needed");
  EXPECT_EQ(refusal(npy(header("<f4", "(4611686018427387904, 4611686018427387904)"), data)),
            "points.csv: is truncated: shape (4611686018427387904, 4611686018427387904) needs too many bytes of data "
            "but 24 are there");
  EXPECT_EQ(refusal(npy(header("<f4", "(-1,)"), data)), "points.csv: its .npy header is damaged at byte 51");
  EXPECT_EQ(refusal(npy(header("<f4", "(6,)"), data, 4)), "points.csv: has .npy version 4; 1, 2 or 3 is needed");
  EXPECT_EQ(refusal("\x93NUMPY\x01"), "points.csv: is truncated in its .npy header");
  EXPECT_EQ(refusal(npy(header("<f4", "(2, 3)"), bytes_of<float>({0, 1, 2, 3, NAN, 5}))),
            "points.csv: row 2, column 2: nan is not finite");
}

TEST_F(ReadTable, ReadsIdxWithItsShape) {
  const std::string magic("\0\0\x08\x03\0\0\0\2\0\0\0\1\0\0\0\3", 16);
  put(dir_ / "images", gzip(magic + std::string("\1\2\3\xFF\5\6", 6)));
  const Array images = read_array(dir_ / "images");
  EXPECT_EQ(images.shape, (std::vector<std::int64_t>{2, 1, 3}));
  EXPECT_EQ(images.values, (Doubles{1, 2, 3, 255, 5, 6}));
  EXPECT_EQ(read_table(dir_ / "images").cols, 3u);
  const std::string floats("\0\0\x0D\1\0\0\0\2", 8);
  EXPECT_EQ(read(floats + reversed(bytes_of<float>({1.5, -2}), 4)).values, (Doubles{1.5, -2}));
  EXPECT_EQ(refusal(magic + "12345"),
            "points.csv: is truncated: shape (2, 1, 3) needs 6 bytes of data but 5 are there");
  EXPECT_EQ(refusal(std::string("\0\0\x0A\1\0\0\0\2", 8)), "points.csv: has unknown idx element type 10");
}

TEST_F(ReadTable, ReadsNpzStoredAndDeflated) {
  const std::string content = npy(header("<f4", "(2, 2)"), bytes_of<float>({1, 2, 3, 4}));
  for (const bool deflated : {false, true}) {
    const auto arrays = read_npz(put(dir_ / "a.npz", zip("x.npy", content, deflated)));
    ASSERT_EQ(arrays.count("x"), 1u);
    EXPECT_EQ(arrays.at("x").shape, (std::vector<std::int64_t>{2, 2}));
    EXPECT_EQ(read_table(dir_ / "a.npz").values, (Doubles{1, 2, 3, 4}));
  }
  std::string wrong = zip("x.npy", content, false);
  wrong[30 + 5 + 4 + content.size() - 1] ^= 1;
  EXPECT_EQ(refusal(wrong), "points.csv(x.npy): its checksum is wrong");
  EXPECT_EQ(refusal(wrong.substr(0, 80)), "points.csv: is truncated: a zip archive ends with its directory");
}

TEST_F(ReadTable, SurvivesEveryTruncationAndFlippedByte) {
  const std::string array = npy(header("<f4", "(2, 2)", "True"), bytes_of<float>({1, 2, 3, 4}));
  const std::string idx = std::string("\0\0\x0B\2\0\0\0\2\0\0\0\2", 12) + "12345678";
  const std::string table = "\"x\",y\n1,\"2\"\n-3e1,nan\n";
  const std::string path = dir_ / "damaged";
  TableOptions options;
  options.allow_non_finite = true;
  for (const std::string& whole :
       {array, idx, table, gzip(table), zip("x.npy", array, true), zip("x.npy", array, false)}) {
    EXPECT_NO_THROW(read_table(put(path, whole), options));
    int refused = 0;
    test::for_every_damage(whole, [&](const std::string& bytes) {
      try {
        const Table read = read_table(put(path, bytes), options);
        EXPECT_EQ(read.values.size(), read.rows * read.cols);
      } catch (const FileError&) {
        ++refused;
      }
    });
    EXPECT_GT(refused, 10);
  }
}

TEST(WriteCsv, ReadsBackEveryBit) {
  const test::TempDir dir;
  Table table{3, 2, {0.1, -0.0, 1.7976931348623157e308, 5e-324, 9007199254740991.0, 1.0 / 3}, {"a, \"b\"", "c"}};
  write_csv(dir / "t.csv", table);
  const Table back = read_table(dir / "t.csv");
  EXPECT_EQ(back.names, table.names);
  ASSERT_EQ(back.values.size(), table.values.size());
  EXPECT_EQ(std::memcmp(back.values.data(), table.values.data(), 6 * sizeof(double)), 0);
  write_csv(dir / "none.csv", Table{0, 2, {}, {"a", "b"}});
  EXPECT_EQ(test::get(dir / "none.csv"), "a,b\n");
  EXPECT_THROW(write_csv(dir / "t.csv", Table{2, 2, {1, 2, 3}, {}}), ShapeError);
  EXPECT_THROW(write_csv(dir / "t.csv", Table{1, 2, {1, 2}, {"a"}}), ShapeError);
}

TEST(WriteNpy, ReadsBackWithItsShape) {
  const test::TempDir dir;
  for (const std::vector<std::int64_t>& shape : std::vector<std::vector<std::int64_t>>{{6}, {2, 3}, {1, 6, 1}}) {
    write_npy(dir / "a.npy", std::vector<float>{1, 2, 3, 4, 5, -6}, shape);
    EXPECT_EQ(read_array(dir / "a.npy").shape, shape);
    EXPECT_EQ(read_array(dir / "a.npy").values, (Doubles{1, 2, 3, 4, 5, -6}));
    EXPECT_EQ(test::get(dir / "a.npy").size(), 128u + 24u) << "numpy keeps data at a multiple of 64";
  }
  write_npy(dir / "d.npy", std::vector<double>{0.1, -1e300}, {2});
  EXPECT_EQ(read_array(dir / "d.npy").values, (std::vector<double>{0.1, -1e300}));
  write_npy(dir / "i.npy", std::vector<std::int32_t>{7, -8}, {2});
  EXPECT_EQ(read_array(dir / "i.npy").values, (Doubles{7, -8}));
  write_npy(dir / "n.npy", std::vector<float>{}, {0, 3});
  EXPECT_EQ(read_array(dir / "n.npy").shape, (std::vector<std::int64_t>{0, 3}));
  EXPECT_THROW(write_npy(dir / "a.npy", std::vector<float>{1, 2}, {3}), ShapeError);
}

}  // namespace
}  // namespace dgm
