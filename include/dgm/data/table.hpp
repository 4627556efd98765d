// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// Numbers in rows and columns, as read from a file.
struct Table {
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::vector<double> values;      // row-major, rows * cols
  std::vector<std::string> names;  // of the columns; empty if the file names none

  double at(std::size_t row, std::size_t col) const { return values[row * cols + col]; }
  std::span<const double> row(std::size_t index) const { return {values.data() + index * cols, cols}; }
  /// A copy of one column.
  std::vector<double> column(std::size_t col) const;
};

struct TableOptions {
  enum class Header { detect, present, absent };

  /// NaN, infinities, numbers too large for a double, and missing values (an empty field, NA), which become NaN.
  /// Otherwise they are refused, with line and column.
  bool allow_non_finite = false;
  /// detect: the first line is a header if it holds words only; numbers among words are refused as ambiguous.
  Header header = Header::detect;
  /// The columns to keep, in this order: names, or numbers from 1. All if empty. In a text file the columns left out
  /// may hold anything.
  std::vector<std::string> columns;
};

/// Reads a table of numbers. What the file is follows from its bytes, never from its name:
///
///   .npy   versions 1 to 3; float16/32/64, integers of 8 to 64 bits, bool; either byte order; C or Fortran order.
///          Rows are the first axis, the others are laid side by side; one axis gives one column.
///   .npz   if it holds one array.
///   idx    the format of MNIST, all six types; axes as for .npy.
///   text   fields separated by semicolons, commas, tabs or blanks: whichever the first line shows, in that order.
///          Quoted fields, as in RFC 4180. Blank lines and lines that begin with # are skipped; UTF-8 with or without
///          a byte order mark; lines end in LF or CRLF.
///
/// Each also compressed with gzip.
///
/// Accuracy  correctly rounded to double: integers are exact up to 2^53.
/// Throws    FileError naming file and line (or what is wrong with a header): a missing or unreadable file, a ragged
///           line, a field that is not a number, no rows, a truncated .npy, a value that is not finite.
///           ArgumentError if options.columns names a column that is not there.
Table read_table(const std::string& path, const TableOptions& options = {});

/// Writes comma-separated values with a header line if table.names is not empty. Numbers have as few digits as
/// read back to the same double. All or nothing, as write_file().
/// Throws    FileError; ShapeError if values or names do not fit rows and cols.
void write_csv(const std::string& path, const Table& table);

}  // namespace dgm
