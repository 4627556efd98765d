// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Sum of all elements.
///
/// x         any shape, f32.
/// returns   rank 0, on x's stream; does not synchronise.
///
/// Gradient  dx = g, everywhere.
/// Edges     the sum of nothing is 0; NaN gives NaN, inf - inf too.
/// Accuracy  terms are added in double: |error| <= kSumError * |y| + 1e-12 sum |x|.
/// Order     fixed by the shape: equal bits whatever the number of threads.
Variable sum(const Variable& x);

/// Sum over one axis: y has x's shape without it. A negative axis counts from the end; otherwise as
/// above. Throws ShapeError if there is no such axis.
Variable sum(const Variable& x, int axis);

/// Mean of all elements, or over one axis: the sum over the number of its terms; otherwise as sum.
/// Throws ShapeError if there are no terms.
Variable mean(const Variable& x);
Variable mean(const Variable& x, int axis);

/// Largest entry of each row: y = max over the last axis.
///
/// x         (..., C) f32 with C >= 1.
/// returns   x's shape without its last axis.
/// Gradient  goes to the largest entry, the first of equals; 0 to all others.
/// Edges     a NaN is larger than any number: the row gives NaN, its gradient goes to the first NaN.
/// Accuracy  exact. Throws ShapeError if x has rank 0 or C = 0.
Variable row_max(const Variable& x);

inline constexpr double kSumError = 1.2e-7;

}  // namespace dgm
