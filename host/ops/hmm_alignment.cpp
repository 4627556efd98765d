// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/hmm_alignment.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/hmm_alignment.hpp"

#include <cstring>
#include <vector>

namespace dgm {

namespace {

template <class T>
Tensor<std::int32_t> upload_words(const std::vector<T>& values, const Stream& stream) {
  std::vector<std::int32_t> words(values.begin(), values.end());
  return Tensor<std::int32_t>::from(words, {static_cast<std::int64_t>(words.size())}, stream);
}

Tensor<std::int64_t> upload(const std::vector<std::int64_t>& values, const Stream& stream) {
  return Tensor<std::int64_t>::from(values, {static_cast<std::int64_t>(values.size())}, stream);
}

template <class T>
Tensor<std::uint8_t> upload_bytes(const T* values, std::size_t count, const Stream& stream) {
  return Tensor<std::uint8_t>::from({reinterpret_cast<const std::uint8_t*>(values), count * sizeof(T)},
                                    {static_cast<std::int64_t>(count * sizeof(T))}, stream);
}

}  // namespace

// What a batch holds, checked and complete, on the host.
struct HmmBatchContent {
  const Cooccurrence::Block& block;
  std::int64_t classes;
  std::vector<std::int32_t> classes_of;  // word w at w + 1
  std::vector<std::int64_t> cell_begin = {0};
  std::vector<std::int32_t> states;
  std::size_t narrow = 0, wide = 0;  // cells of rows of either width

  HmmBatchContent(const Cooccurrence& pattern, std::size_t number, std::span<const std::int32_t> word_class,
                  std::int64_t class_count)
      : block(checked(pattern, number)), classes(class_count) {
    for (const std::int32_t word : block.target_words) {
      check<ArgumentError>(word < pattern.target_vocabulary(), "HmmBatch: block ", number,
                           " has an unknown target word (-1); the table has no entry for it");
    }
    read_classes(pattern, word_class);
    for (std::size_t p = 0; p < static_cast<std::size_t>(block.pairs()); ++p) {
      cell_begin.push_back(cell_begin.back() + std::int64_t{block.source_length(p)} * block.target_length(p));
    }
    states.assign(block.occurrences.size(), -1);
    for (std::size_t r = 0; r < block.rows.size(); ++r) {
      const std::int32_t word = block.rows[r] - 1 < pattern.source_vocabulary() ? block.rows[r] - 1 : -1;
      for (std::uint32_t o = block.row_begin[r]; o < block.row_begin[r + 1]; ++o) {
        const auto& [pair, position] = block.occurrences[o];
        states[block.source_begin[pair] + position] = word;
        (pattern.is_wide(block.rows[r]) ? wide : narrow) += block.target_length(pair);
      }
    }
  }

 private:
  static const Cooccurrence::Block& checked(const Cooccurrence& pattern, std::size_t number) {
    check<ArgumentError>(number < pattern.blocks().size(), "HmmBatch: there is no block ", number, " among ",
                         pattern.blocks().size());
    return pattern.blocks()[number];
  }

  void read_classes(const Cooccurrence& pattern, std::span<const std::int32_t> word_class) {
    check<ArgumentError>(classes >= 1, "HmmBatch: classes is ", classes, "; at least 1 is needed");
    check<ArgumentError>(word_class.empty() || std::ssize(word_class) == pattern.source_vocabulary(),
                         "HmmBatch: word_class has ", word_class.size(), " words; ", pattern.source_vocabulary(),
                         " are needed");
    classes_of.assign(static_cast<std::size_t>(pattern.source_vocabulary()) + 1, 0);
    for (std::size_t w = 0; w < word_class.size(); ++w) {
      check<ArgumentError>(word_class[w] >= 0 && word_class[w] < classes, "HmmBatch: word_class[", w,
                           "] = ", word_class[w], "; 0 <= class < ", classes, " is needed");
      classes_of[w + 1] = word_class[w];
    }
  }
};

struct HmmBatchAccess {
  static kernels::HmmBlock block(const HmmBatch& b) {
    return {b.pairs_, reinterpret_cast<const std::uint32_t*>(b.source_begin_.data()),
            reinterpret_cast<const std::uint32_t*>(b.target_begin_.data()), b.cell_begin_.data()};
  }
  static kernels::HmmPattern pattern(const HmmBatch& b) {
    return {.rows = b.rows_,
            .row = b.row_.data(),
            .row_begin = reinterpret_cast<const std::uint32_t*>(b.row_begin_.data()),
            .row_cells = b.row_cells_.data(),
            .occurrences = reinterpret_cast<const std::uint16_t*>(b.occurrences_.data()),
            .narrow = reinterpret_cast<const std::uint16_t*>(b.narrow_.data()),
            .wide = reinterpret_cast<const std::uint32_t*>(b.wide_.data()),
            .row_offsets = b.row_offsets_.data(),
            .widest_narrow = 65536};
  }
  static const Tensor<std::int32_t>& states(const HmmBatch& b) { return b.states_; }
  static const Tensor<std::int32_t>& targets(const HmmBatch& b) { return b.targets_; }
  static const Tensor<std::int32_t>& classes_of(const HmmBatch& b) { return b.classes_of_; }
};

namespace {

struct Shapes {
  const char* function;
  const HmmBatch& batch;

  void check_all(const Tensor<float>& log_table, const Tensor<float>& log_jump, const Tensor<float>& log_move) const {
    check_shape(function, "log_table", log_table, {batch.entries()}, "(entries)");
    check<ShapeError>(log_jump.shape().rank() == 2 && log_jump.shape()[0] == batch.classes() + 1 &&
                          log_jump.shape()[1] >= 3 && log_jump.shape()[1] % 2 == 1,
                      function, ": log_jump has shape ", log_jump.shape().str(), "; (classes + 1, 2 reach + 3) with ",
                      batch.classes() + 1, " rows is needed");
    check_shape(function, "log_move", log_move, {2}, "(2)");
    for (const auto& [name, tensor] :
         {std::pair{"log_table", &log_table}, std::pair{"log_jump", &log_jump}, std::pair{"log_move", &log_move}}) {
      check<DeviceError>(tensor->stream() == batch.stream(), function, ": ", name, " is on ", tensor->device().name(),
                         " but the batch is on ", batch.stream().device().name(),
                         "; all arguments must be on one stream");
    }
  }
};

// One run over the batch, weighted or not.
struct Run {
  Tensor<float> link, null, log_marginal;
  Tensor<std::int64_t> counts;
};

Run run_pass(const Tensor<float>& log_table, const Tensor<float>& log_jump, const Tensor<float>& log_move,
             const HmmBatch& batch, bool posteriors, const Tensor<float>* weight, const Tensor<float>* scale) {
  const Stream& stream = batch.stream();
  const std::int64_t buckets = log_jump.shape()[1];
  auto emission = Tensor<float>::empty({batch.cells()}, stream);
  run(stream, kernels::HmmLookup{HmmBatchAccess::block(batch),
                                 HmmBatchAccess::pattern(batch),
                                 {log_table.data(), nullptr},
                                 {emission.data(), nullptr}});
  auto jump = Tensor<float>::empty(log_jump.shape(), stream);
  auto move = Tensor<float>::empty({2}, stream);
  run(stream,
      kernels::HmmWeights{log_jump.data(), log_jump.shape()[0], buckets, log_move.data(), jump.data(), move.data()});
  const kernels::HmmCountsLayout layout = {batch.classes(), buckets};
  Run result = {Tensor<float>::empty({posteriors ? batch.cells() : 0}, stream),
                Tensor<float>::empty({posteriors ? batch.target_words() : 0}, stream),
                Tensor<float>::empty({batch.pairs()}, stream),
                Tensor<std::int64_t>::zeros({weight != nullptr ? layout.size() : 0}, stream)};
  run(stream, kernels::HmmPass{.block = HmmBatchAccess::block(batch),
                               .target_states = false,
                               .logs = true,
                               .emission = emission.data(),
                               .state_words = HmmBatchAccess::states(batch).data(),
                               .step_words = HmmBatchAccess::targets(batch).data(),
                               .null_emission = log_table.data() - 1,  // word w at w + 1; there are no unknown words
                               .word_class = HmmBatchAccess::classes_of(batch).data(),
                               .classes = batch.classes(),
                               .reach = static_cast<int>((buckets - 3) / 2),
                               .jump = jump.data(),
                               .log_jump = log_jump.data(),
                               .move = move.data(),
                               .stop = nullptr,
                               .weight = weight != nullptr ? weight->data() : nullptr,
                               .count_scale = scale != nullptr ? scale->data() : nullptr,
                               .posterior = posteriors ? result.link.data() : nullptr,
                               .null_posterior = posteriors ? result.null.data() : nullptr,
                               .log_marginal = result.log_marginal.data(),
                               .counts = weight != nullptr ? result.counts.data() : nullptr,
                               .count_copies = 1,
                               .cells = batch.cells(),
                               .source_words = batch.source_words(),
                               .target_words = batch.target_words(),
                               .scratch = nullptr});
  return result;
}

}  // namespace

HmmBatch::HmmBatch(const Cooccurrence& pattern, std::size_t block, const Stream& stream,
                   std::span<const std::int32_t> word_class, std::int64_t classes)
    : HmmBatch(pattern, HmmBatchContent(pattern, block, word_class, classes), stream) {}

HmmBatch::HmmBatch(const Cooccurrence& pattern, const HmmBatchContent& content, const Stream& stream)
    : pairs_(content.block.pairs()),
      cells_(content.cell_begin.back()),
      source_words_(std::ssize(content.states)),
      target_words_(content.block.target_tokens()),
      entries_(pattern.entries()),
      classes_(content.classes),
      rows_(std::ssize(content.block.rows)),
      source_begin_(upload_words(content.block.source_begin, stream)),
      target_begin_(upload_words(content.block.target_begin, stream)),
      row_(upload_words(content.block.rows, stream)),
      row_begin_(upload_words(content.block.row_begin, stream)),
      states_(upload_words(content.states, stream)),
      targets_(upload_words(content.block.target_words, stream)),
      classes_of_(upload_words(content.classes_of, stream)),
      cell_begin_(upload(content.cell_begin, stream)),
      row_cells_(upload(content.block.cell_begin, stream)),
      row_offsets_(upload(pattern.row_offsets(), stream)),
      occurrences_(upload_bytes(content.block.occurrences.data(), content.block.occurrences.size(), stream)),
      narrow_(upload_bytes(content.block.narrow.get(), content.narrow, stream)),
      wide_(upload_bytes(content.block.wide.get(), content.wide, stream)) {}

Variable hmm_alignment(const Variable& log_table, const Variable& log_jump, const Variable& log_move,
                       const HmmBatch& batch) {
  const Shapes shapes = {"hmm_alignment", batch};
  shapes.check_all(log_table.value(), log_jump.value(), log_move.value());
  Run forward = run_pass(log_table.value(), log_jump.value(), log_move.value(), batch, false, nullptr, nullptr);
  return Tape::record(forward.log_marginal, {log_table, log_jump, log_move},
                      [table = log_table.value(), jump = log_jump.value(), move = log_move.value(), batch](
                          const Tensor<float>& g, Gradients& inputs) {
                        const Stream& stream = batch.stream();
                        auto scale = Tensor<float>::empty({1}, stream);
                        run(stream, kernels::HmmScale{g.data(), batch.pairs(), scale.data()});
                        const Run weighted = run_pass(table, jump, move, batch, true, &g, &scale);
                        if (inputs.wanted(0)) {
                          auto d_table = Tensor<float>::zeros(table.shape(), stream);
                          run(stream, kernels::HmmScatter{.block = HmmBatchAccess::block(batch),
                                                          .pattern = HmmBatchAccess::pattern(batch),
                                                          .cells = weighted.link.data(),
                                                          .null_cells = weighted.null.data(),
                                                          .target_words = HmmBatchAccess::targets(batch).data(),
                                                          .target_tokens = batch.target_words(),
                                                          .scale = scale.data(),
                                                          .entries = batch.entries(),
                                                          .sums = d_table.data(),
                                                          .scratch = nullptr});
                          inputs.add(0, d_table);
                        }
                        auto d_jump = Tensor<float>::empty(jump.shape(), stream);
                        auto d_move = Tensor<float>::empty({2}, stream);
                        run(stream, kernels::HmmGradient{weighted.counts.data(),
                                                         {batch.classes(), jump.shape()[1]},
                                                         scale.data(),
                                                         d_jump.data(),
                                                         d_move.data()});
                        inputs.add(1, d_jump);
                        inputs.add(2, d_move);
                      });
}

HmmPosteriors hmm_alignment_posteriors(const Tensor<float>& log_table, const Tensor<float>& log_jump,
                                       const Tensor<float>& log_move, const HmmBatch& batch) {
  const Shapes shapes = {"hmm_alignment_posteriors", batch};
  shapes.check_all(log_table, log_jump, log_move);
  Run result = run_pass(log_table, log_jump, log_move, batch, true, nullptr, nullptr);
  return {result.log_marginal, result.link, result.null};
}

}  // namespace dgm
