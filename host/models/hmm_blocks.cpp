// SPDX-License-Identifier: Apache-2.0
#include "host/models/hmm_blocks.hpp"

#include "host/core/check.hpp"

#include <algorithm>
#include <array>
#include <cstring>

namespace dgm {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

// Bytes of a cell in the two lanes: of its entry, of its values in both directions, and of a pass's scratch.
constexpr std::int64_t kBytesPerCell = 2 * (2 + 2 * 4 + 2 * 8 + 8);
constexpr std::int64_t kMostCells = std::int64_t{1} << 24;  // more work than that fills any GPU

}  // namespace

Cooccurrence::Options HmmBlocks::options(const BitextView& text, const Stream& stream, std::int64_t memory) {
  Cooccurrence::Options result;
  if (!stream.device().is_cuda()) return result;
  double cells = 0;
  double words = 0;
  for (std::int64_t p = 0; p < text.pairs(); ++p) {
    const auto n = static_cast<double>(text.source_offsets[at(p + 1)] - text.source_offsets[at(p)]);
    const auto m = static_cast<double>(text.target_offsets[at(p + 1)] - text.target_offsets[at(p)]);
    cells += n * m;
    words += std::max(n, m);
  }
  // Half the memory is for the blocks at work.
  const auto most = static_cast<double>(std::clamp<std::int64_t>(memory / 2 / kBytesPerCell, 1, kMostCells));
  result.block_words = static_cast<std::int64_t>(std::clamp(most * words / std::max(cells, 1.0), 1.0, 0x1p24));
  return result;
}

HmmBlocks::HmmBlocks(const Cooccurrence& pattern, const BitextView& text, const Stream& stream, std::int64_t memory,
                     Directions directions)
    : pattern_(pattern), text_(text) {
  std::int64_t most_cells = 0;
  std::int64_t most_sources = 0;
  std::int64_t most_targets = 0;
  for (const Cooccurrence::Block& block : pattern.blocks()) {
    std::vector<std::int64_t>& begin = cell_begin_.emplace_back(1, 0);
    for (std::size_t p = 0; p < at(block.pairs()); ++p) {
      begin.push_back(begin.back() + std::int64_t{block.source_length(p)} * block.target_length(p));
    }
    most_cells = std::max(most_cells, begin.back());
    most_sources = std::max(most_sources, std::int64_t{block.source_begin.back()});
    most_targets = std::max(most_targets, std::int64_t{block.target_begin.back()});
  }
  const bool cuda = stream.device().is_cuda();
  for (int lane = 0; lane < (cuda ? 2 : 1); ++lane) {
    const Stream own = lane == 0 ? stream : Stream::create(stream.device());
    lanes_.push_back({own, Tensor<float>::empty({most_cells}, own),
                      Tensor<float>::empty({directions == Directions::both ? most_cells : 0}, own),
                      Tensor<float>::empty({most_targets}, own), Tensor<float>::empty({most_sources}, own)});
  }
  if (!cuda) return;
  row_offsets_ = Tensor<std::int64_t>::from(pattern.row_offsets(),
                                            {static_cast<std::int64_t>(pattern.row_offsets().size())}, stream);
  std::size_t bytes = 0;
  for (std::size_t b = 0; b < blocks(); ++b) {
    std::array<std::int64_t, 2>& cells = cells_.emplace_back();
    const Cooccurrence::Block& block = pattern.blocks()[b];
    for (std::size_t r = 0; r < block.rows.size(); ++r) {
      for (std::uint32_t o = block.row_begin[r]; o < block.row_begin[r + 1]; ++o) {
        cells[pattern.is_wide(block.rows[r]) ? 1 : 0] += block.target_length(block.occurrences[o].pair);
      }
    }
    bytes += places(b).bytes;
  }
  streamed_ = bytes > at(std::max<std::int64_t>(memory, 0) / 2);
  copies_.resize(streamed_ ? lanes_.size() : blocks());
}

void HmmBlocks::start() {
  if (lanes_.size() > 1) lanes_[0].stream.synchronize();
}

void HmmBlocks::finish() {
  for (const Lane& lane : lanes_) {
    if (lanes_.size() > 1) lane.stream.synchronize();
  }
}

HmmText HmmBlocks::on_host(std::size_t b) const {
  const Cooccurrence::Block& block = pattern_.blocks()[b];
  const std::vector<std::int64_t>& cell_begin = cell_begin_[b];
  return {.block = {block.pairs(), block.source_begin.data(), block.target_begin.data(), cell_begin.data()},
          .pattern = {.rows = std::ssize(block.rows),
                      .row = block.rows.data(),
                      .row_begin = block.row_begin.data(),
                      .row_cells = block.cell_begin.data(),
                      .occurrences = reinterpret_cast<const std::uint16_t*>(block.occurrences.data()),
                      .narrow = block.narrow.get(),
                      .wide = block.wide.get(),
                      .row_offsets = pattern_.row_offsets().data(),
                      .widest_narrow = 65536},
          .source_words = text_.source_words.data() + text_.source_offsets[at(block.first_pair)],
          .target_words = text_.target_words.data() + text_.target_offsets[at(block.first_pair)],
          .target_entries = block.target_words.data(),
          .first_pair = block.first_pair,
          .cells = cell_begin.back(),
          .source_tokens = block.source_begin.back(),
          .target_tokens = block.target_begin.back()};
}

HmmBlocks::Places HmmBlocks::places(std::size_t b) const {
  const Cooccurrence::Block& block = pattern_.blocks()[b];
  Places places = {};
  const auto take = [&](std::size_t count, std::size_t size) {
    const std::size_t place = places.bytes;
    places.bytes += (count * size + 15) / 16 * 16;
    return place;
  };
  places.source_begin = take(block.source_begin.size(), 4);
  places.target_begin = take(block.target_begin.size(), 4);
  places.cell_begin = take(cell_begin_[b].size(), 8);
  places.source_words = take(block.source_begin.back(), 4);
  places.target_words = take(block.target_begin.back(), 4);
  places.target_entries = take(block.target_begin.back(), 4);
  places.row = take(block.rows.size(), 4);
  places.row_begin = take(block.row_begin.size(), 4);
  places.row_cells = take(block.rows.size(), 8);
  places.occurrences = take(block.occurrences.size(), 4);
  places.narrow = take(at(cells_[b][0]), 2);
  places.wide = take(at(cells_[b][1]), 4);
  return places;
}

std::shared_ptr<detail::Buffer> HmmBlocks::upload(std::size_t b, const Stream& stream) {
  const Places places = this->places(b);
  const HmmText host = on_host(b);
  staging_.resize(places.bytes);
  const auto put = [&](std::size_t place, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(staging_.data() + place, from, bytes);
  };
  const std::size_t pairs = at(host.block.pairs);
  const std::size_t rows = at(host.pattern.rows);
  put(places.source_begin, host.block.source_begin, (pairs + 1) * 4);
  put(places.target_begin, host.block.target_begin, (pairs + 1) * 4);
  put(places.cell_begin, host.block.cell_begin, (pairs + 1) * 8);
  put(places.source_words, host.source_words, at(host.source_tokens) * 4);
  put(places.target_words, host.target_words, at(host.target_tokens) * 4);
  put(places.target_entries, host.target_entries, at(host.target_tokens) * 4);
  put(places.row, host.pattern.row, rows * 4);
  put(places.row_begin, host.pattern.row_begin, (rows + 1) * 4);
  put(places.row_cells, host.pattern.row_cells, rows * 8);
  put(places.occurrences, host.pattern.occurrences, at(host.source_tokens) * 4);
  put(places.narrow, host.pattern.narrow, at(cells_[b][0]) * 2);
  put(places.wide, host.pattern.wide, at(cells_[b][1]) * 4);
  auto copy = std::make_shared<detail::Buffer>(stream, places.bytes);
  detail::copy_from_host(copy->data(), stream, staging_.data(), places.bytes);
  return copy;
}

HmmText HmmBlocks::text(std::size_t b, const Lane& lane) {
  HmmText text = on_host(b);
  if (copies_.empty()) return text;
  std::shared_ptr<detail::Buffer>& copy = copies_[streamed_ ? b % lanes_.size() : b];
  if (streamed_ || copy == nullptr) {
    copy.reset();  // to the stream's pool, which gives it again: the copy is queued behind the kernels that read it
    copy = upload(b, lane.stream);
  }
  const Places places = this->places(b);
  const auto move = [&]<class T>(const T*& to, std::size_t place) {
    to = reinterpret_cast<const T*>(static_cast<const std::uint8_t*>(copy->data()) + place);
  };
  move(text.block.source_begin, places.source_begin);
  move(text.block.target_begin, places.target_begin);
  move(text.block.cell_begin, places.cell_begin);
  move(text.source_words, places.source_words);
  move(text.target_words, places.target_words);
  move(text.target_entries, places.target_entries);
  move(text.pattern.row, places.row);
  move(text.pattern.row_begin, places.row_begin);
  move(text.pattern.row_cells, places.row_cells);
  move(text.pattern.occurrences, places.occurrences);
  move(text.pattern.narrow, places.narrow);
  move(text.pattern.wide, places.wide);
  text.pattern.row_offsets = row_offsets();
  return text;
}

}  // namespace dgm
