// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/hmm_alignment.hpp>

#include <dgm/data/cooccurrence.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/readable.hpp"
#include "host/cpu/parallel.hpp"
#include "host/cpu/tasks.hpp"
#include "host/models/alignment_models.hpp"
#include "host/models/hmm_blocks.hpp"
#include "host/models/hmm_jumps.hpp"
#include "host/models/hmm_translations.hpp"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <numeric>

namespace dgm {
namespace {

using kernels::kHmmStops;

constexpr int kIterations = 4;
constexpr float kFloor = HmmTranslations::kFloor;
constexpr float kWorthKeeping = 1e-6f;
constexpr std::int64_t kDeviceMemory = std::int64_t{8} << 30;

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// ---- the model -----------------------------------------------------------------------------------

std::vector<std::int64_t> frequencies(std::span<const std::int32_t> words, std::int32_t vocabulary) {
  std::vector<std::int64_t> result(at(vocabulary));
  for (const std::int32_t word : words) {
    if (word >= 0) ++result[at(word)];
  }
  return result;
}

class HmmAlignment : public AlignmentModel {
 public:
  HmmAlignment(const AlignmentOptions& options, const HmmAlignmentOptions& hmm)
      : directions_(options.directions),
        iterations_(options.iterations > 0 ? options.iterations : kIterations),
        hmm_(hmm),
        device_(options.device),
        memory_(options.device_memory > 0 ? options.device_memory : kDeviceMemory) {}
  HmmAlignment(const SafeTensors& file, std::array<std::int32_t, 2> sizes, Device device);

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

  void keep(const HmmTranslations& translations, const Cooccurrence& pattern);
  // Cells of both directions, in place.
  void from_translations_to_posteriors(const HmmText& text, std::vector<float> (&cells)[2]) const;

  AlignmentDirections directions_;
  int iterations_ = kIterations;
  HmmAlignmentOptions hmm_;
  Device device_;
  std::int64_t memory_ = kDeviceMemory;
  mutable std::mutex device_mutex_;  // launches of one call after those of another

  std::int32_t sources_ = 0, targets_ = 0;  // of the text as it is generated
  std::array<HmmJumps, 2> jumps_;
  std::vector<std::int64_t> row_offsets_ = {0};
  std::vector<std::int32_t> entry_targets_;
  std::vector<float> forward_, reverse_;
  std::vector<float> null_forward_, null_reverse_;
};

// The parameters of one direction where launches can read them.
struct Parameters {
  Readable<std::int32_t> word_class;
  Readable<float> weight, move, stop, null;
  const HmmJumps& jumps;

  Parameters(const HmmJumps& of, const std::vector<float>& null_translations, const Stream& stream)
      : word_class(of.word_class, stream),
        weight(of.weight, stream),
        move(of.move, stream),
        stop(of.stop, stream),
        null(null_translations, stream),
        jumps(of) {}
};

// Where a pass of one direction leaves its results; the cells' posteriors take the place of the emissions.
struct PassResults {
  float* cells;
  float* null;          // null: not wanted
  float* log_marginal;  // null: not wanted
  std::int64_t* counts = nullptr;
  std::int64_t count_copies = 1;
};

void run_pass(const Stream& stream, const HmmText& text, bool target_states, const Parameters& parameters,
              const PassResults& results) {
  run(stream, kernels::HmmPass{.block = text.block,
                               .target_states = target_states,
                               .logs = false,
                               .emission = results.cells,
                               .state_words = target_states ? text.target_words : text.source_words,
                               .step_words = target_states ? text.source_words : text.target_words,
                               .null_emission = parameters.null.data(),
                               .word_class = parameters.word_class.data(),
                               .classes = parameters.jumps.classes,
                               .reach = parameters.jumps.reach,
                               .jump = parameters.weight.data(),
                               .log_jump = nullptr,
                               .move = parameters.move.data(),
                               .stop = parameters.jumps.stop.empty() ? nullptr : parameters.stop.data(),
                               .weight = nullptr,
                               .count_scale = nullptr,
                               .posterior = results.cells,
                               .null_posterior = results.null,
                               .log_marginal = results.log_marginal,
                               .counts = results.counts,
                               .count_copies = results.count_copies,
                               .cells = text.cells,
                               .source_words = text.source_tokens,
                               .target_words = text.target_tokens,
                               .scratch = nullptr});
}

// The expected counts of an iteration, where launches add them up.
class Expectations {
 public:
  Expectations(HmmTranslations& translations, const std::array<HmmJumps, 2>& jumps, bool both, bool first_order,
               std::int64_t pairs, const Stream& stream)
      : translations_(translations),
        stream_(stream),
        cuda_(stream.device().is_cuda()),
        copies_(cuda_ ? 1 : cpu_threads()),
        links_(zeros(cuda_ ? std::ssize(translations.counts) : 0)),
        null_{zeros(std::ssize(translations.null_counts_forward)), zeros(std::ssize(translations.null_counts_reverse))},
        jumps_{zeros(first_order ? jumps[0].layout().size() * copies_ : 0),
               zeros(first_order && both ? jumps[1].layout().size() * copies_ : 0)},
        log_marginal_{Tensor<float>::zeros({pairs}, stream), Tensor<float>::zeros({both ? pairs : 0}, stream)} {
    translations.clear_counts();
  }

  float* log_marginal(int direction, const HmmText& text) { return log_marginal_[direction].data() + text.first_pair; }
  std::int64_t* jumps(int direction) { return jumps_[direction].data(); }
  std::int64_t jump_copies() const { return copies_; }

  void add_links(const Stream& stream, const HmmText& text, const float* posteriors) {
    run(stream, kernels::HmmScatter{.block = text.block,
                                    .pattern = text.pattern,
                                    .cells = posteriors,
                                    .null_cells = nullptr,
                                    .target_words = nullptr,
                                    .target_tokens = 0,
                                    .scale = nullptr,
                                    .entries = std::ssize(translations_.counts),
                                    .sums = translations_.counts.data(),
                                    .scratch = nullptr,
                                    .fixed = cuda_ ? links_.data() : nullptr});
  }
  void add_null(const Stream& stream, int direction, std::int64_t tokens, const std::int32_t* words,
                const float* posteriors) {
    run(stream, kernels::HmmNullCounts{tokens, words, posteriors, null_[direction].data()});
  }

  // To the host. Waits for the device.
  void collect() {
    const auto number = [](std::int64_t fixed) { return static_cast<double>(fixed) / kernels::kHmmFixed; };
    if (cuda_) {
      auto links = Tensor<float>::empty(links_.shape(), stream_);
      run(stream_, kernels::HmmFromFixed{links.size(), links_.data(), links.data()});
      std::vector<float>& to = translations_.counts;
      detail::copy_to_host(to.data(), links.data(), stream_, to.size() * sizeof(float));
    }
    for (int direction = 0; direction < 2; ++direction) {
      std::vector<double>& to = direction == 0 ? translations_.null_counts_forward : translations_.null_counts_reverse;
      const std::vector<std::int64_t> sums = null_[direction].to_host();
      std::transform(sums.begin(), sums.end(), to.begin(), number);
    }
  }
  std::vector<std::int64_t> jump_counts(int direction, std::int64_t size) const {
    std::vector<std::int64_t> counts = jumps_[direction].to_host();
    for (std::size_t i = at(size); i < counts.size(); ++i) counts[i % at(size)] += counts[i];
    counts.resize(at(size));
    return counts;
  }
  double log_likelihood(int direction) const {
    const std::vector<float> values = log_marginal_[direction].to_host();
    return std::accumulate(values.begin(), values.end(), 0.0);
  }

 private:
  Tensor<std::int64_t> zeros(std::int64_t size) const { return Tensor<std::int64_t>::zeros({size}, stream_); }

  HmmTranslations& translations_;
  Stream stream_;
  bool cuda_;
  std::int64_t copies_;
  Tensor<std::int64_t> links_;
  std::array<Tensor<std::int64_t>, 2> null_, jumps_;
  std::array<Tensor<float>, 2> log_marginal_;
};

void HmmAlignment::train(const Bitext& bitext, const Report& report) {
  BitextView view = BitextView::of(bitext);
  if (reversed()) view = view.reversed();
  std::int64_t words[2] = {0, 0};
  for (std::int64_t p = 0; p < view.pairs(); ++p) {
    const std::int64_t n = view.source_offsets[at(p + 1)] - view.source_offsets[at(p)];
    const std::int64_t m = view.target_offsets[at(p + 1)] - view.target_offsets[at(p)];
    if (n > 0 && m > 0) words[0] += m, words[1] += n;
  }
  check<ArgumentError>(words[0] > 0, "hmm: none of the ", bitext.pairs(),
                       " pairs has words on both sides; nothing to train on");

  const Vocabulary& source = reversed() ? *bitext.target : *bitext.source;
  const Vocabulary& target = reversed() ? *bitext.source : *bitext.target;
  sources_ = source.size();
  targets_ = target.size();
  const Stream stream = device_;
  const Cooccurrence pattern(view, HmmBlocks::options(view, stream, memory_));
  HmmBlocks blocks(pattern, view, stream, memory_, both() ? Directions::both : Directions::one);
  HmmTranslations t(pattern, source, target, hmm_, both());
  jumps_[0] = HmmJumps(hmm_, frequencies(view.source_words, sources_));
  jumps_[1] = both() ? HmmJumps(hmm_, frequencies(view.target_words, targets_)) : HmmJumps();

  const int directions = both() ? 2 : 1;
  const int of = hmm_.ibm1_iterations + iterations_;
  for (int iteration = 1; iteration <= of; ++iteration) {
    const auto start = std::chrono::steady_clock::now();
    const bool first_order = iteration > hmm_.ibm1_iterations;
    Expectations counts(t, jumps_, both(), first_order, view.pairs(), stream);
    const Readable forward(t.forward, stream);
    const Readable reverse(t.reverse, stream);
    const Parameters parameters[2] = {{jumps_[0], t.null_forward, stream}, {jumps_[1], t.null_reverse, stream}};
    blocks.for_each([&](HmmBlocks::Lane& lane, const HmmText& text) {
      float* const cells[2] = {lane.forward.data(), lane.reverse.data()};
      float* const null[2] = {lane.null_forward.data(), lane.null_reverse.data()};
      run(lane.stream,
          kernels::HmmLookup{
              text.block, text.pattern, {forward.data(), both() ? reverse.data() : nullptr}, {cells[0], cells[1]}});
      for (int d = 0; d < directions; ++d) {
        const bool target_states = d == 1;
        const std::int32_t* const step_words = target_states ? text.source_words : text.target_words;
        if (first_order) {
          run_pass(lane.stream, text, target_states, parameters[d],
                   {cells[d], null[d], counts.log_marginal(d, text), counts.jumps(d), counts.jump_copies()});
        } else {
          run(lane.stream, kernels::HmmIndependent{text.block, target_states, step_words, parameters[d].null.data(),
                                                   nullptr, cells[d], null[d], counts.log_marginal(d, text), nullptr});
        }
        counts.add_null(lane.stream, d, target_states ? text.source_tokens : text.target_tokens, step_words, null[d]);
      }
      if (both()) run(lane.stream, kernels::HmmProduct{text.cells, cells[0], cells[1]});
      counts.add_links(lane.stream, text, cells[0]);
    });
    counts.collect();
    t.update();
    AlignmentIteration told{.stage = first_order ? "hmm" : "ibm1", .iteration = iteration, .of = of};
    for (int d = 0; d < directions; ++d) {
      if (first_order) jumps_[d].update(counts.jump_counts(d, jumps_[d].layout().size()), hmm_);
      const int direction = reversed() ? 1 : d;
      told.log_likelihood[direction] = counts.log_likelihood(d);
      told.words[direction] = words[d];
    }
    told.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (report) report(told);
  }
  keep(t, pattern);
}

void HmmAlignment::keep(const HmmTranslations& t, const Cooccurrence& pattern) {
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

  std::vector<std::int64_t> cell_begin = {0};
  for (std::size_t p = 0; p < at(pairs); ++p) {
    cell_begin.push_back(cell_begin.back() +
                         std::int64_t{source_begin[p + 1] - source_begin[p]} * (target_begin[p + 1] - target_begin[p]));
  }
  std::vector<float> cells[2];
  cells[0].resize(at(cell_begin.back()));
  if (both()) cells[1].resize(at(cell_begin.back()));

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
      const std::int64_t to = cell_begin[place.pair] + std::int64_t{place.token - source_begin[place.pair]} * m;
      for (std::uint32_t k = 0; k < m; ++k) {
        const std::array<float, 2>& v = value[at(words[k] + 1)];
        cells[0][at(to + k)] = v[0];
        if (both()) cells[1][at(to + k)] = v[1];
      }
    }
    for (std::int64_t k = begin; k < end; ++k) value[at(entry_targets_[at(k)]) + 1] = {kFloor, kFloor};
  });

  from_translations_to_posteriors({.block = {pairs, source_begin.data(), target_begin.data(), cell_begin.data()},
                                   .pattern = {},
                                   .source_words = source_words,
                                   .target_words = target_words,
                                   .target_entries = nullptr,
                                   .first_pair = 0,
                                   .cells = cell_begin.back(),
                                   .source_tokens = source_begin.back(),
                                   .target_tokens = target_begin.back()},
                                  cells);

  std::vector<float>& generated = reversed() ? out.reverse : out.forward;
  (reversed() ? out.forward : out.reverse).clear();
  if (reversed()) {  // its sources are the targets: rows as they are wanted
    generated = std::move(cells[0]);
    out.offsets = std::move(cell_begin);
    return;
  }
  generated.resize(cells[0].size());
  if (both()) out.reverse.resize(cells[1].size());
  cpu::parallel_ranges(pairs, 64, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t p = begin; p < end; ++p) {
      const std::int64_t n = source_begin[at(p + 1)] - source_begin[at(p)];
      const std::int64_t m = target_begin[at(p + 1)] - target_begin[at(p)];
      const auto transpose = [&](const std::vector<float>& from, std::vector<float>& to) {
        const float* const x = from.data() + cell_begin[at(p)];
        float* const y = to.data() + cell_begin[at(p)];
        for (std::int64_t j = 0; j < n; ++j) {
          for (std::int64_t i = 0; i < m; ++i) y[i * n + j] = x[j * m + i];
        }
      };
      transpose(cells[0], out.forward);
      if (both()) transpose(cells[1], out.reverse);
    }
  });
  out.offsets = std::move(cell_begin);
}

void HmmAlignment::from_translations_to_posteriors(const HmmText& host, std::vector<float> (&cells)[2]) const {
  const Stream stream = device_;
  const bool cuda = device_.is_cuda();
  std::unique_lock<std::mutex> one_at_a_time(device_mutex_, std::defer_lock);
  if (cuda) one_at_a_time.lock();
  const auto pairs = at(host.block.pairs) + 1;
  const Readable<std::uint32_t> source_begin(std::span(host.block.source_begin, pairs), stream);
  const Readable<std::uint32_t> target_begin(std::span(host.block.target_begin, pairs), stream);
  const Readable<std::int64_t> cell_begin(std::span(host.block.cell_begin, pairs), stream);
  const Readable<std::int32_t> source_words(std::span(host.source_words, at(host.source_tokens)), stream);
  const Readable<std::int32_t> target_words(std::span(host.target_words, at(host.target_tokens)), stream);
  HmmText text = host;
  text.block = {host.block.pairs, source_begin.data(), target_begin.data(), cell_begin.data()};
  text.source_words = source_words.data();
  text.target_words = target_words.data();
  for (int d = 0; d < (both() ? 2 : 1); ++d) {
    const Parameters parameters(jumps_[at(d)], d == 0 ? null_forward_ : null_reverse_, stream);
    if (!cuda) {
      run_pass(stream, text, d == 1, parameters, {cells[d].data(), nullptr, nullptr});
      continue;
    }
    auto values = Tensor<float>::from(cells[d], {host.cells}, stream);
    run_pass(stream, text, d == 1, parameters, {values.data(), nullptr, nullptr});
    detail::copy_to_host(cells[d].data(), values.data(), stream, cells[d].size() * sizeof(float));
  }
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

HmmAlignment::HmmAlignment(const SafeTensors& file, std::array<std::int32_t, 2> sizes, Device device)
    : device_(device) {
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
    HmmJumps& jumps = jumps_[k];
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
                                                         Device device) {
  return std::make_unique<HmmAlignment>(tensors, sizes, device);
}

}  // namespace dgm
