// SPDX-License-Identifier: Apache-2.0
#include "host/models/hmm_translations.hpp"

#include "host/cpu/tasks.hpp"

#include <algorithm>
#include <numeric>
#include <unordered_map>

namespace dgm {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

std::vector<std::int32_t> beginnings(const Vocabulary& words, int length, std::int32_t& count) {
  std::unordered_map<std::string_view, std::int32_t> ids;
  std::vector<std::int32_t> result;
  for (std::int32_t w = 0; w < words.size(); ++w) {
    const std::string_view word = words.word(w);
    std::size_t end = 0;
    for (int characters = 0; end < word.size(); ++end) {
      const bool starts_character = (static_cast<unsigned char>(word[end]) & 0xC0u) != 0x80u;
      if (starts_character && characters++ == length) break;
    }
    result.push_back(ids.emplace(word.substr(0, end), static_cast<std::int32_t>(ids.size())).first->second);
  }
  count = static_cast<std::int32_t>(ids.size());
  return result;
}

// The float that keeps what training saw above zero.
float kept(double value) { return std::max(HmmTranslations::kSmallest, static_cast<float>(value)); }

void update_null(const std::vector<double>& counts, std::vector<float>& null) {
  const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
  if (!(total > 0)) return;
  for (std::size_t w = 0; w < counts.size(); ++w) {
    null[w + 1] = kept(counts[w] / total);
  }
}

}  // namespace

HmmTranslations::HmmTranslations(const Cooccurrence& pattern, const Vocabulary& source, const Vocabulary& target,
                                 const HmmAlignmentOptions& options, bool both)
    : pattern_(pattern), options_(options), both_(both), sources_(source.size()), targets_(target.size()) {
  const auto entries = at(pattern.entries());
  counts.resize(entries);
  forward.assign(entries, 1.0f / static_cast<float>(std::max(targets_, 1)));
  if (both) reverse.assign(entries, 1.0f / static_cast<float>(std::max(sources_, 1)));
  null_forward.assign(at(targets_) + 1, 1.0f / static_cast<float>(std::max(targets_, 1)));
  null_reverse.assign(at(sources_) + 1, 1.0f / static_cast<float>(std::max(sources_, 1)));
  null_forward[0] = null_reverse[0] = kFloor;
  source_group_ = options.beginning_prior > 0 ? beginnings(source, options.beginning_length, source_groups_)
                                              : std::vector<std::int32_t>();
  target_group_ = options.beginning_prior > 0 ? beginnings(target, options.beginning_length, target_groups_)
                                              : std::vector<std::int32_t>();
  if (!target_group_.empty()) target_group_.push_back(target_groups_++);  // unknown words
  by_group_.resize(at(sources_));
  std::iota(by_group_.begin(), by_group_.end(), 0);
  if (!source_group_.empty()) {
    std::stable_sort(by_group_.begin(), by_group_.end(),
                     [&](std::int32_t a, std::int32_t b) { return source_group_[at(a)] < source_group_[at(b)]; });
  }
  for (std::size_t i = 0; i < by_group_.size(); ++i) {
    if (i == 0 || source_group_.empty() || group_of(by_group_[i]) != group_of(by_group_[i - 1])) {
      group_begin_.push_back(static_cast<std::int64_t>(i));
    }
  }
  group_begin_.push_back(static_cast<std::int64_t>(by_group_.size()));
  if (options.identical_prior > 0) {
    for (std::int32_t e = 0; e < sources_; ++e) {
      const std::int32_t f = target.find(source.word(e));
      if (f == Vocabulary::kUnknown) continue;
      for (std::int64_t k = begin(e); k < end(e); ++k) {
        if (pattern.entry_targets()[at(k)] == f) identical_.push_back(k);
      }
    }
  }
  null_counts_forward.resize(at(targets_));
  null_counts_reverse.resize(at(sources_));
}

void HmmTranslations::clear_counts() {
  std::fill(counts.begin(), counts.end(), 0.0f);
  std::fill(null_counts_forward.begin(), null_counts_forward.end(), 0.0);
  std::fill(null_counts_reverse.begin(), null_counts_reverse.end(), 0.0);
}

void HmmTranslations::update() {
  for (const std::int64_t k : identical_) counts[at(k)] += static_cast<float>(options_.identical_prior);
  std::vector<double> row(at(sources_)), column(at(targets_) + 1);  // the last: unknown target words
  for (std::int32_t e = 0; e < sources_; ++e) {
    double sum = 0;
    for (std::int64_t k = begin(e); k < end(e); ++k) {
      sum += counts[at(k)];
      column[at(target(k))] += counts[at(k)];
    }
    row[at(e)] = sum;
  }
  update_null(null_counts_forward, null_forward);
  update_null(null_counts_reverse, null_reverse);

  const bool grouped = !source_group_.empty();
  std::vector<double> row_group(at(source_groups_)), column_group(at(target_groups_));
  if (grouped) {
    for (std::int32_t e = 0; e < sources_; ++e) row_group[at(group_of(e))] += row[at(e)];
    for (std::int32_t f = 0; f <= targets_; ++f) column_group[at(target_group_[at(f)])] += column[at(f)];
  }
  const double prior = options_.beginning_prior;
  std::vector<std::vector<float>> sums(at(cpu_threads()));
  cpu::parallel_tasks(static_cast<std::int64_t>(group_begin_.size()) - 1, [&](std::int64_t g, int thread) {
    const std::int32_t* const first = by_group_.data() + group_begin_[at(g)];
    const std::int32_t* const last = by_group_.data() + group_begin_[at(g + 1)];
    std::vector<float>& group = sums[at(thread)];  // of target beginnings with this source beginning
    if (grouped) {
      group.resize(at(target_groups_));
      for (const std::int32_t* e = first; e != last; ++e) {
        for (std::int64_t k = begin(*e); k < end(*e); ++k) group[at(target_group_[at(target(k))])] += counts[at(k)];
      }
    }
    for (const std::int32_t* e = first; e != last; ++e) {
      const double of_row = row[at(*e)];
      const double share = grouped ? of_row / (row_group[at(group_of(*e))] + 1e-30) : 0;
      const double forward_norm = 1 / (of_row + prior + 1e-30);
      const double forward_prior = grouped ? prior / (row_group[at(group_of(*e))] + 1e-30) : 0;
      for (std::int64_t k = begin(*e); k < end(*e); ++k) {
        const std::int32_t f = target(k);
        double leaning = 0;  // of the pair of beginnings, shared by column
        double leaning_back = 0;
        if (grouped) {
          const std::int32_t h = target_group_[at(f)];
          const double per_column = static_cast<double>(group[at(h)]) / (column_group[at(h)] + 1e-30);
          leaning = forward_prior * per_column * column[at(f)];
          leaning_back = prior * per_column * share;
        }
        forward[at(k)] = kept((counts[at(k)] + leaning) * forward_norm);
        if (both_) reverse[at(k)] = kept((counts[at(k)] + leaning_back) / (column[at(f)] + prior + 1e-30));
      }
    }
    if (grouped) {
      for (const std::int32_t* e = first; e != last; ++e) {
        for (std::int64_t k = begin(*e); k < end(*e); ++k) group[at(target_group_[at(target(k))])] = 0;
      }
    }
  });
}

}  // namespace dgm
