// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/affine.hpp>

#include "host/ops/gemm.hpp"
#include "host/ops/sum_axis.hpp"
#include "kernels/affine.hpp"

#include <limits>

namespace dgm {

namespace {

void check_extents(const char* function, const char* name, const Tensor<float>& matrix) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check<ShapeError>(matrix.shape().rows() <= kMost && matrix.shape().cols() <= kMost, function, ": ", name,
                    " has shape ", matrix.shape().str(), "; fewer than 2^31 rows and columns are needed");
}

Shape with_last(const Shape& shape, int64_t last) {
  std::vector<int64_t> extents = shape.extents();
  extents.back() = last;
  return Shape(std::move(extents));
}

// y = x op(w) (+ bias), op(w) being w^T for affine.
Variable product(const char* function, const char* x_name, const Variable& x, const char* w_name, const Variable& w,
                 bool transposed, const Variable* bias) {
  check<ShapeError>(x.shape().rank() >= 1, function, ": ", x_name, " has rank 0; at least 1 axis is needed");
  const int64_t terms = x.shape().cols();
  check<ShapeError>(w.shape().rank() == 2 && w.shape()[transposed ? 1 : 0] == terms, function, ": ", w_name,
                    " has shape ", w.shape().str(), " but ", x_name, " has shape ", x.shape().str(), "; ",
                    transposed ? "(O, " : "(", terms, transposed ? ")" : ", J)", " is needed");
  check_same_stream(function, x_name, x.value(), w_name, w.value());
  check_extents(function, x_name, x.value());
  check_extents(function, w_name, w.value());
  const int64_t rows = x.shape().rows();
  const int64_t cols = w.shape()[transposed ? 0 : 1];
  auto y = Tensor<float>::empty(with_last(x.shape(), cols), x.stream());
  if (bias != nullptr) {
    check_shape(function, "bias", bias->value(), {cols}, "(O)");
    check_same_stream(function, x_name, x.value(), "bias", bias->value());
    run(x.stream(), kernels::BiasRows{bias->value().data(), rows, cols, y.data()});
  }
  gemm({x.value()}, {w.value(), transposed}, rows, cols, terms, bias != nullptr ? 1.0f : 0.0f, y);

  // An operand is kept only for a gradient that is wanted.
  const auto kept = [](const Variable& operand, bool wanted) {
    return wanted ? operand.value() : Tensor<float>::empty({0}, operand.stream());
  };
  std::vector<Variable> inputs = {x, w};
  if (bias != nullptr) inputs.push_back(*bias);
  return Tape::record(
      std::move(y), inputs,
      [=, x_shape = x.shape(), w_shape = w.shape(), x = kept(x, w.requires_grad()), w = kept(w, x.requires_grad()),
       has_bias = bias != nullptr](const Tensor<float>& g, Gradients& gradients) {
        if (gradients.wanted(0)) {
          auto dx = Tensor<float>::empty(x_shape, g.stream());
          gemm({g}, {w, !transposed}, rows, terms, cols, 0.0f, dx);
          gradients.add(0, std::move(dx));
        }
        if (gradients.wanted(1)) {
          auto dw = Tensor<float>::empty(w_shape, g.stream());
          if (transposed) {
            gemm({g, true}, {x}, cols, terms, rows, 0.0f, dw);
          } else {
            gemm({x, true}, {g}, terms, cols, rows, 0.0f, dw);
          }
          gradients.add(1, std::move(dw));
        }
        if (has_bias && gradients.wanted(2)) {
          auto db = Tensor<float>::empty({cols}, g.stream());
          sum_axis(g, nullptr, 1, rows, cols, 1.0, db);
          gradients.add(2, std::move(db));
        }
      });
}

}  // namespace

Variable affine(const Variable& x, const Variable& weight) {
  return product("affine", "x", x, "weight", weight, true, nullptr);
}

Variable affine(const Variable& x, const Variable& weight, const Variable& bias) {
  return product("affine", "x", x, "weight", weight, true, &bias);
}

Variable matmul(const Variable& a, const Variable& b) { return product("matmul", "a", a, "b", b, false, nullptr); }

}  // namespace dgm
