// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/sequences.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/minibatch.hpp"
#include "kernels/sequences.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <optional>

namespace dgm {

struct SequenceLayout::State {
  Stream stream;
  int64_t batch;
  std::vector<int64_t> step_begin;
  bool sorted;
  std::optional<Index> index;
};

SequenceLayout::SequenceLayout(const std::vector<int64_t>& lengths, const Stream& stream, Direction direction) {
  const auto batch = static_cast<int64_t>(lengths.size());
  std::vector<int64_t> begin = {0};  // of each sequence's values
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    check<ArgumentError>(lengths[b] >= 0, "SequenceLayout: lengths[", b, "] = ", lengths[b],
                         "; no length may be negative");
    check<ArgumentError>(lengths[b] <= std::numeric_limits<int32_t>::max() - begin.back(), "SequenceLayout: lengths[0",
                         "] to lengths[", b, "] come to 2^31 or more; fewer are needed");
    begin.push_back(begin.back() + lengths[b]);
  }
  const auto total = static_cast<std::size_t>(begin.back());
  std::vector<int64_t> order(lengths.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  const auto length = [&](int64_t b) { return lengths[static_cast<std::size_t>(b)]; };
  const bool sorted = std::is_sorted(lengths.rbegin(), lengths.rend());
  if (!sorted) {
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return length(a) > length(b); });
  }

  const int64_t steps = order.empty() ? 0 : length(order.front());
  std::vector<int64_t> step_begin = {0};
  std::vector<int64_t> ranks(lengths.size()), places(total), rows(total), sequences(total), last_of_row(total, -1);
  std::vector<int64_t> last_row(lengths.size(), -1);
  for (int64_t rank = 0; rank < batch; ++rank)
    ranks[static_cast<std::size_t>(order[static_cast<std::size_t>(rank)])] = rank;
  std::size_t row = 0;
  for (int64_t t = 0; t < steps; ++t) {
    for (const int64_t b : order) {
      const int64_t n = length(b);
      if (n <= t) break;
      const int64_t place = begin[static_cast<std::size_t>(b)] + (direction == Direction::forward ? t : n - 1 - t);
      places[row] = place;
      rows[static_cast<std::size_t>(place)] = static_cast<int64_t>(row);
      sequences[row] = b;
      if (t == n - 1) {
        last_row[static_cast<std::size_t>(b)] = static_cast<int64_t>(row);
        last_of_row[row] = b;
      }
      ++row;
    }
    step_begin.push_back(static_cast<int64_t>(row));
  }
  const auto on_stream = [&](const std::vector<int64_t>& values) {
    return Tensor<int64_t>::from(values, {static_cast<int64_t>(values.size())}, stream);
  };
  Index index = {on_stream(step_begin), on_stream(order),     on_stream(ranks),    on_stream(places),
                 on_stream(rows),       on_stream(sequences), on_stream(last_row), on_stream(last_of_row)};
  state_ = std::make_shared<const State>(State{stream, batch, std::move(step_begin), sorted, std::move(index)});
}

SequenceLayout SequenceLayout::uniform(int64_t batch, int64_t length, const Stream& stream) {
  check<ArgumentError>(batch >= 0, "SequenceLayout: batch is ", batch, "; at least 0 is needed");
  return SequenceLayout(std::vector<int64_t>(static_cast<std::size_t>(batch), length), stream);
}

int64_t SequenceLayout::batch() const { return state_->batch; }
int64_t SequenceLayout::total() const { return state_->step_begin.back(); }
int64_t SequenceLayout::steps() const { return static_cast<int64_t>(state_->step_begin.size()) - 1; }
const Stream& SequenceLayout::stream() const { return state_->stream; }
const std::vector<int64_t>& SequenceLayout::step_begin() const { return state_->step_begin; }
bool SequenceLayout::sorted() const { return state_->sorted; }
const SequenceLayout::Index& SequenceLayout::index() const { return *state_->index; }

namespace {

template <class T>
void check_rows(const char* function, const char* name, const Tensor<T>& x, const char* letter, int64_t rows,
                const SequenceLayout& layout) {
  check<ShapeError>(x.shape().rank() >= 1 && x.shape()[0] == rows, function, ": ", name, " has shape ", x.shape().str(),
                    "; (", letter, ", ...) with ", letter, " = ", rows, " is needed");
  check_same_stream(function, name, x, "layout", layout.index().step_begin);
}

int64_t cols_of(const Shape& shape) {
  int64_t cols = 1;
  for (int axis = 1; axis < shape.rank(); ++axis) cols *= shape[axis];
  return cols;
}

// y[i] = x[index[i]], or `missing` where there is no such row.
template <class T>
Tensor<T> gather(const Tensor<T>& x, const Tensor<int64_t>& index, T missing = 0) {
  std::vector<int64_t> extents = x.shape().extents();
  extents[0] = index.size();
  auto y = Tensor<T>::empty(Shape(std::move(extents)), x.stream());
  run(x.stream(), kernels::GatherRows<T>{x.data(), x.shape()[0], cols_of(x.shape()), index.data(), index.size(),
                                         missing, y.data()});
  return y;
}

// Rows by an index whose inverse is another.
Variable gather(const Variable& x, const Tensor<int64_t>& index, const Tensor<int64_t>& inverse) {
  return Tape::record(gather(x.value(), index), {x},
                      [inverse](const Tensor<float>& g, Gradients& inputs) { inputs.add(0, gather(g, inverse)); });
}

Tensor<float> summed(const Tensor<float>& packed, const SequenceLayout& layout) {
  std::vector<int64_t> extents = packed.shape().extents();
  extents[0] = layout.batch();
  auto y = Tensor<float>::empty(Shape(std::move(extents)), packed.stream());
  run(packed.stream(),
      kernels::SequenceSum{packed.data(), layout.index().step_begin.data(), layout.index().sequence_of_rank.data(),
                           layout.steps(), layout.batch(), cols_of(packed.shape()), y.data()});
  return y;
}

}  // namespace

Variable pack(const Variable& values, const SequenceLayout& layout) {
  check_rows("pack", "values", values.value(), "T", layout.total(), layout);
  return gather(values, layout.index().place_of_row, layout.index().row_of_place);
}

Variable unpack(const Variable& packed, const SequenceLayout& layout) {
  check_rows("unpack", "packed", packed.value(), "T", layout.total(), layout);
  return gather(packed, layout.index().row_of_place, layout.index().place_of_row);
}

Tensor<int32_t> pack(const Tensor<int32_t>& values, const SequenceLayout& layout) {
  check_rows("pack", "values", values, "T", layout.total(), layout);
  return gather(values, layout.index().place_of_row);
}

Tensor<int32_t> unpack(const Tensor<int32_t>& packed, const SequenceLayout& layout) {
  check_rows("unpack", "packed", packed, "T", layout.total(), layout);
  return gather(packed, layout.index().row_of_place);
}

Variable sequence_sum(const Variable& packed, const SequenceLayout& layout) {
  check_rows("sequence_sum", "packed", packed.value(), "T", layout.total(), layout);
  return Tape::record(summed(packed.value(), layout), {packed}, [layout](const Tensor<float>& g, Gradients& inputs) {
    inputs.add(0, gather(g, layout.index().sequence_of_row));
  });
}

Variable sequence_spread(const Variable& x, const SequenceLayout& layout) {
  check_rows("sequence_spread", "x", x.value(), "B", layout.batch(), layout);
  return Tape::record(gather(x.value(), layout.index().sequence_of_row), {x},
                      [layout](const Tensor<float>& g, Gradients& inputs) { inputs.add(0, summed(g, layout)); });
}

Variable sequence_last(const Variable& packed, const SequenceLayout& layout) {
  check_rows("sequence_last", "packed", packed.value(), "T", layout.total(), layout);
  return gather(packed, layout.index().last_row, layout.index().last_of_row);
}

}  // namespace dgm
