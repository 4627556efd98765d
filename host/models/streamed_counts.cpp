// SPDX-License-Identifier: Apache-2.0
#include "host/models/streamed_counts.hpp"

#include "host/core/dispatch.hpp"
#include "kernels/sparse_alignment.hpp"

#include <numeric>

namespace dgm {

bool StreamedCounts::needed(const BitextView& text, const Stream& stream, int64_t memory) {
  if (!stream.device().is_cuda()) return false;
  constexpr double kBytesPerCell = 12;
  constexpr double kBytesPerWord = 20 + kBytesPerCell;  // NULL's cells are the words
  double bytes = 0;
  for (int64_t p = 0; p < text.pairs(); ++p) {
    const auto n = static_cast<double>(text.source_offsets[p + 1] - text.source_offsets[p]);
    const auto m = static_cast<double>(text.target_offsets[p + 1] - text.target_offsets[p]);
    bytes += m * (n * kBytesPerCell + kBytesPerWord);
  }
  return bytes > static_cast<double>(memory);
}

StreamedCounts::StreamedCounts(std::shared_ptr<const Cooccurrence> pattern, const BitextView& text,
                               const Stream& stream, int64_t memory)
    : pattern_(std::move(pattern)), stream_(stream), blocks_(*pattern_, text, stream, memory, Directions::one) {}

AlignmentCounts StreamedCounts::counts(const Tensor<float>& table, const Tensor<float>* diagonal) {
  AlignmentCounts result = {Tensor<float>::empty({pattern_->entries()}, stream_),
                            Tensor<float>::zeros({pattern_->pairs()}, stream_), Tensor<double>::zeros({3}, stream_)};
  auto fixed = Tensor<int64_t>::zeros({pattern_->entries()}, stream_);
  auto distance = Tensor<float>::zeros({diagonal != nullptr ? pattern_->pairs() : 0}, stream_);
  blocks_.for_each([&](HmmBlocks::Lane& lane, const HmmText& text) {
    run(lane.stream,
        kernels::HmmLookup{text.block, text.pattern, {table.data(), nullptr}, {lane.forward.data(), nullptr}});
    // NULL's row comes first and has an entry for each word: the word itself.
    run(lane.stream,
        kernels::HmmIndependent{.block = text.block,
                                .target_states = false,
                                .step_words = text.target_entries,
                                .null_emission = table.data() - 1,
                                .diagonal = diagonal != nullptr ? diagonal->data() : nullptr,
                                .cells = lane.forward.data(),
                                .null_posterior = lane.null_forward.data(),
                                .log_marginal = result.log_marginal.data() + text.first_pair,
                                .distance = diagonal != nullptr ? distance.data() + text.first_pair : nullptr});
    run(lane.stream, kernels::HmmScatter{.block = text.block,
                                         .pattern = text.pattern,
                                         .cells = lane.forward.data(),
                                         .null_cells = lane.null_forward.data(),
                                         .target_words = text.target_entries,
                                         .target_tokens = text.target_tokens,
                                         .scale = nullptr,
                                         .entries = pattern_->entries(),
                                         .sums = result.counts.data(),
                                         .scratch = nullptr,
                                         .fixed = fixed.data()});
  });
  run(stream_, kernels::HmmFromFixed{pattern_->entries(), fixed.data(), result.counts.data()});
  const auto sum = [](const std::vector<float>& values) { return std::accumulate(values.begin(), values.end(), 0.0); };
  const int64_t words = pattern_->row_offsets()[1];
  const std::vector<double> totals = {sum(result.log_marginal.to_host()), sum(result.counts.rows(0, words).to_host()),
                                      sum(distance.to_host())};
  result.totals = Tensor<double>::from(totals, {3}, stream_);
  return result;
}

void StreamedCounts::normalise(const Tensor<float>& counts, float alpha, Tensor<float>& table) {
  run(stream_, kernels::NormaliseRows{blocks_.row_offsets(), pattern_->rows(), counts.data(), alpha, table.data()});
}

}  // namespace dgm
