// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// Activations: functions of each element.
///
/// x         any shape, f32.
/// returns   x's shape, on x's stream; does not synchronise.
///
/// Edges     NaN gives NaN; infinities give the limit, also where the formula reads inf * 0.
/// Accuracy  |error| <= kActivationError * |y|; of gelu, gelu_tanh and silu kActivationError * max(1, |y|).
///           Of a gradient kActivationError * |g|.

/// max(x, 0). Gradient g where x > 0, else 0: at 0 it is 0.
Variable relu(const Variable& x);
/// x where x > 0, else slope * x. Gradient g or slope * g, the latter at 0.
Variable leaky_relu(const Variable& x, float slope = 0.01f);
/// x Phi(x), Phi the standard normal's distribution function. Gradient g (Phi(x) + x phi(x)).
/// Source: Hendrycks & Gimpel 2016, arXiv:1606.08415.
Variable gelu(const Variable& x);
/// The same paper's approximation 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), differentiated as it is.
Variable gelu_tanh(const Variable& x);
/// x s(x), s the sigmoid. Gradient g s(x) (1 + x (1 - s(x))).
Variable silu(const Variable& x);
/// s(x) = 1 / (1 + exp(-x)). Gradient g y (1 - y).
Variable sigmoid(const Variable& x);
/// log s(x) without forming s(x). Gradient g s(-x).
Variable log_sigmoid(const Variable& x);
/// Gradient g (1 - y^2).
Variable tanh(const Variable& x);
/// log(1 + exp(x)) without overflow. Gradient g s(x).
Variable softplus(const Variable& x);

inline constexpr double kActivationError = 5e-7;

}  // namespace dgm
