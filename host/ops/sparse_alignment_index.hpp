// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/ops/sparse_alignment.hpp>

#include "kernels/sparse_alignment.hpp"

namespace dgm {

/// The tensors behind a kernels::AlignmentIndex.
struct AlignmentCells::Index {
  Tensor<int32_t> token_pair;
  Tensor<int64_t> target_begin, source_begin, cell_begin;
  Tensor<int32_t> cell_entry;
  Tensor<int64_t> entry_begin;
  Tensor<int32_t> cell_token, cell_source;
  Tensor<int64_t> pair_position;
  Tensor<int32_t> position_lengths;
  Tensor<int64_t> part_begin;
  Tensor<int32_t> long_entry;
  Tensor<int64_t> long_part;
  Tensor<int64_t> row_offsets;
  kernels::AlignmentIndex pointers;
};

}  // namespace dgm
