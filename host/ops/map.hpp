// SPDX-License-Identifier: Apache-2.0
// The op of a function of one argument, from its launches.
#pragma once

#include <dgm/autodiff/tape.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/map.hpp"

namespace dgm {

/// y = f(x), recorded. keeps is what f's gradient needs.
template <class Function>
Variable map(Function function, kernels::Keeps keeps, kernels::MapConstants constants, const Variable& x) {
  auto y = Tensor<float>::empty(x.shape(), x.stream());
  run(x.stream(), kernels::Map<Function>{function, constants, x.value().data(), x.value().size(), y.data()});
  if (!x.requires_grad()) return y;
  std::vector<Tensor<float>> kept;
  if (keeps == kernels::Keeps::kInput) kept.push_back(x.value());
  if (keeps == kernels::Keeps::kOutput) kept.push_back(y);
  return Tape::record(y, {x}, [=](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty(g.shape(), g.stream());
    const float* const from = kept.empty() ? g.data() : kept.front().data();
    run(g.stream(), kernels::MapGradient<Function>{function, constants, from, g.data(), g.size(), dx.data()});
    inputs.add(0, std::move(dx));
  });
}

}  // namespace dgm
