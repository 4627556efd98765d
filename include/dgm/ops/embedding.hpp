// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Rows of a table: y[n,:] = table[ids[n],:].
///
/// table     (V, D) f32.
/// ids       (...) int32, at most 2^31 - 1 of them.
/// returns   ids' shape and D behind it, f32, on the table's stream; does not synchronise.
///
/// Gradient  dtable[v,:] = sum over n with ids[n] = v of g[n,:], dense, summed in double in an order
///           fixed by n: equal bits whatever the threads or the grid.
/// Edges     an id that is no row, such as -1 for padding, gives zeros and takes no gradient, on every
///           device: ids live on the device and looking at them would mean waiting for it. Where they
///           come from outside, pass them through check_ids first.
/// Accuracy  values exact; of the gradient |error| <= kEmbeddingError * |dtable| + 1e-12 sum |g|.
/// Throws    ShapeError unless table has 2 axes, DeviceError if ids is on another stream.
Variable embedding(const Variable& table, const Tensor<int32_t>& ids);

/// Throws ArgumentError that names the first id outside 0..vocabulary-1. Waits for the ids' stream.
void check_ids(const Tensor<int32_t>& ids, int64_t vocabulary);

inline constexpr double kEmbeddingError = 1.2e-7;

}  // namespace dgm
