// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/table.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <limits>
#include <string_view>

#include "host/core/check.hpp"
#include "host/data/array.hpp"
#include "host/data/file.hpp"

namespace dgm {
namespace {

std::string_view trim(std::string_view s) {
  const auto blank = [](char c) { return c == ' ' || c == '\t' || c == '\r'; };
  while (!s.empty() && blank(s.front())) s.remove_prefix(1);
  while (!s.empty() && blank(s.back())) s.remove_suffix(1);
  return s;
}

struct Field {
  enum Kind { finite, not_finite, missing, word } kind;
  double value;
};

Field parse_field(std::string_view s) {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  s = trim(s);
  for (const std::string_view none : {"", "NA", "N/A", "null", "?"}) {
    if (s == none) return {Field::missing, kNaN};
  }
  const char* begin = s.data();
  const char* const end = begin + s.size();
  if (*begin == '+' && s.size() > 1 && s[1] != '-' && s[1] != '+') ++begin;  // which from_chars does not take
  double value = 0;
  auto result = std::from_chars(begin, end, value);
  if (result.ec == std::errc::result_out_of_range) {
    // Too large or too small for a double: a long double tells which.
    long double wide = 0;
    result = std::from_chars(begin, end, wide);
    if (result.ec == std::errc::result_out_of_range) {
      const std::size_t e = s.find_first_of("eE");
      wide = e != std::string_view::npos && s.substr(e + 1, 1) == "-" ? 0.l : std::numeric_limits<double>::infinity();
      if (*begin == '-') wide = -wide;
      result.ec = std::errc();
    }
    value = static_cast<double>(wide);
  }
  if (result.ec != std::errc() || result.ptr != end) return {Field::word, kNaN};
  return {std::isfinite(value) ? Field::finite : Field::not_finite, value};
}

/// Part of a file for a message: short, and nothing that would upset a terminal.
std::string excerpt(std::string_view s) {
  constexpr std::size_t kLongest = 40;
  std::string out = "'";
  for (const char c : s.substr(0, kLongest)) {
    const auto byte = static_cast<unsigned char>(c);
    out += byte < 32 || byte == 127 ? '?' : c;
  }
  return out + (s.size() > kLongest ? "...'" : "'");
}

/// Lines of fields. Quoted fields may hold delimiters, doubled quotes and line ends.
class Records {
 public:
  Records(std::string_view bytes, const std::string& name) : rest_(bytes), name_(name) {
    if (rest_.substr(0, 3) == "\xEF\xBB\xBF") rest_.remove_prefix(3);  // byte order mark
    has_quotes_ = rest_.find('"') != std::string_view::npos;
  }

  /// Number of the line where the current record begins.
  std::size_t line() const { return line_; }
  const std::vector<std::string_view>& fields() const { return fields_; }

  /// Steps to the next record; false at the end.
  bool next() {
    while (!rest_.empty()) {
      line_ = next_line_;
      const std::size_t end = std::min(rest_.find('\n'), rest_.size());
      const std::string_view raw = rest_.substr(0, end);
      const std::string_view shown = trim(raw);
      if (shown.empty() || shown.front() == '#') {
        take_line(end);
        continue;
      }
      if (!known_) {
        delimiter_ = find_delimiter(rest_);
        known_ = true;
      }
      fields_.clear();
      if (has_quotes_ && raw.find('"') != std::string_view::npos) {
        split_quoted();
      } else {
        take_line(end);
        split(raw);
      }
      return true;
    }
    return false;
  }

 private:
  void take_line(std::size_t end) {
    rest_.remove_prefix(std::min(end + 1, rest_.size()));
    ++next_line_;
  }

  void split(std::string_view s) {
    if (!s.empty() && s.back() == '\r') s.remove_suffix(1);
    if (delimiter_ == ' ') {
      while (!(s = trim(s)).empty()) {
        const std::size_t end = std::min(s.find_first_of(" \t"), s.size());
        fields_.push_back(s.substr(0, end));
        s.remove_prefix(end);
      }
      return;
    }
    while (true) {
      const std::size_t end = s.find(delimiter_);
      fields_.push_back(s.substr(0, end));
      if (end == std::string_view::npos) return;
      s.remove_prefix(end + 1);
    }
  }

  void split_quoted() {
    store_.clear();
    const auto ends_field = [&](char c) { return delimiter_ == ' ' ? c == ' ' || c == '\t' : c == delimiter_; };
    const auto blank = [&](char c) { return c == ' ' || c == '\r' || (c == '\t' && delimiter_ != '\t'); };
    std::size_t at = 0;
    const auto skip_blanks = [&] {
      while (at < rest_.size() && blank(rest_[at])) ++at;
    };
    const auto line_ends = [&] { return at == rest_.size() || rest_[at] == '\n'; };
    while (true) {
      skip_blanks();
      if (line_ends() && delimiter_ == ' ') break;
      if (!line_ends() && rest_[at] == '"') {
        std::string& value = store_.emplace_back();
        for (++at;; ++at) {
          check<FileError>(at < rest_.size(), name_, ": line ", line_, " opens a quote that is never closed");
          if (rest_[at] == '"') {
            if (at + 1 == rest_.size() || rest_[at + 1] != '"') break;
            ++at;
          }
          if (rest_[at] == '\n') ++next_line_;
          value += rest_[at];
        }
        ++at;
        fields_.push_back(value);
        if (delimiter_ != ' ') skip_blanks();
        const bool carriage = at < rest_.size() && rest_[at] == '\r';
        check<FileError>(line_ends() || ends_field(rest_[at]) || carriage, name_, ": line ", line_,
                         " goes on after a closing quote; a delimiter is needed");
      } else {
        const std::size_t start = at;
        while (!line_ends() && !ends_field(rest_[at])) ++at;
        fields_.push_back(rest_.substr(start, at - start));
      }
      skip_blanks();
      if (line_ends()) break;
      if (delimiter_ != ' ') ++at;  // blanks are skipped already
    }
    take_line(at);
  }

  /// bytes begins with the first record.
  static char find_delimiter(std::string_view bytes) {
    bool quoted = false;
    bool semicolon = false, comma = false, tab = false;
    std::size_t end = 0;
    for (; end < bytes.size() && (quoted || bytes[end] != '\n'); ++end) {
      const char c = bytes[end];
      if (c == '"') quoted = !quoted;
      if (quoted) continue;
      semicolon |= c == ';';
      comma |= c == ',';
      tab |= c == '\t';
    }
    const std::string_view first = trim(bytes.substr(0, end));
    if (semicolon) return ';';
    if (comma) return ',';
    if (!tab) return ' ';
    // Tabs delimit fields, or they only align columns: then a line of numbers makes sense without them, or two
    // tabs meet.
    if (first.find("\t\t") != std::string_view::npos) return ' ';
    bool numbers = true;
    for (std::string_view s = first; numbers && !(s = trim(s)).empty();) {
      const std::size_t length = std::min(s.find_first_of(" \t"), s.size());
      numbers = parse_field(s.substr(0, length)).kind != Field::word;
      s.remove_prefix(length);
    }
    return numbers ? ' ' : '\t';
  }

  std::string_view rest_;
  const std::string& name_;
  std::vector<std::string_view> fields_;
  std::deque<std::string> store_;  // of quoted fields: their addresses must last
  std::size_t line_ = 0;
  std::size_t next_line_ = 1;
  char delimiter_ = ' ';
  bool known_ = false;
  bool has_quotes_ = false;
};

/// The number that text is, if it is one of 1 to cols; else 0.
std::size_t column_number(const std::string& text, std::size_t cols) {
  std::size_t number = 0;
  const char* const end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, number);
  return result.ec == std::errc() && result.ptr == end && number <= cols ? number : 0;
}

/// Indices of the columns that the caller wants.
std::vector<std::size_t> choose_columns(const TableOptions& options, const std::vector<std::string>& names,
                                        std::size_t cols, const std::string& path) {
  std::vector<std::size_t> chosen;
  for (const std::string& wanted : options.columns) {
    const auto named = std::find(names.begin(), names.end(), wanted);
    if (named != names.end()) {
      chosen.push_back(static_cast<std::size_t>(named - names.begin()));
      continue;
    }
    const std::size_t number = column_number(wanted, cols);
    check<ArgumentError>(number > 0, "read_table: there is no column ", excerpt(wanted), " in ", path, ", which has ",
                         cols, names.empty() ? " unnamed" : "", cols == 1 ? " column" : " columns");
    chosen.push_back(number - 1);
  }
  if (options.columns.empty()) {
    for (std::size_t c = 0; c < cols; ++c) chosen.push_back(c);
  }
  return chosen;
}

std::string column_text(std::size_t col, const std::vector<std::string>& names) {
  return names.empty() ? text("column ", col + 1) : text("column ", col + 1, " (", names[col], ")");
}

Table parse_text(std::string_view bytes, const std::string& path, const TableOptions& options) {
  check<FileError>(bytes.substr(0, 2) != "\xFF\xFE" && bytes.substr(0, 2) != "\xFE\xFF", path,
                   ": is UTF-16 text; UTF-8 is needed");
  check<FileError>(bytes.find('\0') == std::string_view::npos, path,
                   ": is neither text nor .npy nor idx, but some other binary file");
  Records records(bytes, path);
  check<FileError>(records.next(), path, ": is empty; a table of numbers is needed");
  const std::size_t cols = records.fields().size();
  const std::size_t first_line = records.line();
  const auto some = [&](Field::Kind a, Field::Kind b) {
    return std::any_of(records.fields().begin(), records.fields().end(), [&](std::string_view f) {
      const Field::Kind kind = parse_field(f).kind;
      return kind == a || kind == b;
    });
  };
  bool header = options.header == TableOptions::Header::present;
  if (options.header == TableOptions::Header::detect && some(Field::word, Field::word)) {
    header = !some(Field::finite, Field::not_finite);
    if (!header && !options.columns.empty()) {
      // Columns may have been left out because of their words: what counts is whether one is asked for by its name.
      header = std::any_of(options.columns.begin(), options.columns.end(), [&](const std::string& wanted) {
        return column_number(wanted, cols) == 0 &&
               std::any_of(records.fields().begin(), records.fields().end(),
                           [&](std::string_view field) { return trim(field) == wanted; });
      });
    } else {
      // A header with years in it, or data with a slip? A wrong guess would lose a row silently.
      check<FileError>(header, path, ": line ", first_line,
                       " has words and numbers; is it a header, or data that are not numbers?");
    }
  }
  Table table;
  if (header) {
    for (const std::string_view field : records.fields()) table.names.emplace_back(trim(field));
    check<FileError>(records.next(), path, ": has a header but no rows");
  }
  const std::vector<std::size_t> chosen = choose_columns(options, table.names, cols, path);
  do {
    const std::vector<std::string_view>& fields = records.fields();
    check<FileError>(fields.size() == cols, path, ": line ", records.line(), " has ", fields.size(),
                     fields.size() == 1 ? " field" : " fields", " while line ", first_line, " has ", cols);
    for (const std::size_t c : chosen) {
      const Field field = parse_field(fields[c]);
      if (field.kind != Field::finite && (field.kind == Field::word || !options.allow_non_finite)) [[unlikely]] {
        const std::string where = text(path, ": line ", records.line(), ", ", column_text(c, table.names));
        const std::string shown = excerpt(trim(fields[c]));
        switch (field.kind) {
          case Field::word:
            throw FileError(text(where, ": ", shown, " is not a number"));
          case Field::missing:
            throw FileError(text(where, ": the value is missing (", shown, ")"));
          default:
            throw FileError(text(where, ": ", shown, " is not finite"));
        }
      }
      table.values.push_back(field.value);
    }
    ++table.rows;
  } while (records.next());
  table.cols = chosen.size();
  if (!table.names.empty()) {
    std::vector<std::string> names;
    for (const std::size_t c : chosen) names.push_back(table.names[c]);
    table.names = std::move(names);
  }
  return table;
}

Table from_array(Array array, const std::string& path, const TableOptions& options) {
  check<FileError>(!array.shape.empty(), path, ": holds one number without axes; a table is needed");
  Table table;
  table.rows = static_cast<std::size_t>(array.shape[0]);
  check<FileError>(!array.values.empty(), path, ": is empty: its shape is ", shape_text(array.shape));
  table.cols = array.values.size() / table.rows;
  table.values = std::move(array.values);
  const std::vector<std::size_t> chosen = choose_columns(options, {}, table.cols, path);
  if (!options.columns.empty()) {
    std::vector<double> kept;
    for (std::size_t r = 0; r < table.rows; ++r) {
      for (const std::size_t c : chosen) kept.push_back(table.at(r, c));
    }
    table.values = std::move(kept);
    table.cols = chosen.size();
  }
  for (std::size_t i = 0; !options.allow_non_finite && i < table.values.size(); ++i) {
    check<FileError>(std::isfinite(table.values[i]), path, ": row ", i / table.cols + 1, ", column ",
                     chosen[i % table.cols] + 1, ": ", table.values[i], " is not finite");
  }
  return table;
}

}  // namespace

std::vector<double> Table::column(std::size_t col) const {
  check<ArgumentError>(col < cols, "Table::column: column ", col, " of a table with ", cols, " columns");
  std::vector<double> out(rows);
  for (std::size_t r = 0; r < rows; ++r) out[r] = at(r, col);
  return out;
}

Table read_table(const std::string& path, const TableOptions& options) {
  const std::string bytes = read_file(path);
  check<FileError>(!bytes.empty(), path, ": is empty; a table of numbers is needed");
  if (is_npy(bytes)) return from_array(parse_npy(bytes, path), path, options);
  if (is_idx(bytes)) return from_array(parse_idx(bytes, path), path, options);
  if (is_zip(bytes)) {
    std::map<std::string, Array> arrays = parse_npz(bytes, path);
    check<FileError>(arrays.size() == 1, path, ": holds ", arrays.size(), " arrays; one is needed");
    return from_array(std::move(arrays.begin()->second), path, options);
  }
  return parse_text(bytes, path, options);
}

void write_csv(const std::string& path, const Table& table) {
  check<ShapeError>(table.values.size() == table.rows * table.cols, "write_csv: ", table.values.size(),
                    " values do not make ", table.rows, " rows of ", table.cols, " columns");
  check<ShapeError>(table.names.empty() || table.names.size() == table.cols, "write_csv: ", table.names.size(),
                    " names for ", table.cols, " columns");
  std::string out;
  for (std::size_t c = 0; c < table.names.size(); ++c) {
    const std::string& name = table.names[c];
    if (c > 0) out += ',';
    if (!name.empty() && name.find_first_of("\",;\t\r\n #") == std::string::npos) {
      out += name;
      continue;
    }
    out += '"';
    for (const char letter : name) out += letter == '"' ? std::string("\"\"") : std::string(1, letter);
    out += '"';
  }
  if (!table.names.empty()) out += '\n';
  AtomicFile file(path);
  char digits[32];
  for (std::size_t r = 0; r < table.rows; ++r) {
    for (std::size_t c = 0; c < table.cols; ++c) {
      if (c > 0) out += ',';
      const auto result = std::to_chars(digits, digits + sizeof digits, table.at(r, c));
      out.append(digits, result.ptr);
    }
    out += '\n';
    if (out.size() > (std::size_t{1} << 20)) {
      file.write(out);
      out.clear();
    }
  }
  file.write(out);
  file.commit();
}

}  // namespace dgm
