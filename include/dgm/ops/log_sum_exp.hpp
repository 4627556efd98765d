// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Log of a sum over the last axis: y[b] = log sum_k exp(x[b,k]).
///
/// x         (..., K) f32, natural logs; any number of rows, K >= 1; entries may be -inf.
/// returns   (...) f32, x's shape without its last axis, on x's stream; does not synchronise.
///
/// Gradient  dx[b,k] = g[b] * r[b,k], r = softmax_k x, the responsibilities; recomputed, not stored.
/// Edges     a row of -inf gives -inf and a zero gradient; +inf gives +inf and a NaN gradient; any
///           NaN gives NaN.
/// Accuracy  |error| <= kLogSumExpError * max(1, |y|); of the gradient |g| * kLogSumExpError.
/// Throws    ShapeError if K = 0 or x has rank 0.
/// Source    one pass: Milakov & Gimelshein 2018, arXiv:1805.02867.
Variable log_sum_exp(const Variable& x);

/// Log of a mean over the last axis: y[b] = log (1/K) sum_k exp(x[b,k]); otherwise as log_sum_exp.
Variable log_mean_exp(const Variable& x);

inline constexpr double kLogSumExpError = 1e-6;

}  // namespace dgm
