// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Arithmetic of two arrays, element by element, with NumPy's broadcasting: shapes are aligned at
/// their last axes, and an axis that is missing or of extent 1 repeats.
///
/// a, b      f32, of shapes that broadcast to one; up to 8 axes.
/// returns   the common shape, on a's stream; does not synchronise.
///
/// Gradient  of a repeated operand the sum over its repetitions, in double and in a fixed order.
///           add: (g, g); subtract: (g, -g); multiply: (g b, g a); divide: (g / b, -g y / b).
/// Edges     IEEE 754's: 0 / 0 is NaN, and so on.
/// Accuracy  values correctly rounded; gradients to kElementwiseError of the terms' absolute sum.
/// Throws    ShapeError if the shapes do not broadcast, DeviceError if the streams differ.
Variable add(const Variable& a, const Variable& b);
Variable subtract(const Variable& a, const Variable& b);
Variable multiply(const Variable& a, const Variable& b);
Variable divide(const Variable& a, const Variable& b);

/// Functions of each element: x's shape, on x's stream; none synchronises. NaN gives NaN, a limit that
/// exists is reached at infinity. |error| <= kElementwiseError * |y|, of a gradient * |dx|; results below
/// 1.2e-38 to 1.5e-45.

/// factor x + term. Gradient factor g.
Variable scale_shift(const Variable& x, float factor, float term);
/// -x.
Variable negate(const Variable& x);
/// Gradient g y.
Variable exp(const Variable& x);
/// Natural logarithm; -inf at 0, NaN below. Gradient g / x.
Variable log(const Variable& x);
/// NaN below 0. Gradient g / (2 y), infinite at 0.
Variable sqrt(const Variable& x);
/// x^2. Gradient 2 x g.
Variable square(const Variable& x);
/// |x|. Gradient g sign(x), at 0 it is 0.
Variable abs(const Variable& x);
/// 1 / x. Gradient -g y^2.
Variable reciprocal(const Variable& x);
/// x moved into [low, high]. Gradient g where low <= x <= high, else 0.
/// Throws ArgumentError unless low <= high.
Variable clamp(const Variable& x, float low, float high);

inline constexpr double kElementwiseError = 3e-7;

inline Variable operator+(const Variable& a, const Variable& b) { return add(a, b); }
inline Variable operator-(const Variable& a, const Variable& b) { return subtract(a, b); }
inline Variable operator*(const Variable& a, const Variable& b) { return multiply(a, b); }
inline Variable operator/(const Variable& a, const Variable& b) { return divide(a, b); }
inline Variable operator-(const Variable& x) { return negate(x); }
inline Variable operator+(const Variable& x, float c) { return scale_shift(x, 1.0f, c); }
inline Variable operator+(float c, const Variable& x) { return scale_shift(x, 1.0f, c); }
inline Variable operator-(const Variable& x, float c) { return scale_shift(x, 1.0f, -c); }
inline Variable operator-(float c, const Variable& x) { return scale_shift(x, -1.0f, c); }
inline Variable operator*(const Variable& x, float c) { return scale_shift(x, c, -0.0f); }
inline Variable operator*(float c, const Variable& x) { return scale_shift(x, c, -0.0f); }
inline Variable operator/(const Variable& x, float c) { return scale_shift(x, 1.0f / c, -0.0f); }
inline Variable operator/(float c, const Variable& x) { return scale_shift(reciprocal(x), c, -0.0f); }

}  // namespace dgm
