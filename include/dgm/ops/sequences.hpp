// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

#include <cstdint>
#include <memory>
#include <vector>

namespace dgm {

/// The order in which recurrent ops read a ragged batch: step by step, and within a step the longer sequences first. So
/// the sequences that are still going on at a step are its first rows, and nothing is padded: with lengths (2, 3, 0),
/// a_0 a_1 of sequence 0 and b_0 b_1 b_2 of sequence 1, the packed order is b_0 a_0 | b_1 a_1 | b_2.
///
/// Computed once on the host, from lengths that the host must know. A handle: copies share it.
class SequenceLayout {
 public:
  enum class Direction { forward, backward };

  /// lengths   of B sequences whose values lie one sequence behind the other; 0 is allowed, as is no sequence at all.
  /// direction backward: packed from each sequence's last value to its first, for the second half of a bidirectional
  ///           layer.
  /// Throws ArgumentError for a negative length or 2^31 values and more.
  SequenceLayout(const std::vector<int64_t>& lengths, const Stream& stream, Direction direction = Direction::forward);
  /// Sequences of one length.
  static SequenceLayout uniform(int64_t batch, int64_t length, const Stream& stream);

  int64_t batch() const;
  /// Values of all sequences together, T.
  int64_t total() const;
  /// The longest length.
  int64_t steps() const;
  const Stream& stream() const;
  /// Where each step begins in the packed order, and T: steps() + 1 numbers.
  const std::vector<int64_t>& step_begin() const;
  /// Whether no sequence is longer than the one before it: then a step's rows are in the order of the sequences.
  bool sorted() const;

  /// For ops; on the stream. step_begin() again; the sequence of each rank and the rank of each sequence (B); the place
  /// of packed row p among the values and the packed row of a value (T); the sequence of packed row p (T); the packed
  /// row of each sequence's last step (B), -1 for an empty one, and its sequence for such a row, -1 for others (T).
  struct Index {
    Tensor<int64_t> step_begin, sequence_of_rank, rank_of_sequence, place_of_row, row_of_place, sequence_of_row,
        last_row, last_of_row;
  };
  const Index& index() const;

 private:
  struct State;
  explicit SequenceLayout(std::shared_ptr<const State> state) : state_(std::move(state)) {}
  std::shared_ptr<const State> state_;
};

/// Values in packed order, and back.
///
/// values    (T, ...), T = layout.total(); of rank at least 1.
/// returns   the same shape, on values' stream; does not synchronise.
/// Gradient  the other of the two of g. Accuracy: exact.
/// Throws    ShapeError, DeviceError if values and layout are on different streams.
Variable pack(const Variable& values, const SequenceLayout& layout);
Variable unpack(const Variable& packed, const SequenceLayout& layout);
Tensor<int32_t> pack(const Tensor<int32_t>& values, const SequenceLayout& layout);
Tensor<int32_t> unpack(const Tensor<int32_t>& packed, const SequenceLayout& layout);

/// Sum over the steps of each sequence: y[b] = sum of the rows of packed that belong to sequence b.
///
/// packed    (T) or (T, C) f32 in packed order.
/// returns   (B) or (B, C); 0 for an empty sequence.
/// Gradient  g[b] in every row of sequence b.
/// Accuracy  added in double, in the order of the steps: |error| <= kSequenceSumError * |y| + 1e-12 sum |x|.
/// Throws    as pack.
Variable sequence_sum(const Variable& packed, const SequenceLayout& layout);

/// Each sequence's row at its every step: y[p] = x[b] for the packed rows p of sequence b.
///
/// x         (B) or (B, C). returns (T) or (T, C). Gradient: sequence_sum of g. Otherwise as pack.
Variable sequence_spread(const Variable& x, const SequenceLayout& layout);

/// The row of each sequence's last step: of a recurrent layer's states, the state it ends with.
///
/// packed    (T, C). returns (B, C), zeros for an empty sequence.
/// Gradient  g[b] in that row, 0 in the others. Otherwise as pack.
Variable sequence_last(const Variable& packed, const SequenceLayout& layout);

inline constexpr double kSequenceSumError = 1.2e-7;

}  // namespace dgm
