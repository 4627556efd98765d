// SPDX-License-Identifier: Apache-2.0
#include <dgm/train/minibatch.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/minibatch.hpp"

#include <limits>

namespace dgm {

MinibatchSampler::MinibatchSampler(int64_t data, int64_t batch, const Draws& draws, const MinibatchOptions& options)
    : data_(data), batch_(batch == 0 ? data : batch), all_(batch == 0), draws_(draws), options_(options) {
  check<ArgumentError>(1 <= data && data < (int64_t{1} << 47), "MinibatchSampler: data is ", data,
                       "; 1 <= data < 2^47 is needed");
  check<ArgumentError>(batch >= 0, "MinibatchSampler: batch is ", batch, "; at least 0 is needed, 0 for all data");
  // Steps stay below 2^30: an entry's place over all epochs fits 63 bits.
  check<ArgumentError>(batch < (int64_t{1} << 32), "MinibatchSampler: batch is ", batch, "; less than 2^32 is needed");
  check<ArgumentError>(all_ || options.sampling != Sampling::epochs || options.last != LastBatch::drop || batch <= data,
                       "MinibatchSampler: batch is ", batch, " and data is ", data,
                       ": LastBatch::drop would leave out all data; batch <= data is needed");
}

Minibatch MinibatchSampler::draw() const {
  const Stream& stream = draws_.step().stream();
  Minibatch result = {Tensor<int64_t>::empty({batch_}, stream), Tensor<float>::empty({batch_}, stream),
                      static_cast<double>(data_) / static_cast<double>(batch_), draws_};
  auto kind = kernels::BatchKind::all;
  if (!all_) {
    kind = options_.sampling == Sampling::with_replacement ? kernels::BatchKind::replacement
           : options_.last == LastBatch::wrap              ? kernels::BatchKind::wrap
           : options_.last == LastBatch::drop              ? kernels::BatchKind::drop
                                                           : kernels::BatchKind::pad;
  }
  run(stream, kernels::DrawMinibatch{draw_args(draws_.at(kMinibatchSite)), kind, data_, batch_, result.indices.data(),
                                     result.weights.data()});
  return result;
}

int64_t MinibatchSampler::steps_per_epoch() const {
  const bool drop = !all_ && options_.sampling == Sampling::epochs && options_.last == LastBatch::drop;
  return drop ? data_ / batch_ : (data_ + batch_ - 1) / batch_;
}

namespace {

template <class T>
Tensor<T> gather(const Tensor<T>& x, const Tensor<int64_t>& indices, T missing) {
  check<ShapeError>(x.shape().rank() >= 1, "gather_rows: x has rank 0; at least 1 axis is needed");
  check<ShapeError>(indices.shape().rank() == 1, "gather_rows: indices has shape ", indices.shape().str(),
                    "; rank 1 is needed");
  check_same_stream("gather_rows", "x", x, "indices", indices);
  std::vector<int64_t> extents = x.shape().extents();
  int64_t cols = 1;
  for (std::size_t axis = 1; axis < extents.size(); ++axis) cols *= extents[axis];
  const int64_t rows = extents[0];
  extents[0] = indices.size();
  auto y = Tensor<T>::empty(Shape(std::move(extents)), x.stream());
  run(x.stream(), kernels::GatherRows<T>{x.data(), rows, cols, indices.data(), indices.size(), missing, y.data()});
  return y;
}

}  // namespace

Tensor<float> gather_rows(const Tensor<float>& x, const Tensor<int64_t>& indices) {
  return gather(x, indices, std::numeric_limits<float>::quiet_NaN());
}

Tensor<int32_t> gather_rows(const Tensor<int32_t>& x, const Tensor<int64_t>& indices) {
  return gather(x, indices, std::numeric_limits<int32_t>::lowest());
}

void scatter_rows(const Tensor<float>& x, const Tensor<int64_t>& indices, Tensor<float>& y) {
  check<ShapeError>(y.shape().rank() >= 1, "scatter_rows: y has rank 0; at least 1 axis is needed");
  check<ShapeError>(indices.shape().rank() == 1, "scatter_rows: indices has shape ", indices.shape().str(),
                    "; rank 1 is needed");
  std::vector<int64_t> extents = y.shape().extents();
  const int64_t rows = extents[0];
  extents[0] = indices.size();
  check_shape("scatter_rows", "x", x, Shape(extents), "as many rows as indices and y's other axes");
  check_same_stream("scatter_rows", "x", x, "indices", indices);
  check_same_stream("scatter_rows", "x", x, "y", y);
  int64_t cols = 1;
  for (std::size_t axis = 1; axis < extents.size(); ++axis) cols *= extents[axis];
  run(x.stream(), kernels::ScatterRows{x.data(), indices.data(), indices.size(), cols, rows, y.data()});
}

}  // namespace dgm
