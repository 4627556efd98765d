// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/neural_translation_table.hpp>
#include <dgm/nn/initialiser.hpp>
#include <dgm/ops/activations.hpp>
#include <dgm/ops/affine.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/embedding.hpp>
#include <dgm/ops/reductions.hpp>

#include "host/core/check.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <unordered_map>

namespace dgm {

namespace {

// Rows that log_table() computes at a time, so that what embeddings need does not grow with the vocabulary.
constexpr std::size_t kRowsAtATime = 4096;

/// The first `count` letters of UTF-8, or nothing if the word has no more than these.
std::string_view beginning(std::string_view word, int32_t count) {
  std::size_t end = 0;
  for (int32_t letters = 0; letters < count && end < word.size(); ++letters) {
    do {
      ++end;
    } while (end < word.size() && (static_cast<unsigned char>(word[end]) & 0xC0u) == 0x80u);
  }
  return end < word.size() ? word.substr(0, end) : std::string_view();
}

std::string_view ending(std::string_view word, int32_t count) {
  std::size_t begin = word.size();
  for (int32_t letters = 0; letters < count && begin > 0; ++letters) {
    do {
      --begin;
    } while (begin > 0 && (static_cast<unsigned char>(word[begin]) & 0xC0u) == 0x80u);
  }
  return begin > 0 ? word.substr(begin) : std::string_view();
}

}  // namespace

NeuralTranslationTable::NeuralTranslationTable(std::shared_ptr<const Cooccurrence> pattern, const Vocabulary* words,
                                               const Stream& stream, const NeuralTableOptions& options)
    : pattern_(std::move(pattern)), stream_(stream), options_(options), parameters_(std::make_unique<Parameters>()) {
  constexpr const char* kName = "NeuralTranslationTable";
  check<ArgumentError>(options.width >= 1, kName, ": width is ", options.width, "; at least 1 is needed");
  check<ArgumentError>(options.batch >= 1, kName, ": batch is ", options.batch, "; at least 1 is needed");
  check<ArgumentError>(options.half_life > 0 && options.half_life <= 1e9, kName, ": half_life is ", options.half_life,
                       "; more than 0 and at most 1e9 is needed");
  check<ArgumentError>(options.beginnings >= 0 && options.endings >= 0, kName, ": beginnings are ", options.beginnings,
                       " and endings ", options.endings, "; at least 0 is needed");
  check<ArgumentError>(words == nullptr || words->size() == pattern_->source_vocabulary(), kName, ": there are ",
                       words == nullptr ? 0 : words->size(), " words, but the pattern's vocabulary has ",
                       pattern_->source_vocabulary());
  number_features(words);
  const int64_t width = options_.width;
  const int64_t targets = pattern_->target_vocabulary() + 1;  // the last: unknown
  const auto add = [&](const char* name, const Shape& shape, const Initialiser& values) {
    parameters_->add(name, values(shape, options_.seed, parameters_->size(), stream_));
  };
  add("embedding", {features_, width}, Initialiser::normal(0.5f));
  add("hidden.weight", {width, width}, Initialiser::glorot_uniform());
  add("hidden.bias", {width}, Initialiser::zeros());
  add("output.weight", {targets, width}, Initialiser::normal(0.02f));
  add("output.bias", {targets}, Initialiser::zeros());
  AdamOptions adam_options;
  const int64_t batches = (pattern_->rows() + options_.batch - 1) / options_.batch;
  const double updates = std::ceil(options_.half_life * static_cast<double>(batches));
  adam_options.rate = Schedule::exponential(options_.rate, 0.5, static_cast<int64_t>(updates));
  adam_options.goal = Goal::maximise;
  optimiser_ = std::make_unique<Optimiser>(adam(*parameters_, adam_options));
}

void NeuralTranslationTable::number_features(const Vocabulary* words) {
  const int64_t rows = pattern_->rows();
  const bool letters = words != nullptr && options_.beginnings + options_.endings > 0;
  features_of_word_ = 1 + (letters ? options_.beginnings + options_.endings : 0);
  word_features_.assign(static_cast<std::size_t>(rows * features_of_word_), -1);
  features_ = static_cast<int32_t>(rows);
  for (int64_t row = 0; row < rows; ++row) {
    word_features_[static_cast<std::size_t>(row * features_of_word_)] = static_cast<int32_t>(row);
  }
  if (!letters) return;
  // What one word alone has tells nothing that the word does not.
  std::unordered_map<std::string, int32_t> count;
  std::unordered_map<std::string, int32_t> number;
  const auto visit = [&](const auto& body) {
    for (int32_t id = 0; id < words->size(); ++id) {
      int64_t at = (int64_t{id} + 1) * features_of_word_ + 1;
      for (int32_t n = 1; n <= options_.beginnings; ++n) body(at++, "<", beginning(words->word(id), n));
      for (int32_t n = 1; n <= options_.endings; ++n) body(at++, ">", ending(words->word(id), n));
    }
  };
  visit([&](int64_t, const char* kind, std::string_view part) {
    if (!part.empty()) ++count[kind + std::string(part)];
  });
  visit([&](int64_t at, const char* kind, std::string_view part) {
    if (part.empty()) return;
    const std::string name = kind + std::string(part);
    if (count[name] < 2) return;
    const auto [found, fresh] = number.try_emplace(name, features_);
    if (fresh) ++features_;
    word_features_[static_cast<std::size_t>(at)] = found->second;
  });
}

Variable NeuralTranslationTable::compute(const std::function<Variable(Parameter&)>& use,
                                         std::span<const int32_t> rows) const {
  std::vector<int32_t> features;
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> targets;
  for (const int32_t row : rows) {
    const auto first = word_features_.begin() + row * features_of_word_;
    features.insert(features.end(), first, first + features_of_word_);
    const int64_t begin = pattern_->row_offsets()[static_cast<std::size_t>(row)];
    const int64_t end = pattern_->row_offsets()[static_cast<std::size_t>(row) + 1];
    targets.insert(targets.end(), pattern_->entry_targets().begin() + begin, pattern_->entry_targets().begin() + end);
    offsets.push_back(static_cast<int64_t>(targets.size()));
  }
  const auto count = static_cast<int64_t>(rows.size());
  Parameters& p = *parameters_;
  const Variable embedded =
      sum(embedding(use(p["embedding"]), Tensor<int32_t>::from(features, {count, features_of_word_}, stream_)), 1);
  const Variable hidden = tanh(affine(embedded, use(p["hidden.weight"]), use(p["hidden.bias"])));
  return linear_categorical(
      hidden, use(p["output.weight"]), use(p["output.bias"]), Tensor<int64_t>::from(offsets, {count + 1}, stream_),
      Tensor<int32_t>::from(targets, {static_cast<int64_t>(targets.size())}, stream_), options_.products);
}

Variable NeuralTranslationTable::log_table(Tape& tape, std::span<const int32_t> rows) {
  return compute([&](Parameter& parameter) { return tape.watch(parameter); }, rows);
}

Variable NeuralTranslationTable::log_table(Tape& tape) {
  std::vector<int32_t> rows(static_cast<std::size_t>(pattern_->rows()));
  std::iota(rows.begin(), rows.end(), 0);
  return log_table(tape, rows);
}

Tensor<float> NeuralTranslationTable::table() const { return exp(log_table()).value(); }

Tensor<float> NeuralTranslationTable::log_table() const {
  auto table = Tensor<float>::empty({pattern_->entries()}, stream_);
  std::vector<int32_t> rows(static_cast<std::size_t>(pattern_->rows()));
  std::iota(rows.begin(), rows.end(), 0);
  for (std::size_t first = 0; first < rows.size(); first += kRowsAtATime) {
    const std::size_t last = std::min(first + kRowsAtATime, rows.size());
    const Variable part = compute([](Parameter& parameter) { return Variable(parameter.value); },
                                  std::span(rows).subspan(first, last - first));
    table.rows(pattern_->row_offsets()[first], pattern_->row_offsets()[last]).copy_from(part.value());
  }
  return table;
}

void NeuralTranslationTable::begin_with_frequencies(const std::vector<float>& counts) {
  // Half a word more than was counted: no target word begins as impossible.
  std::vector<double> total(static_cast<std::size_t>(pattern_->target_vocabulary()) + 1, 0.5);
  for (std::size_t e = 0; e < counts.size(); ++e) {
    total[static_cast<std::size_t>(pattern_->entry_targets()[e])] += static_cast<double>(counts[e]);
  }
  const double sum = std::accumulate(total.begin(), total.end(), 0.0);
  std::vector<float> bias;
  for (const double words : total) bias.push_back(static_cast<float>(std::log(words / sum)));
  Tensor<float>& value = (*parameters_)["output.bias"].value;
  value.copy_from(Tensor<float>::from(bias, value.shape(), stream_));
}

void NeuralTranslationTable::climb(const Tensor<float>& counts) {
  check<ShapeError>(counts.shape() == Shape{pattern_->entries()}, "NeuralTranslationTable::climb: counts has shape ",
                    counts.shape().str(), "; (entries) = (", pattern_->entries(), ",) is needed");
  const std::vector<float> all = counts.to_host();
  if (epochs_ == 0) begin_with_frequencies(all);
  std::vector<int32_t> rows(static_cast<std::size_t>(pattern_->rows()));
  std::iota(rows.begin(), rows.end(), 0);
  std::mt19937_64 generator(options_.seed + static_cast<uint64_t>(epochs_++));
  // std::shuffle may differ between libraries.
  for (std::size_t i = rows.size(); i > 1; --i) std::swap(rows[i - 1], rows[generator() % i]);
  std::vector<float> g;
  const auto batch = static_cast<std::size_t>(options_.batch);
  for (std::size_t first = 0; first < rows.size(); first += batch) {
    const auto part = std::span(rows).subspan(first, std::min(batch, rows.size() - first));
    g.clear();
    for (const int32_t row : part) {
      const std::size_t old = g.size();
      const auto begin = all.begin() + pattern_->row_offsets()[static_cast<std::size_t>(row)];
      g.insert(g.end(), begin, all.begin() + pattern_->row_offsets()[static_cast<std::size_t>(row) + 1]);
      double total = 0;
      for (std::size_t i = old; i < g.size(); ++i) total += static_cast<double>(g[i]);
      const auto scale = static_cast<float>(total > 0 ? 1 / std::sqrt(total) : 0);
      for (std::size_t i = old; i < g.size(); ++i) g[i] *= scale;
    }
    parameters_->zero_grad();
    Tape tape;
    const Variable log_t = log_table(tape, part);
    tape.backward(log_t, Tensor<float>::from(g, {static_cast<int64_t>(g.size())}, stream_));
    optimiser_->step();
  }
}

}  // namespace dgm
