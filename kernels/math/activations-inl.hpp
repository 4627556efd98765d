// SPDX-License-Identifier: Apache-2.0
// Activations over lanes, see kernels/math/scalar_lanes.hpp, which or host/cpu/lanes-inl.hpp comes first.
#if defined(DGM_KERNELS_MATH_ACTIVATIONS_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_KERNELS_MATH_ACTIVATIONS_INL
#undef DGM_KERNELS_MATH_ACTIVATIONS_INL
#else
#define DGM_KERNELS_MATH_ACTIVATIONS_INL
#endif

#include "kernels/activations.hpp"

DGM_LANES_BEGIN

// 1 / (1 + exp(-x)), with full relative accuracy in both tails.
template <class L, class V = typename L::V>
DGM_LANES_FN V sigmoid(V x) {
  const V e = L::exp(L::neg(L::abs(x)));
  const V s = L::set(1.0f) / (L::set(1.0f) + e);
  return L::if_less(x, L::set(0.0f), e * s, s);
}

// s (1 - s), the sigmoid's slope, without the cancellation of 1 - s.
template <class L, class V = typename L::V>
DGM_LANES_FN V sigmoid_slope(V x) {
  const V e = L::exp(L::neg(L::abs(x)));
  const V s = L::set(1.0f) / (L::set(1.0f) + e);
  return e * s * s;
}

// Where exp and tanh have long saturated: makes 0 of 0 * inf.
template <class L, class V = typename L::V>
DGM_LANES_FN V not_below(V x, float bound) {
  return L::if_less(x, L::set(bound), L::set(bound), x);
}
template <class L, class V = typename L::V>
DGM_LANES_FN V within(V x, float bound) {
  return L::if_less(L::set(bound), x, L::set(bound), not_below<L>(x, -bound));
}

struct Relu {
  static constexpr Keeps kKeeps = Keeps::kOutput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::if_less(x, L::set(0.0f), L::set(0.0f), x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V y, V g, V, V) {
    return L::if_less_equal(y, L::set(0.0f), L::set(0.0f), g);
  }
};

// x or a x.
struct LeakyRelu {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V a, V) {
    return L::if_less_equal(x, L::set(0.0f), a * x, x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V a, V) {
    return L::if_less_equal(x, L::set(0.0f), a * g, g);
  }
};

// x Phi(x); derivative Phi(x) + x phi(x).
struct Gelu {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return not_below<L>(x, -15.0f) * L::normal_cdf(x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    const V c = within<L>(x, 15.0f);
    const V density = L::set(0.39894228f) * L::exp(L::set(-0.5f) * c * c);
    return g * (L::normal_cdf(c) + c * density);
  }
};

// x s(2u) with u = sqrt(2/pi) (x + 0.044715 x^3), which is 0.5 x (1 + tanh u).
struct GeluTanh {
  static constexpr Keeps kKeeps = Keeps::kInput;
  static constexpr float kTwoRoot = 1.5957691216f;  // 2 sqrt(2/pi)
  static constexpr float kCubic = 0.044715f;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    const V c = not_below<L>(x, -15.0f);
    return c * sigmoid<L>(L::set(kTwoRoot) * c * (L::set(1.0f) + L::set(kCubic) * c * c));
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    const V c = within<L>(x, 15.0f);
    const V cc = c * c;
    const V u2 = L::set(kTwoRoot) * c * (L::set(1.0f) + L::set(kCubic) * cc);
    const V slope = L::set(kTwoRoot) * (L::set(1.0f) + L::set(3.0f * kCubic) * cc);
    return g * (sigmoid<L>(u2) + c * sigmoid_slope<L>(u2) * slope);
  }
};

// x s(x); derivative s + x s (1 - s).
struct Silu {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    const V c = not_below<L>(x, -120.0f);
    return c * sigmoid<L>(c);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    const V c = within<L>(x, 120.0f);
    return g * (sigmoid<L>(c) + c * sigmoid_slope<L>(c));
  }
};

struct Sigmoid {
  static constexpr Keeps kKeeps = Keeps::kOutput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return sigmoid<L>(x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V y, V g, V, V) {
    return g * (y * (L::set(1.0f) - y));
  }
};

// min(x, 0) - log(1 + exp(-|x|)); derivative s(-x).
struct LogSigmoid {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::if_less(L::set(0.0f), x, L::set(0.0f), x) - L::log1p(L::exp(L::neg(L::abs(x))));
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    return g * sigmoid<L>(L::neg(x));
  }
};

struct Tanh {
  static constexpr Keeps kKeeps = Keeps::kOutput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::tanh(x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V y, V g, V, V) {
    return g * ((L::set(1.0f) - y) * (L::set(1.0f) + y));
  }
};

// max(x, 0) + log(1 + exp(-|x|)); derivative s(x).
struct Softplus {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::if_less(x, L::set(0.0f), L::set(0.0f), x) + L::log1p(L::exp(L::neg(L::abs(x))));
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    return g * sigmoid<L>(x);
  }
};

/// body(F()) for the struct F of a function.
template <class Body>
auto visit(Activation function, const Body& body) {
  switch (function) {
#define DGM_CASE(name)      \
  case Activation::k##name: \
    return body(name());
    DGM_ACTIVATIONS(DGM_CASE)
#undef DGM_CASE
  }
  return body(Relu());  // not reached
}

DGM_LANES_END

#endif  // per-target include guard
