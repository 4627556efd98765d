// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/device.hpp>
#include <dgm/data/bitext.hpp>

#include <algorithm>
#include <cstring>
#include <future>

#include "host/core/check.hpp"
#include "host/data/file.hpp"
#include "host/data/utf8.hpp"

namespace dgm {
namespace {

using Offsets = std::vector<std::int64_t>;

bool is_blank(char c) { return c == ' ' || c == '\t'; }

// One side of a bitext as it is read.
class Side {
 public:
  Side(std::shared_ptr<const Vocabulary> fixed, bool lowercase) : fixed_(std::move(fixed)), lowercase_(lowercase) {
    if (!fixed_) own_ = std::make_shared<Vocabulary>();
  }

  void begin_file(const std::string& path) {
    path_ = &path;
    line_ = 0;
  }

  /// One line, without its end.
  void line(const char* at, const char* end) {
    ++line_;
    while (true) {
      while (at != end && is_blank(*at)) ++at;
      if (at == end) break;
      const char* const begin = at;
      unsigned char bits = 0;
      for (; at != end && !is_blank(*at); ++at) bits |= static_cast<unsigned char>(*at);
      const std::string_view word(begin, static_cast<std::size_t>(at - begin));
      if (bits >= 0x80) {
        const std::size_t valid = valid_utf8_prefix(word);
        check<FileError>(valid == word.size(), *path_, ": line ", line_, " is not UTF-8: byte ", valid + 1, " of word ",
                         static_cast<std::int64_t>(words.size()) - offsets.back() + 1, " is ",
                         static_cast<int>(static_cast<unsigned char>(word[std::min(valid, word.size() - 1)])));
      }
      words.push_back(id_of(word));
    }
    offsets.push_back(static_cast<std::int64_t>(words.size()));
  }

  std::shared_ptr<const Vocabulary> vocabulary() const { return fixed_ ? fixed_ : own_; }

  Offsets offsets = {0};
  std::vector<std::int32_t> words;

 private:
  std::int32_t id_of(std::string_view word) {
    if (lowercase_) {
      lowered_.assign(word);
      lowercase_utf8(lowered_);
      word = lowered_;
    }
    return fixed_ ? fixed_->find(word) : own_->add(word);
  }

  std::shared_ptr<const Vocabulary> fixed_;
  std::shared_ptr<Vocabulary> own_;
  bool lowercase_;
  std::string lowered_;
  const std::string* path_ = nullptr;
  std::int64_t line_ = 0;
};

// The word ||| in a line, or its end.
const char* separator(const char* at, const char* end) {
  for (const char* const begin = at; end - at >= 3; ++at) {
    at = static_cast<const char*>(std::memchr(at, '|', static_cast<std::size_t>(end - at)));
    if (at == nullptr || end - at < 3) return end;
    const bool word = (at == begin || is_blank(at[-1])) && (end - at == 3 || is_blank(at[3]));
    if (word && at[1] == '|' && at[2] == '|') return at;
  }
  return end;
}

// Calls visit(begin, end) for every line of a file, and after_block() while the lines so far still lie in memory.
template <class Visit, class AfterBlock>
void for_each_line(const std::string& path, const Visit& visit, const AfterBlock& after_block) {
  LineBlocks blocks(path);
  bool first = true;
  for (std::string_view block = blocks.next(); !block.empty(); block = blocks.next()) {
    if (first && block.starts_with("\xef\xbb\xbf")) block.remove_prefix(3);
    first = false;
    const char* at = block.data();
    const char* const end = at + block.size();
    while (at != end) {
      const auto* const feed = static_cast<const char*>(std::memchr(at, '\n', static_cast<std::size_t>(end - at)));
      const char* const stop = feed == nullptr ? end : feed;
      visit(at, stop != at && stop[-1] == '\r' ? stop - 1 : stop);
      at = feed == nullptr ? end : feed + 1;
    }
    after_block();
  }
}

void read_side(Side& side, const std::vector<std::string>& paths, std::vector<std::int64_t>& files) {
  for (const std::string& path : paths) {
    files.push_back(static_cast<std::int64_t>(side.offsets.size()) - 1);
    side.begin_file(path);
    for_each_line(
        path, [&](const char* begin, const char* end) { side.line(begin, end); }, [] {});
  }
}

// Runs both, on two threads if that many may be used. An error of the first goes before one of the second.
template <class First, class Second>
void both(const First& first, const Second& second) {
  if (cpu_threads() < 2) {
    first();
    second();
    return;
  }
  std::future<void> other = std::async(std::launch::async, second);
  first();  // if it throws, the future waits for the other in its destructor
  other.get();
}

// The words of chosen sentences are taken out.
void empty_sentences(const std::vector<std::int64_t>& chosen, Offsets& offsets, std::vector<std::int32_t>& words) {
  std::size_t next = 0;
  std::int64_t kept = 0;
  std::int64_t begin = 0;
  for (std::size_t p = 0; p + 1 < offsets.size(); ++p) {
    const std::int64_t end = offsets[p + 1];
    if (next < chosen.size() && chosen[next] == static_cast<std::int64_t>(p)) {
      ++next;
    } else {
      std::copy(words.begin() + begin, words.begin() + end, words.begin() + kept);
      kept += end - begin;
    }
    begin = end;
    offsets[p + 1] = kept;
  }
  words.resize(static_cast<std::size_t>(kept));
}

std::string with_thousands(std::int64_t value) {
  std::string digits = std::to_string(value);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3) digits.insert(static_cast<std::size_t>(at), ",");
  return digits;
}

std::string words_text(std::int64_t count) { return with_thousands(count) + (count == 1 ? " word" : " words"); }

// Where a pair came from.
struct Place {
  const std::string* source;
  const std::string* target;
  std::int64_t line;
};

// Takes what was read, and refuses or empties the pairs that cannot be aligned.
Bitext join(Side&& source, Side&& target, std::vector<std::int64_t>&& files,
            const std::vector<std::string>& source_paths, const std::vector<std::string>& target_paths,
            const BitextOptions& options) {
  check<FileError>(source.offsets.size() > 1, source_paths.back(), ": has no lines");
  const auto place = [&](std::int64_t pair) {
    const auto file = static_cast<std::size_t>(std::upper_bound(files.begin(), files.end(), pair) - files.begin()) - 1;
    return Place{&source_paths[file], &target_paths[file], pair - files[file] + 1};
  };
  std::vector<std::int64_t> bad;
  for (std::size_t p = 0; p + 1 < source.offsets.size(); ++p) {
    const std::int64_t m = source.offsets[p + 1] - source.offsets[p];
    const std::int64_t n = target.offsets[p + 1] - target.offsets[p];
    const bool good = m > 0 && n > 0 && m <= options.longest && n <= options.longest;
    if (good) [[likely]]
      continue;
    const auto pair = static_cast<std::int64_t>(p);
    if (options.skip_bad_pairs) {
      bad.push_back(pair);
      continue;
    }
    const auto [from, to, line] = place(pair);
    const bool one_file = from == to;
    const std::string from_side =
        one_file ? "the source side of line " + std::to_string(line) : "line " + std::to_string(line);
    const std::string to_side =
        one_file ? "the target side of line " + std::to_string(line) : "line " + std::to_string(line);
    check<FileError>(m > 0 || n > 0, *from, ": line ", line, " is empty", one_file ? "" : " in " + *to + ", too",
                     "; skip_bad_pairs keeps such pairs, without links");
    check<FileError>(m > 0 && n > 0, m == 0 ? *from : *to, ": ", m == 0 ? from_side : to_side, " is empty while ",
                     one_file ? std::string("the other side") : text("line ", line, " of ", m == 0 ? *to : *from),
                     " has ", words_text(m == 0 ? n : m), "; skip_bad_pairs keeps such pairs, without links");
    check<FileError>(false, m > n ? *from : *to, ": line ", line, " has ", words_text(std::max(m, n)),
                     one_file ? (m > n ? " on its source side" : " on its target side") : "", "; at most ",
                     words_text(options.longest),
                     " are aligned (longest); skip_bad_pairs keeps such pairs, without links");
  }
  if (!bad.empty()) {
    empty_sentences(bad, source.offsets, source.words);
    empty_sentences(bad, target.offsets, target.words);
  }
  Bitext bitext;
  bitext.source = source.vocabulary();
  bitext.target = target.vocabulary();
  bitext.source_offsets = std::move(source.offsets);
  bitext.target_offsets = std::move(target.offsets);
  bitext.source_words = std::move(source.words);
  bitext.target_words = std::move(target.words);
  bitext.files = std::move(files);
  bitext.skipped = static_cast<std::int64_t>(bad.size());
  return bitext;
}

}  // namespace

Bitext read_bitext(const std::vector<std::string>& source_paths, const std::vector<std::string>& target_paths,
                   const BitextOptions& options) {
  check<ArgumentError>(!source_paths.empty() && source_paths.size() == target_paths.size(), "read_bitext: there are ",
                       source_paths.size(), " source files and ", target_paths.size(),
                       " target files; as many of each, and at least one, are needed");
  Side source(options.source, options.lowercase);
  Side target(options.target, options.lowercase);
  std::vector<std::int64_t> files;
  std::vector<std::int64_t> target_files;
  both([&] { read_side(source, source_paths, files); }, [&] { read_side(target, target_paths, target_files); });
  for (std::size_t f = 0; f < files.size(); ++f) {
    const auto lines = [&](const std::vector<std::int64_t>& begins, const Side& side) {
      return (f + 1 < begins.size() ? begins[f + 1] : static_cast<std::int64_t>(side.offsets.size()) - 1) - begins[f];
    };
    const std::int64_t m = lines(files, source);
    const std::int64_t n = lines(target_files, target);
    check<FileError>(m == n, source_paths[f], " has ", with_thousands(m), " lines but ", target_paths[f], " has ",
                     with_thousands(n), "; line i of one must be the translation of line i of the other");
  }
  return join(std::move(source), std::move(target), std::move(files), source_paths, target_paths, options);
}

Bitext read_bitext(const std::string& source_path, const std::string& target_path, const BitextOptions& options) {
  return read_bitext(std::vector<std::string>{source_path}, std::vector<std::string>{target_path}, options);
}

Bitext read_joined_bitext(const std::vector<std::string>& paths, const BitextOptions& options) {
  check<ArgumentError>(!paths.empty(), "read_joined_bitext: there are no files; at least one is needed");
  Side source(options.source, options.lowercase);
  Side target(options.target, options.lowercase);
  std::vector<std::int64_t> files;
  struct Pair {
    const char *begin, *middle, *rest, *end;
  };
  for (const std::string& path : paths) {
    files.push_back(static_cast<std::int64_t>(source.offsets.size()) - 1);
    source.begin_file(path);
    target.begin_file(path);
    std::int64_t number = 0;
    std::vector<Pair> pairs;
    for_each_line(
        path,
        [&](const char* begin, const char* end) {
          ++number;
          const char* const bar = separator(begin, end);
          check<FileError>(bar != end, path, ": line ", number, " has no ||| between its sides");
          check<FileError>(separator(bar + 3, end) == end, path, ": line ", number, " has more than one |||");
          pairs.push_back({begin, bar, bar + 3, end});
        },
        [&] {
          both(
              [&] {
                for (const Pair& pair : pairs) source.line(pair.begin, pair.middle);
              },
              [&] {
                for (const Pair& pair : pairs) target.line(pair.rest, pair.end);
              });
          pairs.clear();
        });
  }
  return join(std::move(source), std::move(target), std::move(files), paths, paths, options);
}

}  // namespace dgm
