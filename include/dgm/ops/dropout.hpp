// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>
#include <dgm/core/random.hpp>

namespace dgm {

/// Inverted dropout: y[r,c] = x[r,c] / (1 - p) with probability 1 - p, else 0, each by itself; so the
/// expectation of y is x.
///
/// x         (..., C) f32, its rows being the data.
/// p         probability of a zero, 0 <= p < 1, honoured to 2^-33; 0 changes nothing.
/// draws     element (r, c) takes word c % 4 of block c / 4 of datum r, so that the mask is the same on
///           every device. Each dropout of a model needs a site of its own.
/// training  false: y = x.
/// data      (rows of x) the datum of each row, for instance its number in the data set; none: r.
/// returns   x's shape, on x's stream; does not synchronise.
///
/// Gradient  dx = g / (1 - p) where y is not dropped, else 0. The mask is not stored but drawn again, so
///           the step of draws must not change between the op and backward().
/// Edges     a dropped NaN or infinity gives 0, with a zero gradient.
/// Throws    ArgumentError unless 0 <= p < 1; ShapeError if data has not one entry a row; DeviceError if
///           draws or data are on another stream than x.
/// Source    Srivastava et al. 2014, JMLR 15.
Variable dropout(const Variable& x, float p, const Draws& draws, bool training = true,
                 const Tensor<int64_t>* data = nullptr);

}  // namespace dgm
