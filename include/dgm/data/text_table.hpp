// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

namespace dgm {

/// Rows of text in aligned columns, for reports on a terminal:
///
///   TextTable table({"model", "log-lik", "BIC"});
///   table.row({"K = 2", fixed(-1130.264, 3), fixed(2322.2, 1)});
///   std::cout << table.str();
///
/// Columns of numbers are aligned right, others left; a rule is drawn below the header. Widths count UTF-8 characters.
class TextTable {
 public:
  /// Throws ArgumentError for no columns.
  explicit TextTable(std::vector<std::string> header);
  /// Throws ArgumentError unless there is one cell a column.
  TextTable& row(std::vector<std::string> cells);
  /// All lines, each ending in a line feed and none in blanks.
  std::string str() const;

 private:
  std::vector<std::vector<std::string>> rows_;  // the first is the header
};

/// value with that many digits after the point; "nan", "inf", "-inf" for those; never "-0.0".
std::string fixed(double value, int digits);
/// value with that many significant digits, as printf's %g.
std::string general(double value, int digits = 6);
/// An integer with thousands separated: 1,234,567.
std::string grouped(long long value);

}  // namespace dgm
