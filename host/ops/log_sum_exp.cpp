// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/log_sum_exp.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/log_sum_exp.hpp"

#include <cmath>

namespace dgm {

namespace {

Variable reduce_log_exp(const char* function, const Variable& x, bool mean) {
  const Shape& shape = x.shape();
  check<ShapeError>(shape.rank() >= 1, function, ": x has rank 0; at least 1 axis is needed");
  check<ShapeError>(shape.cols() >= 1, function, ": x has shape ", shape.str(), "; at least 1 column is needed");
  const float shift = mean ? static_cast<float>(-std::log(static_cast<double>(shape.cols()))) : 0.0f;

  auto y = Tensor<float>::empty(shape.without_last(), x.stream());
  run(x.stream(), kernels::LogSumExpForward{x.value().data(), shape.rows(), shape.cols(), shift, y.data()});

  return Tape::record(y, {x}, [x = x.value(), y, shift](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty(x.shape(), x.stream());
    run(x.stream(),
        kernels::LogSumExpBackward{x.data(), y.data(), g.data(), x.shape().rows(), x.shape().cols(), shift, dx.data()});
    inputs.add(0, dx);
  });
}

}  // namespace

Variable log_sum_exp(const Variable& x) { return reduce_log_exp("log_sum_exp", x, false); }

Variable log_mean_exp(const Variable& x) { return reduce_log_exp("log_mean_exp", x, true); }

}  // namespace dgm
