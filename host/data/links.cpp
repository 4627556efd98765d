// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/file.hpp>
#include <dgm/data/links.hpp>

#include <algorithm>
#include <charconv>
#include <string_view>

#include "host/core/check.hpp"

namespace dgm {
namespace {

// Sentences a gold file may number: a wrong column read as one must not become terabytes.
constexpr std::int64_t kMostSentences = 100'000'000;

void sort_and_unite(std::vector<Links>& sentences) {
  for (Links& links : sentences) {
    std::sort(links.begin(), links.end());
    links.erase(std::unique(links.begin(), links.end()), links.end());
  }
}

// Calls visit(line, number) for every line, without its end.
template <class Visit>
void for_each_line(std::string_view bytes, const Visit& visit) {
  if (bytes.starts_with("\xef\xbb\xbf")) bytes.remove_prefix(3);
  for (std::int64_t number = 1; !bytes.empty(); ++number) {
    const std::size_t end = bytes.find('\n');
    std::string_view line = bytes.substr(0, end);
    bytes.remove_prefix(end == std::string_view::npos ? bytes.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    visit(line, number);
  }
}

std::string_view next_word(std::string_view& line) {
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  const std::string_view word = line.substr(0, line.find_first_of(" \t"));
  line.remove_prefix(word.size());
  return word;
}

bool parse(std::string_view word, std::int64_t& value) {
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
  return error == std::errc() && end == word.data() + word.size() && value >= 0 && value <= 0x7fffffff;
}

void append_number(std::int32_t value, std::string& out) {
  char digits[16];
  const auto [end, error] = std::to_chars(digits, digits + sizeof digits, value);
  out.append(digits, end);
}

std::int64_t count_common(const Links& a, const Links& b) {
  std::int64_t count = 0;
  for (std::size_t i = 0, j = 0; i < a.size() && j < b.size();) {
    if (a[i] == b[j])
      ++count, ++i, ++j;
    else if (a[i] < b[j])
      ++i;
    else
      ++j;
  }
  return count;
}

}  // namespace

void append_pharaoh(std::span<const Link> links, std::string& out) {
  for (std::size_t i = 0; i < links.size(); ++i) {
    if (i > 0) out.push_back(' ');
    append_number(links[i].source, out);
    out.push_back('-');
    append_number(links[i].target, out);
  }
  out.push_back('\n');
}

std::vector<Links> read_pharaoh(const std::string& path) {
  const std::string bytes = read_file(path);
  std::vector<Links> sentences;
  for_each_line(bytes, [&](std::string_view line, std::int64_t number) {
    Links& links = sentences.emplace_back();
    for (std::string_view word = next_word(line); !word.empty(); word = next_word(line)) {
      const std::size_t dash = word.find('-');
      std::int64_t source = 0;
      std::int64_t target = 0;
      check<FileError>(
          dash != std::string_view::npos && parse(word.substr(0, dash), source) && parse(word.substr(dash + 1), target),
          path, ": line ", number, ": '", word, "' is not a link; source-target from 0 is needed, for instance 3-4");
      links.push_back({static_cast<std::int32_t>(source), static_cast<std::int32_t>(target)});
    }
  });
  sort_and_unite(sentences);
  return sentences;
}

GoldLinks read_gold_links(const std::string& path, bool swapped) {
  const std::string bytes = read_file(path);
  GoldLinks gold;
  for_each_line(bytes, [&](std::string_view line, std::int64_t number) {
    const std::string_view whole = line;
    std::int64_t values[3] = {};
    const std::string_view first = next_word(line);
    if (first.empty()) return;
    bool good = parse(first, values[0]);
    good = parse(next_word(line), values[1]) && good;
    good = parse(next_word(line), values[2]) && good;
    const std::string_view kind = next_word(line);
    check<FileError>(good && (kind.empty() || kind == "S" || kind == "P"), path, ": line ", number, ": '", whole,
                     "' is not a gold link; `sentence source target S|P`, all from 1, is needed");
    check<FileError>(values[0] >= 1 && values[0] <= kMostSentences, path, ": line ", number, ": sentence ", values[0],
                     "; 1 to ", kMostSentences, " is needed");
    const auto sentence = static_cast<std::size_t>(values[0]);
    if (gold.sure.size() < sentence) {
      gold.sure.resize(sentence);
      gold.possible.resize(sentence);
    }
    if (swapped) std::swap(values[1], values[2]);
    if (values[1] == 0 || values[2] == 0) return;
    const Link link = {static_cast<std::int32_t>(values[1] - 1), static_cast<std::int32_t>(values[2] - 1)};
    gold.possible[sentence - 1].push_back(link);
    if (kind != "P") gold.sure[sentence - 1].push_back(link);
  });
  check<FileError>(!gold.sure.empty(), path, ": holds no gold links");
  sort_and_unite(gold.sure);
  sort_and_unite(gold.possible);
  return gold;
}

AlignmentScore alignment_score(std::span<const Links> links, const GoldLinks& gold) {
  check<ShapeError>(links.size() >= gold.possible.size(), "alignment_score: gold has links in sentence ",
                    gold.possible.size(), " but there are links of ", links.size(), " sentences only");
  AlignmentScore score;
  std::int64_t common_sure = 0;
  std::int64_t common_possible = 0;
  for (std::size_t s = 0; s < gold.possible.size(); ++s) {
    if (gold.possible[s].empty()) continue;
    ++score.sentences;
    score.links += static_cast<std::int64_t>(links[s].size());
    score.sure += static_cast<std::int64_t>(gold.sure[s].size());
    score.possible += static_cast<std::int64_t>(gold.possible[s].size());
    common_sure += count_common(links[s], gold.sure[s]);
    common_possible += count_common(links[s], gold.possible[s]);
  }
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole == 0 ? 1.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  score.precision = share(common_possible, score.links);
  score.recall = share(common_sure, score.sure);
  score.aer = 1 - share(common_sure + common_possible, score.links + score.sure);
  return score;
}

}  // namespace dgm
