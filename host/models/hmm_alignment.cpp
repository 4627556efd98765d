// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/hmm_alignment.hpp>

#include <dgm/data/cooccurrence.hpp>

#include "host/core/check.hpp"
#include "host/cpu/parallel.hpp"
#include "host/cpu/tasks.hpp"
#include "host/models/alignment_models.hpp"
#include "kernels/hmm_alignment.hpp"
#include "kernels/math/hmm.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <numeric>
#include <unordered_map>

namespace dgm {
namespace {

using kernels::HmmCountsLayout;
using kernels::kHmmStops;

constexpr int kIterations = 4;
constexpr float kFloor = 1e-7f;  // of a translation that training did not see
constexpr float kWorthKeeping = 1e-6f;
constexpr float kSmallest = 1e-10f;  // of one that it did see

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// ---- jumps of one direction ----------------------------------------------------------------------

struct Jumps {
  std::int64_t classes = 1;
  int reach = 0;
  std::vector<std::int32_t> word_class;  // (vocabulary + 1), word w at w + 1
  std::vector<float> weight;             // (classes + 1, buckets), rows that sum to 1
  std::vector<double> shared;            // (buckets), what the classes lean on
  std::array<float, 2> move = {};        // to NULL, to a word
  std::vector<float> stop;               // (kHmmStops), or none

  std::int64_t buckets() const { return 2 * reach + 3; }
  HmmCountsLayout layout() const { return {classes, buckets()}; }

  Jumps() = default;
  Jumps(const HmmAlignmentOptions& options, const std::vector<std::int64_t>& frequency) : reach(options.reach) {
    word_class.assign(1, 0);
    for (const std::int64_t count : frequency) {
      const bool own = options.jump_words > 0 && count >= options.jump_words;
      word_class.push_back(static_cast<std::int32_t>(own ? classes++ : 0));
    }
    std::vector<double> first(at(buckets()));
    for (std::int64_t b = 0; b < buckets(); ++b) {
      const auto jump = static_cast<double>(b - reach - 1);
      first[at(b)] = std::exp(-0.3 * std::abs(jump - 1)) + 1e-3;
    }
    // Of each of the many jumps beyond the reach.
    first.front() = first.back() = 0.1 * first.back();
    const double total = std::accumulate(first.begin(), first.end(), 0.0);
    for (double& value : first) value /= total;
    shared = first;
    for (std::int64_t k = 0; k <= classes; ++k) weight.insert(weight.end(), first.begin(), first.end());
    move = {static_cast<float>(options.null_probability), static_cast<float>(1 - options.null_probability)};
    if (options.ends) {
      stop.push_back(0.5f);
      for (int d = 1; d < kHmmStops; ++d) stop.push_back(0.05f / static_cast<float>(d + 1));
    }
  }

  // A jump's probability is its weight over the weights of all positions there are, so that counts over their sum are
  // not what maximises. new = old * count / expected never lowers the likelihood: log Z is concave, and lies under its
  // tangent at the old Z.
  void update(const std::vector<std::int64_t>& counts, const HmmAlignmentOptions& options) {
    const HmmCountsLayout c = layout();
    const std::int64_t n = buckets();
    const auto count = [&](std::int64_t i) { return static_cast<double>(counts[at(i)]) / kernels::kHmmUnit; };
    const auto fresh = [](double old, double counted, double expected) {
      return expected > 0 ? old * counted / expected : old;
    };
    const auto normalise = [](std::vector<double>& values) {
      const double total = std::accumulate(values.begin(), values.end(), 0.0);
      for (double& value : values) value /= total;
    };

    std::vector<double> row(at(n));
    for (std::int64_t b = 0; b < n; ++b) {
      double counted = 0;
      double expected = 0;
      for (std::int64_t k = 0; k < classes; ++k) {
        counted += count(c.jumps() + k * n + b);
        expected += count(c.expected() + k * n + b);
      }
      row[at(b)] = fresh(shared[at(b)], counted, expected);
    }
    if (std::accumulate(row.begin(), row.end(), 0.0) > 0) {
      normalise(row);
      for (double& value : row) {
        value = (1 - options.jump_floor) * value + options.jump_floor / static_cast<double>(2 * reach + 1);
      }
      shared = row;
    }
    for (std::int64_t k = 0; k <= classes; ++k) {
      const double prior = k < classes ? options.jump_prior : 0;
      for (std::int64_t b = 0; b < n; ++b) {
        const double old = weight[at(k * n + b)];
        row[at(b)] = fresh(old, count(c.jumps() + k * n + b) + prior * shared[at(b)],
                           count(c.expected() + k * n + b) + prior * old);
      }
      if (!(std::accumulate(row.begin(), row.end(), 0.0) > 0)) continue;
      normalise(row);
      for (std::int64_t b = 0; b < n; ++b) {
        // From the beginning all jumps are forward.
        const double floor = k == classes && b > reach + 1 ? options.jump_floor : 0;
        weight[at(k * n + b)] = static_cast<float>((1 - floor) * row[at(b)] + floor / (reach + 1));
      }
    }

    const double null = count(c.moves());
    const double word = count(c.moves() + 1);
    if (null + word > 0) {
      move = {static_cast<float>(null / (null + word)), static_cast<float>(word / (null + word))};
    }
    const double few = options.jump_floor > 0 ? 1.0 : 0.0;
    for (std::size_t d = 0; d < stop.size(); ++d) {
      const double ended = count(c.stops() + static_cast<std::int64_t>(d)) + 0.1 * few;
      const double went = count(c.goes() + static_cast<std::int64_t>(d)) + 1.9 * few;
      if (ended + went > 0) stop[d] = static_cast<float>(ended / (ended + went));
    }
  }
};

// ---- translations --------------------------------------------------------------------------------

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

// Expected counts of links, and the translation probabilities that follow from them in both directions.
class Translations {
 public:
  Translations(const Cooccurrence& pattern, const Vocabulary& source, const Vocabulary& target,
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

  void clear_counts() {
    std::fill(counts.begin(), counts.end(), 0.0f);
    std::fill(null_counts_forward.begin(), null_counts_forward.end(), 0.0);
    std::fill(null_counts_reverse.begin(), null_counts_reverse.end(), 0.0);
  }

  void update() {
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
    const auto kept = [](double value) { return std::max(kSmallest, static_cast<float>(value)); };
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

  std::int64_t begin(std::int32_t e) const { return pattern_.row_offsets()[at(e) + 1]; }
  std::int64_t end(std::int32_t e) const { return pattern_.row_offsets()[at(e) + 2]; }
  std::int32_t target(std::int64_t k) const { return pattern_.entry_targets()[at(k)]; }

  std::vector<float> counts, forward, reverse;    // (entries)
  std::vector<float> null_forward, null_reverse;  // (vocabulary + 1), word w at w + 1
  std::vector<double> null_counts_forward, null_counts_reverse;

 private:
  std::int32_t group_of(std::int32_t e) const { return source_group_[at(e)]; }

  static void update_null(const std::vector<double>& counts, std::vector<float>& null) {
    const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
    if (!(total > 0)) return;
    for (std::size_t w = 0; w < counts.size(); ++w) {
      null[w + 1] = std::max(kSmallest, static_cast<float>(counts[w] / total));
    }
  }

  const Cooccurrence& pattern_;
  const HmmAlignmentOptions& options_;
  bool both_;
  std::int32_t sources_, targets_;
  std::int32_t source_groups_ = 0, target_groups_ = 0;
  std::vector<std::int32_t> source_group_, target_group_, by_group_;
  std::vector<std::int64_t> group_begin_, identical_;
};

// ---- the model -----------------------------------------------------------------------------------

std::vector<std::int64_t> frequencies(std::span<const std::int32_t> words, std::int32_t vocabulary) {
  std::vector<std::int64_t> result(at(vocabulary));
  for (const std::int32_t word : words) {
    if (word >= 0) ++result[at(word)];
  }
  return result;
}

// Cells of the pairs of a block, and where those of each pair begin.
struct Cells {
  std::vector<std::int64_t> begin;
  std::vector<float> forward, reverse;
  std::vector<float> null_forward, null_reverse;  // of target words, of source words
  std::vector<float> log_marginal;

  void resize(const std::vector<std::uint32_t>& source_begin, const std::vector<std::uint32_t>& target_begin,
              bool both) {
    begin.assign(1, 0);
    for (std::size_t p = 0; p + 1 < source_begin.size(); ++p) {
      begin.push_back(begin.back() +
                      std::int64_t{source_begin[p + 1] - source_begin[p]} * (target_begin[p + 1] - target_begin[p]));
    }
    const auto grow = [](std::vector<float>& values, std::size_t size) {
      if (values.size() < size) values.resize(size);
    };
    grow(forward, at(begin.back()));
    if (both) grow(reverse, at(begin.back()));
    grow(null_forward, target_begin.back());
    grow(null_reverse, source_begin.back());
    grow(log_marginal, source_begin.size());
  }
};

class HmmAlignment : public AlignmentModel {
 public:
  HmmAlignment(const AlignmentOptions& options, const HmmAlignmentOptions& hmm)
      : directions_(options.directions),
        iterations_(options.iterations > 0 ? options.iterations : kIterations),
        hmm_(hmm) {}
  HmmAlignment(const SafeTensors& file, std::array<std::int32_t, 2> sizes);

  std::string name() const override { return "hmm"; }
  AlignmentDirections directions() const override { return directions_; }
  void train(const Bitext& bitext, const Report& report) override;
  void posteriors(const Bitext& bitext, std::int64_t first, std::int64_t last, AlignmentPosteriors& out) const override;
  std::vector<Translation> translations(bool reverse, std::int32_t word, std::int64_t most) const override;
  SafeTensors to_tensors() const override;

 private:
  // A model of the reverse direction is one of the forward direction of the reversed text.
  bool reversed() const { return directions_ == AlignmentDirections::reverse; }
  bool both() const { return directions_ == AlignmentDirections::both; }

  void keep(const Translations& translations, const Cooccurrence& pattern);
  void run_pass(const kernels::HmmBlock& block, bool target_states, const std::int32_t* source_words,
                const std::int32_t* target_words, const std::vector<float>& null, const Jumps& jumps, Cells& cells,
                std::vector<std::int64_t>* counts) const;

  AlignmentDirections directions_;
  int iterations_ = kIterations;
  HmmAlignmentOptions hmm_;

  std::int32_t sources_ = 0, targets_ = 0;  // of the text as it is generated
  std::array<Jumps, 2> jumps_;
  std::vector<std::int64_t> row_offsets_ = {0};
  std::vector<std::int32_t> entry_targets_;
  std::vector<float> forward_, reverse_;
  std::vector<float> null_forward_, null_reverse_;
};

void HmmAlignment::run_pass(const kernels::HmmBlock& block, bool target_states, const std::int32_t* source_words,
                            const std::int32_t* target_words, const std::vector<float>& null, const Jumps& jumps,
                            Cells& cells, std::vector<std::int64_t>* counts) const {
  std::vector<float>& values = target_states ? cells.reverse : cells.forward;
  std::vector<float>& null_posterior = target_states ? cells.null_reverse : cells.null_forward;
  run_cpu(kernels::HmmPass{.block = block,
                           .target_states = target_states,
                           .logs = false,
                           .emission = values.data(),
                           .state_words = target_states ? target_words : source_words,
                           .step_words = target_states ? source_words : target_words,
                           .null_emission = null.data(),
                           .word_class = jumps.word_class.data(),
                           .classes = jumps.classes,
                           .reach = jumps.reach,
                           .jump = jumps.weight.data(),
                           .log_jump = nullptr,
                           .move = jumps.move.data(),
                           .stop = jumps.stop.empty() ? nullptr : jumps.stop.data(),
                           .weight = nullptr,
                           .count_scale = nullptr,
                           .posterior = values.data(),
                           .null_posterior = counts != nullptr ? null_posterior.data() : nullptr,
                           .log_marginal = cells.log_marginal.data(),
                           .counts = counts != nullptr ? counts->data() : nullptr,
                           .count_copies = counts != nullptr ? cpu_threads() : 1,
                           .cells = cells.begin.back(),
                           .source_words = 0,
                           .target_words = 0,
                           .scratch = nullptr});
}

// IBM 1 from emissions to posteriors, in place.
void independent_pass(const kernels::HmmBlock& block, const std::int32_t* source_words,
                      const std::int32_t* target_words, const Translations& t, bool both, Cells& cells,
                      std::vector<float>& log_reverse) {
  cpu::parallel_ranges(block.pairs, 32, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<float> sum;
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t first_source = block.source_begin[p];
      const std::int64_t first_target = block.target_begin[p];
      const std::int64_t n = block.source_begin[p + 1] - first_source;
      const std::int64_t m = block.target_begin[p + 1] - first_target;
      cells.log_marginal[at(p)] = log_reverse[at(p)] = 0;
      if (n == 0 || m == 0) continue;
      float* const x = cells.forward.data() + block.cell_begin[p];
      float* const null = cells.null_forward.data() + first_target;
      sum.resize(at(m));
      for (std::int64_t i = 0; i < m; ++i)
        sum[at(i)] = null[i] = t.null_forward[at(target_words[first_target + i]) + 1];
      for (std::int64_t j = 0; j < n; ++j) {
        for (std::int64_t i = 0; i < m; ++i) sum[at(i)] += x[j * m + i];
      }
      double log_total = -static_cast<double>(m) * std::log(static_cast<double>(n + 1));
      for (std::int64_t i = 0; i < m; ++i) {
        log_total += std::log(sum[at(i)]);
        sum[at(i)] = 1 / sum[at(i)];
        null[i] *= sum[at(i)];
      }
      for (std::int64_t j = 0; j < n; ++j) {
        for (std::int64_t i = 0; i < m; ++i) x[j * m + i] *= sum[at(i)];
      }
      cells.log_marginal[at(p)] = static_cast<float>(log_total);
      if (!both) continue;
      log_total = -static_cast<double>(n) * std::log(static_cast<double>(m + 1));
      for (std::int64_t j = 0; j < n; ++j) {
        float* const y = cells.reverse.data() + block.cell_begin[p] + j * m;
        const float of_null = t.null_reverse[at(source_words[first_source + j]) + 1];
        float total = of_null;
        for (std::int64_t i = 0; i < m; ++i) total += y[i];
        log_total += std::log(total);
        const float inverse = 1 / total;
        for (std::int64_t i = 0; i < m; ++i) y[i] *= inverse;
        cells.null_reverse[at(first_source + j)] = of_null * inverse;
      }
      log_reverse[at(p)] = static_cast<float>(log_total);
    }
  });
}

void HmmAlignment::train(const Bitext& bitext, const Report& report) {
  BitextView view = BitextView::of(bitext);
  if (reversed()) view = view.reversed();
  bool any = false;
  for (std::int64_t p = 0; p < bitext.pairs() && !any; ++p) {
    any = !bitext.source_sentence(p).empty() && !bitext.target_sentence(p).empty();
  }
  check<ArgumentError>(any, "hmm: none of the ", bitext.pairs(), " pairs has words on both sides; nothing to train on");

  const Vocabulary& source = reversed() ? *bitext.target : *bitext.source;
  const Vocabulary& target = reversed() ? *bitext.source : *bitext.target;
  sources_ = source.size();
  targets_ = target.size();
  const Cooccurrence pattern(view);
  Translations t(pattern, source, target, hmm_, both());
  jumps_[0] = Jumps(hmm_, frequencies(view.source_words, sources_));
  jumps_[1] = both() ? Jumps(hmm_, frequencies(view.target_words, targets_)) : Jumps();

  std::vector<std::int64_t> counts[2];
  Cells cells;
  std::vector<float> log_reverse;
  const int of = hmm_.ibm1_iterations + iterations_;
  for (int iteration = 1; iteration <= of; ++iteration) {
    const auto start = std::chrono::steady_clock::now();
    const bool first_order = iteration > hmm_.ibm1_iterations;
    const std::size_t copies = at(cpu_threads());
    if (first_order) {
      counts[0].assign(at(jumps_[0].layout().size()) * copies, 0);
      if (both()) counts[1].assign(at(jumps_[1].layout().size()) * copies, 0);
    }
    t.clear_counts();
    AlignmentIteration told{.stage = first_order ? "hmm" : "ibm1", .iteration = iteration, .of = of};
    double likelihood[2] = {0, 0};
    std::int64_t words[2] = {0, 0};
    for (const Cooccurrence::Block& b : pattern.blocks()) {
      cells.resize(b.source_begin, b.target_begin, both());
      const kernels::HmmBlock block = {b.pairs(), b.source_begin.data(), b.target_begin.data(), cells.begin.data()};
      const kernels::HmmPattern entries = {.rows = static_cast<std::int64_t>(b.rows.size()),
                                           .row = b.rows.data(),
                                           .row_begin = b.row_begin.data(),
                                           .row_cells = b.cell_begin.data(),
                                           .occurrences = reinterpret_cast<const std::uint16_t*>(b.occurrences.data()),
                                           .narrow = b.narrow.get(),
                                           .wide = b.wide.get(),
                                           .row_offsets = pattern.row_offsets().data(),
                                           .widest_narrow = 65536};
      run_cpu(kernels::HmmLookup{block,
                                 entries,
                                 {t.forward.data(), both() ? t.reverse.data() : nullptr},
                                 {cells.forward.data(), cells.reverse.data()}});
      const std::int32_t* const source_words = view.source_words.data() + view.source_offsets[at(b.first_pair)];
      const std::int32_t* const target_words = view.target_words.data() + view.target_offsets[at(b.first_pair)];
      const auto add_likelihood = [&](const std::vector<float>& log_marginal, int direction) {
        for (std::int64_t p = 0; p < b.pairs(); ++p) {
          if (cells.begin[at(p)] == cells.begin[at(p + 1)]) continue;
          likelihood[direction] += log_marginal[at(p)];
          words[direction] += direction == 0 ? b.target_length(at(p)) : b.source_length(at(p));
        }
      };
      if (first_order) {
        run_pass(block, false, source_words, target_words, t.null_forward, jumps_[0], cells, &counts[0]);
        add_likelihood(cells.log_marginal, 0);
        if (both()) {
          run_pass(block, true, source_words, target_words, t.null_reverse, jumps_[1], cells, &counts[1]);
          add_likelihood(cells.log_marginal, 1);
        }
      } else {
        if (log_reverse.size() < at(b.pairs())) log_reverse.resize(at(b.pairs()));
        independent_pass(block, source_words, target_words, t, both(), cells, log_reverse);
        add_likelihood(cells.log_marginal, 0);
        if (both()) add_likelihood(log_reverse, 1);
      }
      if (both()) {
        cpu::parallel_ranges(cells.begin.back(), 1 << 14, [&](std::int64_t begin, std::int64_t end, int) {
          for (std::int64_t i = begin; i < end; ++i) cells.forward[at(i)] *= cells.reverse[at(i)];
        });
      }
      run_cpu(kernels::HmmScatter{.block = block,
                                  .pattern = entries,
                                  .cells = cells.forward.data(),
                                  .null_cells = nullptr,
                                  .target_words = nullptr,
                                  .target_tokens = 0,
                                  .scale = nullptr,
                                  .entries = pattern.entries(),
                                  .sums = t.counts.data(),
                                  .scratch = nullptr});
      for (std::int64_t p = 0; p < b.pairs(); ++p) {
        if (cells.begin[at(p)] == cells.begin[at(p + 1)]) continue;
        for (std::uint32_t i = b.target_begin[at(p)]; i < b.target_begin[at(p + 1)]; ++i) {
          if (target_words[i] >= 0) t.null_counts_forward[at(target_words[i])] += cells.null_forward[i];
        }
        for (std::uint32_t j = b.source_begin[at(p)]; both() && j < b.source_begin[at(p + 1)]; ++j) {
          if (source_words[j] >= 0) t.null_counts_reverse[at(source_words[j])] += cells.null_reverse[j];
        }
      }
    }
    t.update();
    for (std::size_t k = 0; first_order && k < (both() ? 2u : 1u); ++k) {
      const std::size_t size = at(jumps_[k].layout().size());
      for (std::size_t i = size; i < counts[k].size(); ++i) counts[k][i % size] += counts[k][i];
      jumps_[k].update(counts[k], hmm_);
    }
    const auto put = [&](std::size_t direction, int from) {
      told.log_likelihood[direction] = likelihood[from];
      told.words[direction] = words[from];
    };
    put(reversed() ? 1 : 0, 0);
    if (both()) put(1, 1);
    told.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (report) report(told);
  }
  keep(t, pattern);
}

void HmmAlignment::keep(const Translations& t, const Cooccurrence& pattern) {
  row_offsets_.assign(1, 0);
  entry_targets_.clear();
  forward_.clear();
  reverse_.clear();
  for (std::int32_t e = 0; e < sources_; ++e) {
    for (std::int64_t k = t.begin(e); k < t.end(e); ++k) {
      const float most = both() ? std::max(t.forward[at(k)], t.reverse[at(k)]) : t.forward[at(k)];
      if (most < kWorthKeeping || t.target(k) == targets_) continue;
      entry_targets_.push_back(pattern.entry_targets()[at(k)]);
      forward_.push_back(t.forward[at(k)]);
      if (both()) reverse_.push_back(t.reverse[at(k)]);
    }
    row_offsets_.push_back(static_cast<std::int64_t>(entry_targets_.size()));
  }
  null_forward_ = t.null_forward;
  null_reverse_ = t.null_reverse;
}

void HmmAlignment::posteriors(const Bitext& bitext, std::int64_t first, std::int64_t last,
                              AlignmentPosteriors& out) const {
  check<ArgumentError>(0 <= first && first <= last && last <= bitext.pairs(), "hmm: pairs ", first, " to ", last,
                       " are not within the ", bitext.pairs(), " of the bitext");
  BitextView view = BitextView::of(bitext).part(first, last);
  if (reversed()) view = view.reversed();
  const std::int64_t pairs = last - first;
  const std::int32_t* const source_words = view.source_words.data() + view.source_offsets.front();
  const std::int32_t* const target_words = view.target_words.data() + view.target_offsets.front();
  std::vector<std::uint32_t> source_begin, target_begin;
  for (std::int64_t p = 0; p <= pairs; ++p) {
    source_begin.push_back(static_cast<std::uint32_t>(view.source_offsets[at(p)] - view.source_offsets.front()));
    target_begin.push_back(static_cast<std::uint32_t>(view.target_offsets[at(p)] - view.target_offsets.front()));
  }
  const auto check_words = [](const char* side, const std::int32_t* words, std::uint32_t count, std::int32_t size) {
    for (std::uint32_t i = 0; i < count; ++i) {
      check<ArgumentError>(words[i] < size, "hmm: ", side, " word ", words[i], " is beyond the model's ", size);
    }
  };
  check_words(reversed() ? "target" : "source", source_words, source_begin.back(), sources_);
  check_words(reversed() ? "source" : "target", target_words, target_begin.back(), targets_);

  Cells cells;
  cells.resize(source_begin, target_begin, both());
  const kernels::HmmBlock block = {pairs, source_begin.data(), target_begin.data(), cells.begin.data()};

  // Source words by number, so that the row of a word is spread out once.
  struct Place {
    std::int32_t word;
    std::uint32_t token, pair;
  };
  std::vector<Place> places;
  for (std::uint32_t p = 0; p < pairs; ++p) {
    for (std::uint32_t j = source_begin[p]; j < source_begin[p + 1]; ++j) places.push_back({source_words[j], j, p});
  }
  std::sort(places.begin(), places.end(),
            [](const Place& a, const Place& b) { return a.word != b.word ? a.word < b.word : a.token < b.token; });
  std::vector<std::size_t> groups;
  for (std::size_t i = 0; i < places.size(); ++i) {
    if (i == 0 || places[i].word != places[i - 1].word) groups.push_back(i);
  }
  groups.push_back(places.size());
  struct Spread {
    std::vector<std::array<float, 2>> value;  // word w at w + 1
  };
  std::vector<Spread> spreads(at(cpu_threads()));
  cpu::parallel_tasks(static_cast<std::int64_t>(groups.size()) - 1, [&](std::int64_t g, int thread) {
    std::vector<std::array<float, 2>>& value = spreads[at(thread)].value;
    if (value.empty()) value.assign(at(targets_) + 1, {kFloor, kFloor});
    const std::int32_t e = places[groups[at(g)]].word;
    const std::int64_t begin = e < 0 ? 0 : row_offsets_[at(e)];
    const std::int64_t end = e < 0 ? 0 : row_offsets_[at(e) + 1];
    for (std::int64_t k = begin; k < end; ++k) {
      value[at(entry_targets_[at(k)]) + 1] = {forward_[at(k)], both() ? reverse_[at(k)] : 0};
    }
    for (std::size_t i = groups[at(g)]; i < groups[at(g + 1)]; ++i) {
      const Place& place = places[i];
      const std::uint32_t m = target_begin[place.pair + 1] - target_begin[place.pair];
      const std::int32_t* const words = target_words + target_begin[place.pair];
      const std::int64_t to = cells.begin[place.pair] + std::int64_t{place.token - source_begin[place.pair]} * m;
      for (std::uint32_t k = 0; k < m; ++k) {
        const std::array<float, 2>& v = value[at(words[k] + 1)];
        cells.forward[at(to + k)] = v[0];
        if (both()) cells.reverse[at(to + k)] = v[1];
      }
    }
    for (std::int64_t k = begin; k < end; ++k) value[at(entry_targets_[at(k)]) + 1] = {kFloor, kFloor};
  });

  run_pass(block, false, source_words, target_words, null_forward_, jumps_[0], cells, nullptr);
  if (both()) run_pass(block, true, source_words, target_words, null_reverse_, jumps_[1], cells, nullptr);

  out.offsets = cells.begin;
  std::vector<float>& generated = reversed() ? out.reverse : out.forward;
  (reversed() ? out.forward : out.reverse).clear();
  const auto total = at(cells.begin.back());
  if (reversed()) {  // its sources are the targets: rows as they are wanted
    generated.assign(cells.forward.begin(), cells.forward.begin() + cells.begin.back());
    return;
  }
  generated.resize(total);
  if (both()) out.reverse.resize(total);
  cpu::parallel_ranges(pairs, 64, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t n = source_begin[at(p + 1)] - source_begin[at(p)];
      const std::int64_t m = target_begin[at(p + 1)] - target_begin[at(p)];
      const auto transpose = [&](const std::vector<float>& from, std::vector<float>& to) {
        const float* const x = from.data() + cells.begin[at(p)];
        float* const y = to.data() + cells.begin[at(p)];
        for (std::int64_t j = 0; j < n; ++j) {
          for (std::int64_t i = 0; i < m; ++i) y[i * n + j] = x[j * m + i];
        }
      };
      transpose(cells.forward, out.forward);
      if (both()) transpose(cells.reverse, out.reverse);
    }
  });
}

std::vector<AlignmentModel::Translation> HmmAlignment::translations(bool reverse, std::int32_t word,
                                                                    std::int64_t most) const {
  std::vector<Translation> found;
  // In its own terms a reversed model generates forward.
  const bool by_column = reversed() ? !reverse : reverse;
  if (by_column && !both()) return found;
  const std::int32_t size = by_column ? targets_ : sources_;
  check<ArgumentError>(word >= kNull && word < size, "hmm: there is no word ", word, " among ", size);
  if (word == kNull) {
    const std::vector<float>& null = by_column ? null_reverse_ : null_forward_;
    for (std::size_t w = 1; w < null.size(); ++w) found.push_back({static_cast<std::int32_t>(w - 1), null[w]});
  } else if (!by_column) {
    for (std::int64_t k = row_offsets_[at(word)]; k < row_offsets_[at(word) + 1]; ++k) {
      found.push_back({entry_targets_[at(k)], forward_[at(k)]});
    }
  } else {
    for (std::int32_t e = 0; e < sources_; ++e) {
      for (std::int64_t k = row_offsets_[at(e)]; k < row_offsets_[at(e) + 1]; ++k) {
        if (entry_targets_[at(k)] == word) found.push_back({e, reverse_[at(k)]});
      }
    }
  }
  const auto keep = std::min(static_cast<std::int64_t>(found.size()), std::max<std::int64_t>(most, 0));
  std::partial_sort(found.begin(), found.begin() + keep, found.end(), [](const Translation& a, const Translation& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.word < b.word;
  });
  found.resize(at(keep));
  return found;
}

constexpr const char* kDirection[] = {"forward", "reverse", "both"};

SafeTensors HmmAlignment::to_tensors() const {
  SafeTensors file;
  const auto put = [&](const std::string& name, const auto& values) {
    file.tensors[name] = StoredTensor::of(values, {static_cast<std::int64_t>(values.size())});
  };
  file.metadata["directions"] = kDirection[static_cast<int>(directions_)];
  put("row_offsets", row_offsets_);
  put("entry_targets", entry_targets_);
  put("translation.0", forward_);
  put("null.0", null_forward_);
  if (both()) put("translation.1", reverse_);
  if (both()) put("null.1", null_reverse_);
  for (std::size_t k = 0; k < (both() ? 2u : 1u); ++k) {
    const std::string suffix = "." + std::to_string(k);
    put("jump_class" + suffix, jumps_[k].word_class);
    file.tensors["jump" + suffix] = StoredTensor::of(jumps_[k].weight, {jumps_[k].classes + 1, jumps_[k].buckets()});
    put("move" + suffix, std::vector<float>(jumps_[k].move.begin(), jumps_[k].move.end()));
    put("stop" + suffix, jumps_[k].stop);
  }
  return file;
}

HmmAlignment::HmmAlignment(const SafeTensors& file, std::array<std::int32_t, 2> sizes) {
  const auto found = file.metadata.find("directions");
  check<FileError>(
      found != file.metadata.end() && std::find(kDirection, kDirection + 3, found->second) != kDirection + 3,
      "directions must be forward, reverse or both");
  directions_ = static_cast<AlignmentDirections>(std::find(kDirection, kDirection + 3, found->second) - kDirection);
  sources_ = sizes[reversed() ? 1 : 0];
  targets_ = sizes[reversed() ? 0 : 1];
  const auto fits = [](bool good, const std::string& name) {
    check<FileError>(good, name, " does not fit the vocabularies or the other tensors");
  };
  row_offsets_ = file.at("row_offsets").as<std::int64_t>();
  entry_targets_ = file.at("entry_targets").as<std::int32_t>();
  forward_ = file.at("translation.0").as<float>();
  null_forward_ = file.at("null.0").as<float>();
  fits(row_offsets_.size() == at(sources_) + 1 && row_offsets_.front() == 0 &&
           std::is_sorted(row_offsets_.begin(), row_offsets_.end()) &&
           row_offsets_.back() == static_cast<std::int64_t>(entry_targets_.size()),
       "row_offsets");
  fits(
      std::all_of(entry_targets_.begin(), entry_targets_.end(), [&](std::int32_t f) { return f >= 0 && f < targets_; }),
      "entry_targets");
  fits(forward_.size() == entry_targets_.size(), "translation.0");
  fits(null_forward_.size() == at(targets_) + 1, "null.0");
  if (both()) {
    reverse_ = file.at("translation.1").as<float>();
    null_reverse_ = file.at("null.1").as<float>();
    fits(reverse_.size() == entry_targets_.size(), "translation.1");
    fits(null_reverse_.size() == at(sources_) + 1, "null.1");
  }
  for (std::size_t k = 0; k < (both() ? 2u : 1u); ++k) {
    const std::string suffix = "." + std::to_string(k);
    Jumps& jumps = jumps_[k];
    const std::vector<std::int64_t>& shape = file.at("jump" + suffix).shape;
    fits(shape.size() == 2 && shape[0] >= 2 && shape[1] >= 5 && shape[1] % 2 == 1 && shape[1] < 10000, "jump" + suffix);
    jumps.classes = shape[0] - 1;
    jumps.reach = static_cast<int>(shape[1] - 3) / 2;
    jumps.weight = file.at("jump" + suffix).as<float>();
    jumps.word_class = file.at("jump_class" + suffix).as<std::int32_t>();
    fits(jumps.word_class.size() == at(k == 0 ? sources_ : targets_) + 1 &&
             std::all_of(jumps.word_class.begin(), jumps.word_class.end(),
                         [&](std::int32_t c) { return c >= 0 && c < jumps.classes; }),
         "jump_class" + suffix);
    const std::vector<float> move = file.at("move" + suffix).as<float>();
    fits(move.size() == 2, "move" + suffix);
    jumps.move = {move[0], move[1]};
    jumps.stop = file.at("stop" + suffix).as<float>();
    fits(jumps.stop.empty() || jumps.stop.size() == kHmmStops, "stop" + suffix);
  }
}

}  // namespace

HmmAlignmentOptions HmmAlignmentOptions::unsmoothed() {
  HmmAlignmentOptions options;
  options.jump_prior = options.jump_floor = options.beginning_prior = options.identical_prior = 0;
  return options;
}

std::unique_ptr<AlignmentModel> make_hmm_alignment(const AlignmentOptions& options, const HmmAlignmentOptions& hmm) {
  check<ArgumentError>(options.iterations >= 0, "hmm: iterations is ", options.iterations, "; at least 0 is needed");
  check<ArgumentError>(hmm.ibm1_iterations >= 0, "hmm: ibm1_iterations is ", hmm.ibm1_iterations,
                       "; at least 0 is needed");
  check<ArgumentError>(hmm.reach >= 1 && hmm.reach <= 1000, "hmm: reach is ", hmm.reach, "; 1 to 1000 is needed");
  check<ArgumentError>(hmm.null_probability > 0 && hmm.null_probability < 1, "hmm: null_probability is ",
                       hmm.null_probability, "; more than 0 and less than 1 is needed");
  check<ArgumentError>(hmm.jump_prior >= 0 && hmm.beginning_prior >= 0 && hmm.identical_prior >= 0 &&
                           hmm.jump_floor >= 0 && hmm.jump_floor <= 1,
                       "hmm: priors must not be negative, and jump_floor must be 0 to 1");
  check<ArgumentError>(hmm.beginning_length >= 1, "hmm: beginning_length is ", hmm.beginning_length,
                       "; at least 1 is needed");
  return std::make_unique<HmmAlignment>(options, hmm);
}

std::unique_ptr<AlignmentModel> make_hmm_alignment_model(const AlignmentOptions& options) {
  return make_hmm_alignment(options);
}

std::unique_ptr<AlignmentModel> load_hmm_alignment_model(const SafeTensors& tensors, std::array<std::int32_t, 2> sizes,
                                                         Device) {
  return std::make_unique<HmmAlignment>(tensors, sizes);
}

}  // namespace dgm
