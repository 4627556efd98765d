// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/reductions.hpp>

#include "host/ops/sum_axis.hpp"
#include "kernels/pick.hpp"

#include <cstdint>

namespace dgm {

namespace {

Variable reduce(const char* function, const Variable& x, Shape shape, int64_t outer, int64_t count, int64_t inner,
                bool is_mean) {
  check<ShapeError>(!is_mean || count > 0, function, ": x has shape ", x.shape().str(), "; at least 1 term is needed");
  const double scale = is_mean ? 1.0 / static_cast<double>(count) : 1.0;
  auto y = Tensor<float>::empty(std::move(shape), x.stream());
  sum_axis(x.value(), nullptr, outer, count, inner, scale, y);
  return Tape::record(std::move(y), {x}, [=, x_shape = x.shape()](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty(x_shape, g.stream());
    run(g.stream(), kernels::SpreadAxis{g.data(), outer, count, inner, static_cast<float>(scale), dx.data()});
    inputs.add(0, std::move(dx));
  });
}

Variable reduce_axis(const char* function, const Variable& x, int axis, bool is_mean) {
  const int rank = x.shape().rank();
  const int at = axis < 0 ? axis + rank : axis;
  check<ShapeError>(at >= 0 && at < rank, function, ": axis is ", axis, " but x has shape ", x.shape().str(),
                    " of rank ", rank);
  std::vector<int64_t> extents = x.shape().extents();
  int64_t outer = 1;
  int64_t inner = 1;
  for (int i = 0; i < at; ++i) outer *= extents[static_cast<std::size_t>(i)];
  for (int i = at + 1; i < rank; ++i) inner *= extents[static_cast<std::size_t>(i)];
  extents.erase(extents.begin() + at);
  return reduce(function, x, Shape(std::move(extents)), outer, x.shape()[at], inner, is_mean);
}

}  // namespace

Variable sum(const Variable& x) { return reduce("sum", x, {}, 1, x.shape().size(), 1, false); }
Variable sum(const Variable& x, int axis) { return reduce_axis("sum", x, axis, false); }
Variable mean(const Variable& x) { return reduce("mean", x, {}, 1, x.shape().size(), 1, true); }
Variable mean(const Variable& x, int axis) { return reduce_axis("mean", x, axis, true); }

Variable row_max(const Variable& x) {
  const Shape& shape = x.shape();
  check<ShapeError>(shape.rank() >= 1 && shape.cols() >= 1 && shape.cols() <= INT32_MAX, "row_max: x has shape ",
                    shape.str(), "; (..., C) with 1 <= C < 2^31 is needed");
  auto y = Tensor<float>::empty(shape.without_last(), x.stream());
  auto index = Tensor<int32_t>::empty({shape.rows()}, x.stream());
  run(x.stream(), kernels::RowMax{x.value().data(), shape.rows(), shape.cols(), y.data(), index.data()});
  return Tape::record(std::move(y), {x}, [index, shape](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty(shape, g.stream());
    run(g.stream(), kernels::PickBackward{g.data(), index.data(), shape.rows(), shape.cols(), 1, dx.data()});
    inputs.add(0, std::move(dx));
  });
}

}  // namespace dgm
