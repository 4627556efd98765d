// SPDX-License-Identifier: Apache-2.0
#include <dgm/decide/symmetrise.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <iterator>
#include <utility>

#include "host/core/check.hpp"

namespace dgm {
namespace {

constexpr std::array<std::pair<Symmetrisation, std::string_view>, 7> kNames = {{
    {Symmetrisation::forward, "forward"},
    {Symmetrisation::reverse, "reverse"},
    {Symmetrisation::intersect, "intersect"},
    {Symmetrisation::unite, "union"},
    {Symmetrisation::grow_diag, "grow-diag"},
    {Symmetrisation::grow_diag_final, "grow-diag-final"},
    {Symmetrisation::grow_diag_final_and, "grow-diag-final-and"},
}};

// The union of both directions as candidates, and which of them are links so far. Kept by each thread: a corpus is
// millions of short pairs.
class Growing {
 public:
  void start(std::span<const Link> forward, std::span<const Link> reverse) {
    candidates_.clear();
    linked_.clear();
    std::int32_t sources = 0;
    std::int32_t targets = 0;
    std::size_t f = 0;
    std::size_t r = 0;
    while (f < forward.size() || r < reverse.size()) {
      const bool take_f = r == reverse.size() || (f < forward.size() && forward[f] <= reverse[r]);
      const bool take_r = f == forward.size() || (r < reverse.size() && reverse[r] <= forward[f]);
      const Link link = take_f ? forward[f] : reverse[r];
      candidates_.push_back(link);
      linked_.push_back(take_f && take_r);
      f += take_f;
      r += take_r;
      sources = std::max(sources, link.source + 1);
      targets = std::max(targets, link.target + 1);
    }
    source_linked_.assign(static_cast<std::size_t>(sources), 0);
    target_linked_.assign(static_cast<std::size_t>(targets), 0);
    // rows_[s] is where the candidates of source word s - 1 begin; a word before the first and after the last has none.
    rows_.assign(static_cast<std::size_t>(sources) + 3, 0);
    for (const Link& link : candidates_) ++rows_[static_cast<std::size_t>(link.source) + 2];
    for (std::size_t i = 1; i < rows_.size(); ++i) rows_[i] += rows_[i - 1];
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      if (linked_[c]) mark(candidates_[c]);
    }
  }

  void grow_diag() {
    waiting_.clear();
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      if (!linked_[c]) waiting_.push_back(c);
    }
    for (bool grown = true; grown;) {
      grown = false;
      std::size_t kept = 0;
      for (const std::size_t c : waiting_) {
        const Link link = candidates_[c];
        if (!(source_linked(link) && target_linked(link)) && has_neighbour(link)) {
          add(c);
          grown = true;
        } else {
          waiting_[kept++] = c;
        }
      }
      waiting_.resize(kept);
    }
  }

  // Adds links of one direction of which a word has no link yet; with `both`, neither has.
  void finish(std::span<const Link> direction, bool both) {
    std::size_t c = 0;
    for (const Link& link : direction) {
      while (candidates_[c] < link) ++c;
      if (linked_[c]) continue;
      const bool s = source_linked(link);
      const bool t = target_linked(link);
      if (both ? !s && !t : !s || !t) add(c);
    }
  }

  void collect(Links& out) const {
    out.clear();
    for (std::size_t c = 0; c < candidates_.size(); ++c) {
      if (linked_[c]) out.push_back(candidates_[c]);
    }
  }

 private:
  bool source_linked(Link link) const { return source_linked_[static_cast<std::size_t>(link.source)] != 0; }
  bool target_linked(Link link) const { return target_linked_[static_cast<std::size_t>(link.target)] != 0; }
  void mark(Link link) {
    source_linked_[static_cast<std::size_t>(link.source)] = 1;
    target_linked_[static_cast<std::size_t>(link.target)] = 1;
  }
  void add(std::size_t c) {
    linked_[c] = 1;
    mark(candidates_[c]);
  }
  bool has_neighbour(Link link) const {
    // The three rows around the link are one range of candidates.
    const auto s = static_cast<std::size_t>(link.source);
    for (std::size_t c = rows_[s]; c < rows_[s + 3]; ++c) {
      const std::int32_t gap = candidates_[c].target - link.target;
      if (gap >= -1 && gap <= 1 && linked_[c]) return true;
    }
    return false;
  }

  Links candidates_;
  std::vector<char> linked_, source_linked_, target_linked_;
  std::vector<std::size_t> rows_, waiting_;
};

void check_cells(const char* name, std::span<const float> posterior, std::int64_t targets, std::int64_t sources) {
  check<ShapeError>(targets >= 0 && sources >= 0 && static_cast<std::int64_t>(posterior.size()) == targets * sources,
                    name, ": posterior holds ", posterior.size(), " numbers; ", targets, " x ", sources,
                    " (target words x source words) are needed");
}

}  // namespace

Symmetrisation parse_symmetrisation(std::string_view name) {
  std::string known;
  for (const auto& [method, its_name] : kNames) {
    if (name == its_name) return method;
    known += text(known.empty() ? "" : ", ", its_name);
  }
  throw ArgumentError(text("symmetrisation '", name, "' is not known; there are ", known));
}

std::string_view name_of(Symmetrisation method) {
  for (const auto& [its_method, name] : kNames) {
    if (method == its_method) return name;
  }
  return "?";
}

void symmetrise(std::span<const Link> forward, std::span<const Link> reverse, Symmetrisation method, Links& out) {
  switch (method) {
    case Symmetrisation::forward:
      out.assign(forward.begin(), forward.end());
      return;
    case Symmetrisation::reverse:
      out.assign(reverse.begin(), reverse.end());
      return;
    case Symmetrisation::intersect:
      out.clear();
      std::set_intersection(forward.begin(), forward.end(), reverse.begin(), reverse.end(), std::back_inserter(out));
      return;
    case Symmetrisation::unite:
      out.clear();
      std::set_union(forward.begin(), forward.end(), reverse.begin(), reverse.end(), std::back_inserter(out));
      return;
    default:
      break;
  }
  thread_local Growing growing;
  growing.start(forward, reverse);
  growing.grow_diag();
  if (method != Symmetrisation::grow_diag) {
    const bool both = method == Symmetrisation::grow_diag_final_and;
    growing.finish(forward, both);
    growing.finish(reverse, both);
  }
  growing.collect(out);
}

void best_source_links(std::span<const float> posterior, std::int64_t target_length, std::int64_t source_length,
                       Links& out) {
  check_cells("best_source_links", posterior, target_length, source_length);
  out.clear();
  for (std::int64_t i = 0; i < target_length; ++i) {
    const float* row = posterior.data() + i * source_length;
    float sum = 0;
    float best = -1;
    std::int64_t partner = 0;
    for (std::int64_t j = 0; j < source_length; ++j) {
      sum += row[j];
      if (row[j] > best) {
        best = row[j];
        partner = j;
      }
    }
    if (source_length > 0 && best > 1 - sum) {
      out.push_back({static_cast<std::int32_t>(partner), static_cast<std::int32_t>(i)});
    }
  }
  std::sort(out.begin(), out.end());
}

void best_target_links(std::span<const float> posterior, std::int64_t target_length, std::int64_t source_length,
                       Links& out) {
  check_cells("best_target_links", posterior, target_length, source_length);
  struct Column {
    float sum = 0;
    float best = -1;
    std::int32_t partner = 0;
  };
  thread_local std::vector<Column> columns;
  columns.assign(static_cast<std::size_t>(source_length), {});
  for (std::int64_t i = 0; i < target_length; ++i) {
    const float* row = posterior.data() + i * source_length;
    for (std::int64_t j = 0; j < source_length; ++j) {
      Column& column = columns[static_cast<std::size_t>(j)];
      column.sum += row[j];
      if (row[j] > column.best) {
        column.best = row[j];
        column.partner = static_cast<std::int32_t>(i);
      }
    }
  }
  out.clear();
  for (std::int64_t j = 0; j < source_length; ++j) {
    const Column& column = columns[static_cast<std::size_t>(j)];
    if (target_length > 0 && column.best > 1 - column.sum) {
      out.push_back({static_cast<std::int32_t>(j), column.partner});
    }
  }
}

void links_by_agreement(std::span<const float> forward, std::span<const float> reverse, std::int64_t target_length,
                        std::int64_t source_length, float threshold, Links& out) {
  if (forward.empty()) std::swap(forward, reverse);
  check_cells("links_by_agreement", forward, target_length, source_length);
  if (!reverse.empty()) check_cells("links_by_agreement", reverse, target_length, source_length);
  out.clear();
  for (std::int64_t i = 0; i < target_length; ++i) {
    for (std::int64_t j = 0; j < source_length; ++j) {
      const auto cell = static_cast<std::size_t>(i * source_length + j);
      const float agreed = reverse.empty() ? forward[cell] : forward[cell] * reverse[cell];
      const float bound = reverse.empty() ? threshold : threshold * std::abs(threshold);  // no root for every cell
      if (agreed > bound) out.push_back({static_cast<std::int32_t>(j), static_cast<std::int32_t>(i)});
    }
  }
  std::sort(out.begin(), out.end());
}

}  // namespace dgm
