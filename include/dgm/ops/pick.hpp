// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Chosen entries of each row: y[b,s] = x[b, index[b,s]].
///
/// x         (B, K) f32; B >= 0, K >= 1.
/// index     (B, S) int32 in 0..K-1, S >= 1, on x's stream.
/// returns   (B, S) f32 on x's stream; does not synchronise.
///
/// Gradient  dx[b,k] = sum over s with index[b,s] = k of g[b,s], in the order of s.
/// Edges     an index outside 0..K-1 gives NaN and no gradient; nothing is read or written there.
/// Accuracy  exact; the gradient to the rounding of its sum.
/// Throws    ShapeError, DeviceError.
Variable pick(const Variable& x, const Tensor<int32_t>& index);

}  // namespace dgm
