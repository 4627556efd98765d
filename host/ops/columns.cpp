// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/columns.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/columns.hpp"

namespace dgm {

namespace {

Shape with_last(const Shape& shape, int64_t last) {
  std::vector<int64_t> extents = shape.extents();
  extents.back() = last;
  return Shape(std::move(extents));
}

Tensor<float> copy_of(const Tensor<float>& x, int64_t begin, int64_t cols) {
  auto y = Tensor<float>::empty(with_last(x.shape(), cols), x.stream());
  run(x.stream(), kernels::CopyColumns{x.data(), x.shape().cols(), begin, x.shape().rows(), cols, y.data(), cols, 0});
  return y;
}

}  // namespace

Variable columns(const Variable& x, int64_t begin, int64_t end) {
  const Shape shape = x.shape();
  check<ShapeError>(shape.rank() >= 1, "columns: x has rank 0; at least 1 axis is needed");
  check<ShapeError>(0 <= begin && begin <= end && end <= shape.cols(), "columns: [", begin, ", ", end, ") of shape ",
                    shape.str(), "; 0 <= begin <= end <= ", shape.cols(), " is needed");
  return Tape::record(copy_of(x.value(), begin, end - begin), {x}, [=](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty(shape, g.stream());
    run(g.stream(), kernels::PadColumns{g.data(), shape.rows(), end - begin, dx.data(), shape.cols(), begin});
    inputs.add(0, std::move(dx));
  });
}

Variable concatenate(const std::vector<Variable>& parts) {
  check<ArgumentError>(!parts.empty(), "concatenate: there are no parts; at least 1 is needed");
  const Shape& first = parts.front().shape();
  int64_t cols = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const Shape& shape = parts[i].shape();
    check<ShapeError>(shape.rank() >= 1 && shape.without_last() == first.without_last(), "concatenate: part ", i,
                      " has shape ", shape.str(), " but part 0 has ", first.str(), "; only the last axis may differ");
    check_same_stream("concatenate", "part 0", parts.front().value(), "a part", parts[i].value());
    cols += shape.cols();
  }
  auto y = Tensor<float>::empty(with_last(first, cols), parts.front().stream());
  std::vector<int64_t> widths;
  int64_t begin = 0;
  for (const Variable& part : parts) {
    const int64_t width = part.shape().cols();
    run(y.stream(),
        kernels::CopyColumns{part.value().data(), width, 0, y.shape().rows(), width, y.data(), cols, begin});
    begin += width;
    widths.push_back(width);
  }
  return Tape::record(std::move(y), parts, [widths](const Tensor<float>& g, Gradients& inputs) {
    int64_t at = 0;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const auto input = static_cast<int>(i);
      if (inputs.wanted(input)) inputs.add(input, copy_of(g, at, widths[i]));
      at += widths[i];
    }
  });
}

}  // namespace dgm
