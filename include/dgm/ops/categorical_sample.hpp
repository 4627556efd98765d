// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/random.hpp>
#include <dgm/core/tensor.hpp>

namespace dgm {

/// Draws from categorical distributions given by unnormalised log weights: z[b,s] = k with
/// probability exp(logits[b,k]) / sum_j exp(logits[b,j]).
///
/// logits    (B, K) f32; B >= 0, K >= 1; entries may be -inf (never drawn).
/// draws     row b's draws are words s of the datum data[b], four to a block.
/// samples   S >= 1.
/// data      (B) each row's datum; null: the row's number.
/// returns   (B, S) int32 in 0..K-1 on the logits' stream; does not synchronise.
///
/// Method    inversion of the cumulative sum with one uniform a draw, so a draw is monotone in its
///           word; CPU and GPU agree unless the uniform is within rounding of a boundary.
/// Edges     a row of -inf, or with a NaN or +inf, has no distribution: its draws are -1.
/// Accuracy  probabilities are right to 1e-6 * K.
/// Throws    ShapeError, ArgumentError if samples < 1.
Tensor<int32_t> categorical_sample(const Tensor<float>& logits, const Draws& draws, int64_t samples = 1,
                                   const Tensor<int64_t>* data = nullptr);

}  // namespace dgm
