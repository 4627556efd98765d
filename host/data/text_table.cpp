// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/text_table.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <string_view>

#include "host/core/check.hpp"

namespace dgm {
namespace {

std::size_t width(std::string_view s) {
  return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

/// Cells of a column of numbers: 12, -1.5, 1e-3, nan, 95 %, 1,234, 12.3x, or nothing.
bool is_numeric(std::string_view s) {
  if (s.empty() || s == "-") return true;
  std::string digits;
  std::copy_if(s.begin(), s.end(), std::back_inserter(digits), [](char c) { return c != ','; });
  if (digits.empty()) return false;
  if (digits.front() == '+') digits.erase(0, 1);
  double value;
  const char* const end = digits.data() + digits.size();
  const auto result = std::from_chars(digits.data(), end, value);
  const std::string_view unit(result.ptr, static_cast<std::size_t>(end - result.ptr));
  return result.ec == std::errc() && (unit.empty() || unit == "%" || unit == " %" || unit == "x");
}

}  // namespace

TextTable::TextTable(std::vector<std::string> header) {
  check<ArgumentError>(!header.empty(), "TextTable: the header is empty; at least one column is needed");
  rows_.push_back(std::move(header));
}

TextTable& TextTable::row(std::vector<std::string> cells) {
  check<ArgumentError>(cells.size() == rows_[0].size(), "TextTable::row: ", cells.size(), " cells for ",
                       rows_[0].size(), " columns");
  rows_.push_back(std::move(cells));
  return *this;
}

std::string TextTable::str() const {
  const std::size_t cols = rows_[0].size();
  std::vector<std::size_t> widths(cols, 0);
  std::vector<bool> right(cols, rows_.size() > 1);
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      widths[c] = std::max(widths[c], width(rows_[r][c]));
      if (r > 0 && !is_numeric(rows_[r][c])) right[c] = false;
    }
  }
  std::string out;
  const auto line = [&](const auto& cell) {
    std::string text;
    for (std::size_t c = 0; c < cols; ++c) {
      const std::string content = cell(c);
      const std::string blanks(widths[c] - std::min(widths[c], width(content)), ' ');
      if (c > 0) text += "  ";
      text += right[c] ? blanks : content;
      text += right[c] ? content : blanks;
    }
    text.erase(text.find_last_not_of(' ') + 1);
    out += text + '\n';
  };
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    line([&](std::size_t c) { return rows_[r][c]; });
    if (r == 0) line([&](std::size_t c) { return std::string(widths[c], '-'); });
  }
  return out;
}

std::string fixed(double value, int digits) {
  if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
  std::string buffer(400 + static_cast<std::size_t>(std::max(0, digits)), '\0');
  const auto result =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), value, std::chars_format::fixed, std::max(0, digits));
  buffer.resize(static_cast<std::size_t>(result.ptr - buffer.data()));
  if (buffer[0] == '-' && buffer.find_first_not_of("-0.") == std::string::npos) buffer.erase(0, 1);
  return buffer;
}

std::string general(double value, int digits) {
  if (!std::isfinite(value)) return fixed(value, 0);
  char buffer[128];
  const auto result =
      std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::general, std::clamp(digits, 1, 60));
  return std::string(buffer, result.ptr);
}

std::string grouped(long long value) {
  std::string out = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t at = out.size(); at > first + 3;) out.insert(at -= 3, 1, ',');
  return out;
}

}  // namespace dgm
