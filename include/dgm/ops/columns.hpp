// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

#include <vector>

namespace dgm {

/// Entries begin..end-1 of the last axis: how one network output becomes several parameters.
///
/// x         (..., C) f32; 0 <= begin <= end <= C.
/// returns   (..., end - begin), a copy, on x's stream; does not synchronise.
///
/// Gradient  g in these columns, 0 in the others.
/// Throws    ShapeError for rank 0 or columns that are not there.
Variable columns(const Variable& x, int64_t begin, int64_t end);

/// The parts side by side along the last axis: (..., C1), (..., C2), ... -> (..., C1 + C2 + ...).
/// Gradient: each part's columns of g. Throws ArgumentError if there are no parts, ShapeError unless
/// they agree in all axes but the last, DeviceError if they are on different streams.
Variable concatenate(const std::vector<Variable>& parts);

}  // namespace dgm
