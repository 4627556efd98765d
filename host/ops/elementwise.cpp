// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/elementwise.hpp>

#include "host/ops/map.hpp"
#include "host/ops/sum_axis.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/math/scalar_lanes.hpp"
// after the lanes
#include "kernels/math/elementwise-inl.hpp"

#include <algorithm>

namespace dgm {

namespace {

using kernels::Binary;
using kernels::Unary;

Shape broadcast(const char* function, const Shape& a, const Shape& b) {
  const auto rank = static_cast<std::size_t>(std::max(a.rank(), b.rank()));
  check<ShapeError>(rank <= kernels::MapBinary::kMostAxes, function, ": a has shape ", a.str(), " and b ", b.str(),
                    "; at most 8 axes are supported");
  std::vector<int64_t> extents(rank, 1);
  for (int i = -1; i >= -static_cast<int>(rank); --i) {
    const int64_t a_extent = -i <= a.rank() ? a[i] : 1;
    const int64_t b_extent = -i <= b.rank() ? b[i] : 1;
    check<ShapeError>(a_extent == b_extent || a_extent == 1 || b_extent == 1, function, ": a has shape ", a.str(),
                      " but b has shape ", b.str(), "; axes must be equal or 1 to broadcast");
    extents[rank - static_cast<std::size_t>(-i)] = a_extent == 1 ? b_extent : a_extent;
  }
  return Shape(std::move(extents));
}

// The extent of axis i of a shape aligned at the last axis with one of `rank` axes.
int64_t aligned_extent(const Shape& shape, int rank, int i) {
  const int missing = rank - shape.rank();
  return i < missing ? 1 : shape[i - missing];
}

// y = f(a, b); neighbouring axes along which each operand either runs or repeats are made one.
Tensor<float> map_binary(Binary function, const Tensor<float>& a, const Tensor<float>& b, const Shape& shape) {
  auto y = Tensor<float>::empty(shape, a.stream());
  kernels::MapBinary args = {function, a.data(), b.data(), 0, {}, {}, {}, shape.size(), y.data()};
  bool a_runs = false;
  bool b_runs = false;
  for (int i = 0; i < shape.rank(); ++i) {
    const int64_t extent = shape[i];
    if (extent == 1) continue;
    const bool a_has = aligned_extent(a.shape(), shape.rank(), i) != 1;
    const bool b_has = aligned_extent(b.shape(), shape.rank(), i) != 1;
    if (args.axes > 0 && a_has == a_runs && b_has == b_runs) {
      args.extents[args.axes - 1] *= extent;
    } else {
      args.a_strides[args.axes] = a_has ? 1 : 0;
      args.b_strides[args.axes] = b_has ? 1 : 0;
      args.extents[args.axes++] = extent;
    }
    a_runs = a_has;
    b_runs = b_has;
  }
  if (args.axes == 0) args.extents[args.axes++] = 1;
  int64_t a_size = 1;
  int64_t b_size = 1;
  for (int i = args.axes - 1; i >= 0; --i) {
    if (args.a_strides[i] != 0) args.a_strides[i] = a_size, a_size *= args.extents[i];
    if (args.b_strides[i] != 0) args.b_strides[i] = b_size, b_size *= args.extents[i];
  }
  run(a.stream(), args);
  return y;
}

// scale * sum of x (factor) over the axes along which an operand of the given shape repeats.
Tensor<float> sum_to(const Shape& shape, const Tensor<float>& x, const Tensor<float>* factor, double scale) {
  struct Axis {
    int64_t extent;
    bool repeats;
  };
  std::vector<Axis> axes;
  for (int i = 0; i < x.shape().rank(); ++i) {
    const int64_t extent = x.shape()[i];
    if (extent == 1) continue;
    const bool repeats = aligned_extent(shape, x.shape().rank(), i) == 1;
    if (!axes.empty() && axes.back().repeats == repeats) {
      axes.back().extent *= extent;
    } else {
      axes.push_back({extent, repeats});
    }
  }
  Tensor<float> from = x;
  while (true) {
    const auto at = std::find_if(axes.begin(), axes.end(), [](const Axis& axis) { return axis.repeats; });
    int64_t outer = 1;
    int64_t inner = 1;
    for (auto i = axes.begin(); i != axes.end() && i != at; ++i) outer *= i->extent;
    for (auto i = at; i != axes.end() && ++i != axes.end();) inner *= i->extent;
    const int64_t count = at == axes.end() ? 1 : at->extent;
    if (at != axes.end()) axes.erase(at);
    const bool last = std::none_of(axes.begin(), axes.end(), [](const Axis& axis) { return axis.repeats; });
    auto y = Tensor<float>::empty(last ? shape : Shape{outer, inner}, x.stream());
    sum_axis(from, factor, outer, count, inner, last ? scale : 1.0, y);
    if (last) return y;
    from = y;
    factor = nullptr;
  }
}

// g * factor, summed to a shape.
Tensor<float> product_to(const Shape& shape, const Tensor<float>& g, const Tensor<float>& factor) {
  if (shape.size() == g.size()) return map_binary(Binary::kMultiply, g, factor, g.shape()).reshape(shape);
  if (factor.shape() == g.shape()) return sum_to(shape, g, &factor, 1.0);
  return sum_to(shape, map_binary(Binary::kMultiply, g, factor, g.shape()), nullptr, 1.0);
}

// sign * g, summed to a shape.
Tensor<float> signed_to(const Shape& shape, const Tensor<float>& g, float sign) {
  if (shape.size() != g.size()) return sum_to(shape, g, nullptr, sign);
  if (sign > 0) return g.reshape(shape);
  auto y = Tensor<float>::empty(shape, g.stream());
  run(g.stream(), kernels::Map<Unary>{Unary::kScaleShift, {sign, -0.0f}, g.data(), g.size(), y.data()});
  return y;
}

Tensor<float> forward(const char* function, Binary f, const Variable& a, const Variable& b) {
  const Shape shape = broadcast(function, a.shape(), b.shape());
  check_same_stream(function, "a", a.value(), "b", b.value());
  return map_binary(f, a.value(), b.value(), shape);
}

Variable add_scaled(const char* function, Binary f, float b_sign, const Variable& a, const Variable& b) {
  return Tape::record(forward(function, f, a, b), {a, b},
                      [=, a_shape = a.shape(), b_shape = b.shape()](const Tensor<float>& g, Gradients& inputs) {
                        if (inputs.wanted(0)) inputs.add(0, signed_to(a_shape, g, 1.0f));
                        if (inputs.wanted(1)) inputs.add(1, signed_to(b_shape, g, b_sign));
                      });
}

Variable unary(Unary function, const Variable& x, float a = 0, float b = 0) {
  const kernels::Keeps keeps = kernels::scalar::visit(function, [](auto f) { return decltype(f)::kKeeps; });
  return map(function, keeps, {a, b}, x);
}

}  // namespace

Variable add(const Variable& a, const Variable& b) { return add_scaled("add", Binary::kAdd, 1.0f, a, b); }

Variable subtract(const Variable& a, const Variable& b) {
  return add_scaled("subtract", Binary::kSubtract, -1.0f, a, b);
}

Variable multiply(const Variable& a, const Variable& b) {
  return Tape::record(forward("multiply", Binary::kMultiply, a, b), {a, b},
                      [a = a.value(), b = b.value()](const Tensor<float>& g, Gradients& inputs) {
                        if (inputs.wanted(0)) inputs.add(0, product_to(a.shape(), g, b));
                        if (inputs.wanted(1)) inputs.add(1, product_to(b.shape(), g, a));
                      });
}

Variable divide(const Variable& a, const Variable& b) {
  const Tensor<float> y = forward("divide", Binary::kDivide, a, b);
  return Tape::record(y, {a, b}, [y, a_shape = a.shape(), b = b.value()](const Tensor<float>& g, Gradients& inputs) {
    if (inputs.wanted(0)) {
      inputs.add(0, signed_to(a_shape, map_binary(Binary::kDivide, g, b, g.shape()), 1.0f));
    }
    if (inputs.wanted(1)) {
      const Tensor<float> gy = product_to(b.shape(), g, y);
      inputs.add(1, map_binary(Binary::kNegativeQuotient, gy, b, b.shape()));
    }
  });
}

Variable scale_shift(const Variable& x, float factor, float term) { return unary(Unary::kScaleShift, x, factor, term); }
Variable negate(const Variable& x) { return unary(Unary::kScaleShift, x, -1.0f, -0.0f); }
Variable exp(const Variable& x) { return unary(Unary::kExp, x); }
Variable log(const Variable& x) { return unary(Unary::kLog, x); }
Variable sqrt(const Variable& x) { return unary(Unary::kSqrt, x); }
Variable square(const Variable& x) { return unary(Unary::kSquare, x); }
Variable abs(const Variable& x) { return unary(Unary::kAbs, x); }
Variable reciprocal(const Variable& x) { return unary(Unary::kReciprocal, x); }

Variable clamp(const Variable& x, float low, float high) {
  check<ArgumentError>(low <= high, "clamp: low is ", low, " and high is ", high, "; low <= high is needed");
  return unary(Unary::kClamp, x, low, high);
}

}  // namespace dgm
