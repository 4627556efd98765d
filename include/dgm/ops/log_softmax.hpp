// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Log of a softmax over the last axis: y[b,k] = x[b,k] - log sum_j exp(x[b,j]).
///
/// x         (..., K) f32, natural logs; any number of rows, K >= 1; entries may be -inf.
/// returns   x's shape, f32, on x's stream; does not synchronise.
///
/// Gradient  dx[b,k] = g[b,k] - exp(y[b,k]) sum_j g[b,j], from the saved result; an entry of y = -inf
///           has no gradient, and its g is left out of the sum.
/// Edges     an entry of -inf gives -inf; a row of -inf alone has no distribution: it gives -inf and no
///           gradient; +inf gives NaN at its place, -inf at the others; any NaN makes its row NaN.
/// Accuracy  |error| <= kLogSoftmaxError * max(1, |y|); of the gradient kLogSoftmaxError *
///           (|g[b,k]| + exp(y[b,k]) (1 + |y[b,k]|) sum_j |g[b,j]|).
/// Throws    ShapeError if K = 0 or x has rank 0.
Variable log_softmax(const Variable& x);

/// Softmax over the last axis: y[b,k] = exp(x[b,k]) / sum_j exp(x[b,j]).
///
/// Shapes, streams and errors as for log_softmax.
/// Gradient  dx[b,k] = y[b,k] (g[b,k] - sum_j y[b,j] g[b,j]), from the saved result; entries of y = 0
///           have no gradient, and their g is left out of the sum.
/// Edges     an entry of -inf gives 0; a row of -inf alone gives zeros, the total that it has, and no
///           gradient; +inf gives NaN at its place, 0 at the others; any NaN makes its row NaN.
/// Accuracy  |error| <= kSoftmaxError * y + 2e-38; of the gradient kSoftmaxError * y[b,k]
///           (|g[b,k]| + sum_j y[b,j] |g[b,j]|).
Variable softmax(const Variable& x);

inline constexpr double kLogSoftmaxError = 1e-6;
inline constexpr double kSoftmaxError = 4e-6;

}  // namespace dgm
