// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/tensor.hpp>

namespace dgm {

/// A batch of sequences of different lengths, stored as values and offsets, never padded.
/// Sequence b is values[offsets[b]] .. values[offsets[b + 1] - 1].
template <class T>
class Ragged {
 public:
  /// values (total), offsets (B + 1) with offsets[0] = 0, non-decreasing, offsets[B] = total;
  /// B >= 0; empty sequences are allowed. Checked once, here.
  /// Throws ArgumentError that names the first bad offset, ShapeError for a wrong rank.
  Ragged(Tensor<T> values, const std::vector<int64_t>& offsets);
  /// Throws ArgumentError if the sequences hold more than 2^62 values.
  static Ragged from(const std::vector<std::vector<T>>& sequences, const Stream& stream);

  int64_t batch() const { return offsets_.size() - 1; }
  const Tensor<T>& values() const { return values_; }
  /// (B + 1) on the values' stream.
  const Tensor<int64_t>& offsets() const { return offsets_; }
  /// Length of the longest sequence, 0 for an empty batch.
  int64_t longest() const { return longest_; }
  std::vector<std::vector<T>> to_host() const;

 private:
  Tensor<T> values_;
  Tensor<int64_t> offsets_;
  int64_t longest_;
};

extern template class Ragged<float>;
extern template class Ragged<int32_t>;

}  // namespace dgm
