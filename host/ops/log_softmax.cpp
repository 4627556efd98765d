// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/log_softmax.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/log_softmax.hpp"

namespace dgm {

namespace {

Variable normalise(const char* function, const Variable& x, bool exponentiated) {
  const Shape& shape = x.shape();
  check<ShapeError>(shape.rank() >= 1, function, ": x has rank 0; at least 1 axis is needed");
  check<ShapeError>(shape.cols() >= 1, function, ": x has shape ", shape.str(), "; at least 1 column is needed");

  auto y = Tensor<float>::empty(shape, x.stream());
  run(x.stream(), kernels::LogSoftmaxForward{x.value().data(), shape.rows(), shape.cols(), exponentiated, y.data()});

  return Tape::record(y, {x}, [y, exponentiated](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty(y.shape(), y.stream());
    run(y.stream(),
        kernels::LogSoftmaxBackward{y.data(), g.data(), y.shape().rows(), y.shape().cols(), exponentiated, dx.data()});
    inputs.add(0, dx);
  });
}

}  // namespace

Variable log_softmax(const Variable& x) { return normalise("log_softmax", x, false); }

Variable softmax(const Variable& x) { return normalise("softmax", x, true); }

}  // namespace dgm
