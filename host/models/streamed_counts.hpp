// SPDX-License-Identifier: Apache-2.0
// Expected counts of models whose words are independent given their source, over a text that is larger than a GPU.
#pragma once

#include <dgm/ops/sparse_alignment.hpp>

#include "host/models/hmm_blocks.hpp"

namespace dgm {

/// What sparse_alignment_counts and sparse_alignment_normalise are to AlignmentCells, with the text in parts. The same
/// bits for parts of any size; those of AlignmentCells to rounding.
class StreamedCounts {
 public:
  /// Whether the index of AlignmentCells for that text would take more than memory bytes of a GPU.
  static bool needed(const BitextView& text, const Stream& stream, int64_t memory);

  /// pattern   with the blocks of HmmBlocks::options. text must live as long.
  StreamedCounts(std::shared_ptr<const Cooccurrence> pattern, const BitextView& text, const Stream& stream,
                 int64_t memory);

  AlignmentCounts counts(const Tensor<float>& table, const Tensor<float>* diagonal);
  void normalise(const Tensor<float>& counts, float alpha, Tensor<float>& table);

 private:
  std::shared_ptr<const Cooccurrence> pattern_;
  Stream stream_;
  HmmBlocks blocks_;
};

}  // namespace dgm
