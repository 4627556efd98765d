// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/activations.hpp>

#include "host/ops/map.hpp"
#include "kernels/activations.hpp"
#include "kernels/math/scalar_lanes.hpp"
// after the lanes
#include "kernels/math/activations-inl.hpp"

namespace dgm {

namespace {

Variable activation(kernels::Activation function, const Variable& x, float a = 0) {
  const kernels::Keeps keeps = kernels::scalar::visit(function, [](auto f) { return decltype(f)::kKeeps; });
  return map(function, keeps, {a, 0}, x);
}

using kernels::Activation;

}  // namespace

Variable relu(const Variable& x) { return activation(Activation::kRelu, x); }
Variable leaky_relu(const Variable& x, float slope) { return activation(Activation::kLeakyRelu, x, slope); }
Variable gelu(const Variable& x) { return activation(Activation::kGelu, x); }
Variable gelu_tanh(const Variable& x) { return activation(Activation::kGeluTanh, x); }
Variable silu(const Variable& x) { return activation(Activation::kSilu, x); }
Variable sigmoid(const Variable& x) { return activation(Activation::kSigmoid, x); }
Variable log_sigmoid(const Variable& x) { return activation(Activation::kLogSigmoid, x); }
Variable tanh(const Variable& x) { return activation(Activation::kTanh, x); }
Variable softplus(const Variable& x) { return activation(Activation::kSoftplus, x); }

}  // namespace dgm
