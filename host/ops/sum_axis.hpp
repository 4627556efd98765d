// SPDX-License-Identifier: Apache-2.0
// Sums inside other ops: bias gradients, gradients of broadcast operands.
#pragma once

#include <dgm/core/tensor.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/reductions.hpp"

namespace dgm {

/// y[o,i] = scale * sum_c x[o,c,i] (factor[o,c,i]) into y, of outer * inner elements.
inline void sum_axis(const Tensor<float>& x, const Tensor<float>* factor, int64_t outer, int64_t count, int64_t inner,
                     double scale, Tensor<float>& y) {
  kernels::SumAxis args = {x.data(), factor == nullptr ? nullptr : factor->data(), outer, count, inner, scale, nullptr,
                           y.data()};
  const int64_t chunks = args.chunks();
  auto partial = Tensor<double>::empty({chunks > 1 ? outer * chunks * inner : 0}, x.stream());
  if (chunks > 1) args.partial = partial.data();
  run(x.stream(), args);
}

}  // namespace dgm
