// SPDX-License-Identifier: Apache-2.0
// Alignment models whose words are independent given their source: IBM 1, the diagonal reparametrisation of
// model 2, and IBM 1 with a network for a table. They differ in the prior over places and in the maximisation.
#include <dgm/models/neural_translation_table.hpp>
#include <dgm/models/translation_table.hpp>
#include <dgm/ops/sparse_alignment.hpp>

#include "host/core/check.hpp"
#include "host/models/alignment_models.hpp"
#include "host/models/streamed_counts.hpp"
#include "kernels/math/diagonal_prior.hpp"

#include <chrono>
#include <cmath>
#include <limits>
#include <mutex>
#include <optional>

namespace dgm {

namespace {

// Of pairs of words that training did not see together.
constexpr float kFloor = 1e-9f;
constexpr int64_t kDeviceMemory = int64_t{8} << 30;
// As Dyer et al. have them.
constexpr float kLowTension = 0.1f;
constexpr float kHighTension = 14.0f;
constexpr double kTensionRate = 5;
// Of IBM 1, before the network's: a network that has learnt nothing gives counts that say nothing.
constexpr int kFirstIterations = 5;
// Of the network on the first counts; one an iteration follows.
constexpr int kFirstEpochs = 4;

enum class Lexical { ibm1, diagonal, neural };

const char* name_of(Lexical kind) {
  return kind == Lexical::ibm1 ? "ibm1" : kind == Lexical::diagonal ? "diagonal" : "neural";
}

// p(generated words | given words): one direction.
class LexicalDirection {
 public:
  LexicalDirection(Lexical kind, const AlignmentOptions& options)
      : kind_(kind),
        options_(options.diagonal),
        seed_(options.seed),
        memory_(options.device_memory > 0 ? options.device_memory : kDeviceMemory) {}

  // words: those of the given side, for the network's features; may be null.
  void begin(const BitextView& text, const Vocabulary* words, const Stream& stream) {
    const bool streamed = kind_ != Lexical::neural && StreamedCounts::needed(text, stream, memory_);
    pattern_ = std::make_shared<const Cooccurrence>(
        text, streamed ? HmmBlocks::options(text, stream, memory_) : Cooccurrence::Options());
    streamed ? void(streamed_.emplace(pattern_, text, stream, memory_)) : void(cells_.emplace(pattern_, stream));
    if (kind_ == Lexical::neural) network_.emplace(pattern_, words, stream, NeuralTableOptions{.seed = seed_});
    tension_ = options_.tension;
    table_.emplace(Tensor<float>::full({pattern_->entries()},
                                       1.0f / static_cast<float>(std::max(1, text.target_vocabulary)), stream));
  }

  // One iteration of EM; the log likelihood before it.
  double iterate(bool optimise_tension) {
    const std::optional<Tensor<float>> prior = prior_tensor(table_->stream());
    const Tensor<float>* const diagonal = prior ? &*prior : nullptr;
    const AlignmentCounts counts =
        streamed_ ? streamed_->counts(*table_, diagonal) : sparse_alignment_counts(*cells_, *table_, diagonal);
    const std::vector<double> totals = counts.totals.to_host();
    if (is_diagonal() && optimise_tension) {
      const double aligned = static_cast<double>(pattern_->target_tokens()) - totals[1];
      tension_ = static_cast<float>(next_tension(totals[2] / std::max(aligned, 1e-300)));
    }
    const float alpha = is_diagonal() ? options_.alpha : 0.0f;
    if (streamed_) {
      streamed_->normalise(counts.counts, alpha, *table_);
    } else {
      sparse_alignment_normalise(*cells_, counts.counts, alpha, *table_);
    }
    return totals[0];
  }

  // One of generalised EM: the network climbs the expected log-likelihood for some epochs.
  double iterate_network(int epochs) {
    const AlignmentCounts counts = sparse_alignment_counts(*cells_, *table_, nullptr);
    const double before = counts.totals.to_host()[0];
    for (int epoch = 0; epoch < epochs; ++epoch) network_->climb(counts.counts);
    table_->copy_from(network_->table());
    return before;
  }

  int64_t tokens() const { return pattern_->target_tokens(); }

  // Keeps the table; of the text what aligning it needs, or nothing.
  void finish(bool keep_text) {
    result_ = TranslationTable(*pattern_, table_->to_host());
    network_.reset();
    streamed_.reset();
    pattern_.reset();
    if (keep_text && cells_) {
      table_ = tensor(result_.own_values(cells_->pattern(), kFloor), cells_->stream());
    } else {
      cells_.reset();
      table_.reset();
    }
  }

  // Of the pairs first .. last - 1.
  void posteriors(const BitextView& text, int64_t first, int64_t last, const Stream& stream,
                  std::vector<float>& out) const {
    const std::optional<Tensor<float>> prior = prior_tensor(stream);
    const Tensor<float>* const diagonal = prior ? &*prior : nullptr;
    if (cells_ && cells_->pattern().holds(text, first, last)) {
      sparse_alignment_posteriors(*cells_, *table_, diagonal, first, last, out);
      return;
    }
    const AlignmentCells cells(std::make_shared<const Cooccurrence>(text.part(first, last)), stream);
    const Tensor<float> table = tensor(result_.values_for(cells.pattern(), kFloor), stream);
    sparse_alignment_posteriors(cells, table, diagonal, 0, last - first, out);
  }

  // The end of the block of the text that is kept.
  int64_t batch_end(int64_t pair) const {
    if (!cells_) return std::numeric_limits<int64_t>::max();
    const auto& blocks = cells_->pattern().blocks();
    const auto block = std::partition_point(blocks.begin(), blocks.end(),
                                            [&](const Cooccurrence::Block& b) { return b.last_pair <= pair; });
    return block == blocks.end() ? std::numeric_limits<int64_t>::max() : block->last_pair;
  }

  const TranslationTable& table() const { return result_; }

  void save(const std::string& prefix, SafeTensors& to) const {
    result_.save(prefix + ".table", to);
    if (is_diagonal()) to.tensors[prefix + ".prior"] = StoredTensor::of(std::vector<float>{options_.p0, tension_}, {2});
  }
  void load(const std::string& prefix, const SafeTensors& from) {
    result_ = TranslationTable::load(prefix + ".table", from);
    if (!is_diagonal()) return;
    const std::vector<float> prior = from.at(prefix + ".prior").as<float>();
    check<FileError>(prior.size() == 2 && prior[0] >= 0 && prior[0] < 1 && prior[1] >= 0 && prior[1] < INFINITY, prefix,
                     ".prior is no p0 and tension");
    options_.p0 = prior[0];
    tension_ = prior[1];
  }

 private:
  static Tensor<float> tensor(const std::vector<float>& values, const Stream& stream) {
    return Tensor<float>::from(values, {static_cast<int64_t>(values.size())}, stream);
  }

  std::optional<Tensor<float>> prior_tensor(const Stream& stream) const {
    if (!is_diagonal()) return std::nullopt;
    return Tensor<float>::from({options_.p0, tension_}, {2}, stream);
  }

  // A step along the closed-form gradient per word, the difference of the prior's and the posterior's mean distance
  // from the diagonal. Short, once an iteration: the likelihood's optimum (10 and more on real text) is sharper than
  // what links best.
  double next_tension(double wanted) const {
    const auto tension = static_cast<double>(tension_);
    return std::clamp(tension + kTensionRate * (prior_distance(tension) - wanted), static_cast<double>(kLowTension),
                      static_cast<double>(kHighTension));
  }

  double prior_distance(double tension) const {
    double sum = 0;
    double words = 0;
    for (const auto& lengths : pattern_->lengths()) {
      if (lengths.source == 0) continue;
      for (int32_t i = 1; i <= lengths.target; ++i) {
        sum += static_cast<double>(lengths.pairs) * diagonal_sum(i, lengths.target, lengths.source, tension).distance;
      }
      words += static_cast<double>(lengths.pairs) * lengths.target;
    }
    return sum / std::max(words, 1.0);
  }

  bool is_diagonal() const { return kind_ == Lexical::diagonal; }

  Lexical kind_;
  DiagonalOptions options_;
  uint64_t seed_;
  int64_t memory_;
  float tension_ = 0;
  std::shared_ptr<const Cooccurrence> pattern_;
  std::optional<AlignmentCells> cells_;
  std::optional<StreamedCounts> streamed_;  // in the place of cells
  std::optional<NeuralTranslationTable> network_;
  std::optional<Tensor<float>> table_;
  TranslationTable result_;
};

class LexicalAlignment : public AlignmentModel {
 public:
  LexicalAlignment(Lexical kind, const AlignmentOptions& options)
      : kind_(kind), options_(options), sides_{LexicalDirection(kind, options), LexicalDirection(kind, options)} {
    const DiagonalOptions& prior = options.diagonal;
    check<ArgumentError>(options.iterations >= 0, "make_alignment_model: iterations is ", options.iterations,
                         "; at least 0 is needed");
    check<ArgumentError>(prior.p0 >= 0 && prior.p0 < 1, "make_alignment_model: diagonal.p0 is ", prior.p0,
                         "; 0 <= p0 < 1 is needed");
    check<ArgumentError>(prior.tension >= kLowTension && prior.tension <= kHighTension,
                         "make_alignment_model: diagonal.tension is ", prior.tension, "; ", kLowTension, " to ",
                         kHighTension, " are possible");
    check<ArgumentError>(prior.alpha >= 0 && prior.alpha < INFINITY, "make_alignment_model: diagonal.alpha is ",
                         prior.alpha, "; at least 0 is needed");
  }

  LexicalAlignment(Lexical kind, const SafeTensors& tensors, std::array<int32_t, 2> sizes, Device device)
      : LexicalAlignment(kind, AlignmentOptions{.device = device}) {
    bool has[2] = {};
    for (int side = 0; side < 2; ++side) {
      const std::string name = kSides[side];
      has[side] = tensors.tensors.count(name + ".table.values") > 0;
      if (!has[side]) continue;
      sides_[side].load(name, tensors);
      check<FileError>(sides_[side].table().source_vocabulary() == sizes[side] &&
                           sides_[side].table().target_vocabulary() == sizes[1 - side],
                       name, ".table is of other vocabularies than the file's");
    }
    check<FileError>(has[0] || has[1], "there is neither a forward nor a reverse table");
    options_.directions = !has[1]   ? AlignmentDirections::forward
                          : !has[0] ? AlignmentDirections::reverse
                                    : AlignmentDirections::both;
  }

  std::string name() const override { return name_of(kind_); }
  AlignmentDirections directions() const override { return options_.directions; }

  void train(const Bitext& bitext, const Report& report) override {
    const Bitext text = without_half_pairs(bitext);
    const Bitext& used = text.source == nullptr ? bitext : text;
    check<ArgumentError>(!used.source_words.empty() && !used.target_words.empty(),
                         "AlignmentModel::train: no pair has words on both sides");
    const BitextView view = BitextView::of(used);
    const Stream stream = options_.device;
    const bool neural = kind_ == Lexical::neural;
    const int first = neural ? kFirstIterations : 0;
    const int iterations = first + (options_.iterations > 0 ? options_.iterations : neural ? 10 : 5);
    for (int side = 0; side < 2; ++side) {
      if (!has(side)) continue;
      sides_[side].begin(side == 0 ? view : view.reversed(), (side == 0 ? used.source : used.target).get(), stream);
    }
    for (int iteration = 1; iteration <= iterations; ++iteration) {
      const auto start = std::chrono::steady_clock::now();
      AlignmentIteration done;
      const bool network = neural && iteration > first;
      done.stage = neural && !network ? name_of(Lexical::ibm1) : name();
      done.iteration = iteration;
      done.of = iterations;
      for (int side = 0; side < 2; ++side) {
        if (!has(side)) continue;
        // The first table says nothing about places yet.
        done.log_likelihood[side] = network ? sides_[side].iterate_network(iteration == first + 1 ? kFirstEpochs : 1)
                                            : sides_[side].iterate(options_.diagonal.optimise_tension && iteration > 1);
        done.words[side] = sides_[side].tokens();
      }
      done.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (report) report(done);
    }
    for (int side = 0; side < 2; ++side) {
      if (has(side)) sides_[side].finish(options_.keep_text);
    }
  }

  void posteriors(const Bitext& bitext, int64_t first, int64_t last, AlignmentPosteriors& out) const override {
    check<ArgumentError>(0 <= first && first <= last && last <= bitext.pairs(), "posteriors: pairs ", first, " to ",
                         last, " of ", bitext.pairs());
    BitextView text = BitextView::of(bitext);
    // Vocabularies that have grown since: what is in the text decides.
    const auto limit = [&](std::span<const int32_t> words, const std::vector<int64_t>& offsets, int32_t size,
                           const char* side) {
      for (int64_t i = offsets[first]; i < offsets[last]; ++i) {
        check<ArgumentError>(words[i] < size, "posteriors: the ", side, " has word ", words[i], " but the model knows ",
                             size, " words; read the text with the model's vocabularies");
      }
    };
    const LexicalDirection& any = sides_[has(0) ? 0 : 1];
    text.source_vocabulary = has(0) ? any.table().source_vocabulary() : any.table().target_vocabulary();
    text.target_vocabulary = has(0) ? any.table().target_vocabulary() : any.table().source_vocabulary();
    limit(text.source_words, bitext.source_offsets, text.source_vocabulary, "source");
    limit(text.target_words, bitext.target_offsets, text.target_vocabulary, "target");
    out.offsets.assign(1, 0);
    for (int64_t pair = first; pair < last; ++pair) {
      out.offsets.push_back(out.offsets.back() + static_cast<int64_t>(bitext.source_sentence(pair).size() *
                                                                      bitext.target_sentence(pair).size()));
    }
    const Stream stream = options_.device;
    std::unique_lock<std::mutex> one_at_a_time(device_mutex_, std::defer_lock);
    if (options_.device.is_cuda()) one_at_a_time.lock();
    if (!has(0)) out.forward.clear();
    if (!has(1)) out.reverse.clear();
    if (has(0)) sides_[0].posteriors(text, first, last, stream, out.forward);
    if (!has(1)) return;
    // To the reverse model a pair is (source, target); out has (target, source).
    std::vector<float> reverse;
    sides_[1].posteriors(text.reversed(), first, last, stream, reverse);
    out.reverse.resize(reverse.size());
    for (int64_t pair = first; pair < last; ++pair) {
      const auto source = static_cast<int64_t>(bitext.source_sentence(pair).size());
      const auto target = static_cast<int64_t>(bitext.target_sentence(pair).size());
      const int64_t begin = out.offsets[pair - first];
      for (int64_t i = 0; i < target; ++i) {
        for (int64_t j = 0; j < source; ++j) out.reverse[begin + i * source + j] = reverse[begin + j * target + i];
      }
    }
  }

  int64_t batch_end(int64_t pair) const override { return sides_[has(0) ? 0 : 1].batch_end(pair); }

  std::vector<Translation> translations(bool reverse, int32_t word, int64_t most) const override {
    return has(reverse ? 1 : 0) ? sides_[reverse ? 1 : 0].table().best(word, most) : std::vector<Translation>();
  }

  SafeTensors to_tensors() const override {
    SafeTensors tensors;
    for (int side = 0; side < 2; ++side) {
      if (has(side)) sides_[side].save(kSides[side], tensors);
    }
    return tensors;
  }

 private:
  static constexpr const char* kSides[2] = {"forward", "reverse"};

  bool has(int side) const {
    return options_.directions != (side == 0 ? AlignmentDirections::reverse : AlignmentDirections::forward);
  }

  // A copy without the words of pairs that have them on one side only; one without vocabularies if there are none.
  static Bitext without_half_pairs(const Bitext& bitext) {
    Bitext whole;
    bool half = false;
    for (int64_t pair = 0; pair < bitext.pairs() && !half; ++pair) {
      half = bitext.source_sentence(pair).empty() != bitext.target_sentence(pair).empty();
    }
    if (!half) return whole;
    whole.source = bitext.source;
    whole.target = bitext.target;
    for (int64_t pair = 0; pair < bitext.pairs(); ++pair) {
      const auto source = bitext.source_sentence(pair);
      const auto target = bitext.target_sentence(pair);
      if (!source.empty() && !target.empty()) {
        whole.source_words.insert(whole.source_words.end(), source.begin(), source.end());
        whole.target_words.insert(whole.target_words.end(), target.begin(), target.end());
      }
      whole.source_offsets.push_back(static_cast<int64_t>(whole.source_words.size()));
      whole.target_offsets.push_back(static_cast<int64_t>(whole.target_words.size()));
    }
    return whole;
  }

  Lexical kind_;
  AlignmentOptions options_;
  LexicalDirection sides_[2];
  mutable std::mutex device_mutex_;  // launches of one call after those of another
};

}  // namespace

std::unique_ptr<AlignmentModel> make_ibm1(const AlignmentOptions& options) {
  return std::make_unique<LexicalAlignment>(Lexical::ibm1, options);
}
std::unique_ptr<AlignmentModel> make_diagonal(const AlignmentOptions& options) {
  return std::make_unique<LexicalAlignment>(Lexical::diagonal, options);
}
std::unique_ptr<AlignmentModel> make_neural(const AlignmentOptions& options) {
  return std::make_unique<LexicalAlignment>(Lexical::neural, options);
}
std::unique_ptr<AlignmentModel> load_ibm1(const SafeTensors& tensors, std::array<int32_t, 2> sizes, Device device) {
  return std::make_unique<LexicalAlignment>(Lexical::ibm1, tensors, sizes, device);
}
std::unique_ptr<AlignmentModel> load_diagonal(const SafeTensors& tensors, std::array<int32_t, 2> sizes, Device device) {
  return std::make_unique<LexicalAlignment>(Lexical::diagonal, tensors, sizes, device);
}
std::unique_ptr<AlignmentModel> load_neural(const SafeTensors& tensors, std::array<int32_t, 2> sizes, Device device) {
  return std::make_unique<LexicalAlignment>(Lexical::neural, tensors, sizes, device);
}

}  // namespace dgm
