// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Affine map of the last axis: y[n,o] = sum_i x[n,i] weight[o,i] + bias[o].
///
/// x         (..., I) f32 row-major; any number of rows.
/// weight    (O, I) f32.
/// bias      (O) f32; left out, there is none.
/// returns   (..., O) f32, on x's stream; does not synchronise.
///
/// Gradient  dx = g weight, dweight = g^T x, dbias[o] = sum_n g[n,o] (summed in double).
/// Edges     I = 0 gives the bias; no rows give zero gradients of weight and bias; NaN and inf
///           reach every result that they take part in.
/// Accuracy  fp32 products through oneDNN or a BLAS, and cuBLAS, without TF32:
///           |error| <= kMatmulError * (sum_i |x[n,i] weight[o,i]| + |bias[o]|).
/// Order     equal bits run to run with the same number of threads.
/// Throws    ShapeError for shapes that do not fit or an extent of 2^31 or more, DeviceError if the
///           arguments are on different streams.
Variable affine(const Variable& x, const Variable& weight);
Variable affine(const Variable& x, const Variable& weight, const Variable& bias);

/// Product of matrices: y[..,j] = sum_i a[..,i] b[i,j].
///
/// a (..., I), b (I, J) -> (..., J). Gradient da = g b^T, db = a^T g; otherwise as affine.
Variable matmul(const Variable& a, const Variable& b);

inline constexpr double kMatmulError = 1e-6;

}  // namespace dgm
