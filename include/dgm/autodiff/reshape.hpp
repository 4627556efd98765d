// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// The same elements under another shape, sharing storage; so does the gradient.
/// Throws ShapeError if the sizes differ.
Variable reshape(const Variable& x, const Shape& shape);

}  // namespace dgm
