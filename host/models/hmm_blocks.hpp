// SPDX-License-Identifier: Apache-2.0
// The text of an HMM in training, a block of pairs after the other, where launches can read it.
#pragma once

#include <dgm/core/tensor.hpp>
#include <dgm/data/cooccurrence.hpp>

#include "kernels/hmm_alignment.hpp"

#include <memory>
#include <optional>
#include <vector>

namespace dgm {

/// One block of pairs.
struct HmmText {
  kernels::HmmBlock block;
  kernels::HmmPattern pattern;
  const std::int32_t* source_words;  // -1 for unknown ones
  const std::int32_t* target_words;
  const std::int32_t* target_entries;  // the same, and the vocabulary's size for unknown ones: entries of NULL's row
  std::int64_t first_pair, cells, source_tokens, target_tokens;
};

enum class Directions { one, both };

/// All blocks of a text. On the CPU they lie where they are. On a GPU they are copied, each once if they fit into the
/// memory that is allowed, else again in each round: by two streams in turns, so that one's copies go on while the
/// other's kernels run. Nothing waits for the device but copies from the host for the stream that they are queued on.
class HmmBlocks {
 public:
  /// Of which blocks a pattern for that device and memory should be. Sizes change no result.
  static Cooccurrence::Options options(const BitextView& text, const Stream& stream, std::int64_t memory);

  /// memory    bytes of a GPU that the text may take.
  /// directions whose cells the lanes have room for; pattern and text must live as long.
  HmmBlocks(const Cooccurrence& pattern, const BitextView& text, const Stream& stream, std::int64_t memory,
            Directions directions);

  /// What one stream works with.
  struct Lane {
    Stream stream;
    Tensor<float> forward, reverse;            // cells
    Tensor<float> null_forward, null_reverse;  // of target words, of source words
  };

  /// Calls body(lane, text) for each block in order. What it queues on another lane's stream than the first may start
  /// when all is done that was queued on the first before the call.
  template <class Body>
  void for_each(const Body& body) {
    start();
    for (std::size_t b = 0; b < blocks(); ++b) {
      Lane& lane = lanes_[b % lanes_.size()];
      body(lane, text(b, lane));
    }
    finish();
  }
  /// Whether the text is copied anew in each round.
  bool streamed() const { return streamed_; }
  /// The pattern's, for launches.
  const std::int64_t* row_offsets() const {
    return row_offsets_ ? row_offsets_->data() : pattern_.row_offsets().data();
  }

 private:
  // Where the arrays of a block lie in its copy.
  struct Places {
    std::size_t source_begin, target_begin, cell_begin, source_words, target_words, target_entries, row, row_begin,
        row_cells, occurrences, narrow, wide, bytes;
  };

  std::size_t blocks() const { return pattern_.blocks().size(); }
  void start();
  void finish();
  HmmText text(std::size_t b, const Lane& lane);
  HmmText on_host(std::size_t b) const;
  Places places(std::size_t b) const;
  std::shared_ptr<detail::Buffer> upload(std::size_t b, const Stream& stream);

  const Cooccurrence& pattern_;
  BitextView text_;
  std::vector<std::vector<std::int64_t>> cell_begin_;  // of each block's pairs
  std::vector<std::array<std::int64_t, 2>> cells_;     // of each block's narrow and wide rows
  std::vector<Lane> lanes_;
  std::optional<Tensor<std::int64_t>> row_offsets_;
  std::vector<std::shared_ptr<detail::Buffer>> copies_;  // of blocks, or of those that lanes use
  std::vector<std::uint8_t> staging_;
  bool streamed_ = false;
};

}  // namespace dgm
