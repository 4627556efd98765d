// SPDX-License-Identifier: Apache-2.0
// Elementwise functions over lanes, see kernels/math/scalar_lanes.hpp, which or host/cpu/lanes-inl.hpp
// comes first.
#if defined(DGM_KERNELS_MATH_ELEMENTWISE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_KERNELS_MATH_ELEMENTWISE_INL
#undef DGM_KERNELS_MATH_ELEMENTWISE_INL
#else
#define DGM_KERNELS_MATH_ELEMENTWISE_INL
#endif

#include "kernels/elementwise.hpp"

DGM_LANES_BEGIN

// a x + b.
struct ScaleShift {
  static constexpr Keeps kKeeps = Keeps::kNothing;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V a, V b) {
    return a * x + b;
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V, V g, V a, V) {
    return a * g;
  }
};

struct Exp {
  static constexpr Keeps kKeeps = Keeps::kOutput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::exp(x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V y, V g, V, V) {
    return g * y;
  }
};

struct Log {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::log(x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    return g / x;
  }
};

struct Sqrt {
  static constexpr Keeps kKeeps = Keeps::kOutput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::sqrt(x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V y, V g, V, V) {
    return L::set(0.5f) * g / y;
  }
};

struct Square {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return x * x;
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    return (g + g) * x;
  }
};

struct Abs {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::abs(x);
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V, V) {
    const V zero = L::set(0.0f);
    return L::if_less(x, zero, L::neg(g), L::if_less_equal(x, zero, zero, g));
  }
};

struct Reciprocal {
  static constexpr Keeps kKeeps = Keeps::kOutput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V, V) {
    return L::set(1.0f) / x;
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V y, V g, V, V) {
    return L::neg(g * y * y);
  }
};

// a where x < a, b where x > b.
struct Clamp {
  static constexpr Keeps kKeeps = Keeps::kInput;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V x, V a, V b) {
    return L::if_less(x, a, a, L::if_less(b, x, b, x));
  }
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V gradient(V x, V g, V a, V b) {
    const V zero = L::set(0.0f);
    return L::if_less(x, a, zero, L::if_less(b, x, zero, g));
  }
};

struct Add {
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V a, V b) {
    return a + b;
  }
};

struct Subtract {
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V a, V b) {
    return a - b;
  }
};

struct Multiply {
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V a, V b) {
    return a * b;
  }
};

struct Divide {
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V a, V b) {
    return a / b;
  }
};

// For the gradient of a quotient.
struct NegativeQuotient {
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(V a, V b) {
    return L::neg(a / b);
  }
};

/// body(F()) for the struct F of a function.
template <class Body>
auto visit(Unary function, const Body& body) {
  switch (function) {
#define DGM_CASE(name) \
  case Unary::k##name: \
    return body(name());
    DGM_UNARY_FUNCTIONS(DGM_CASE)
#undef DGM_CASE
  }
  return body(ScaleShift());  // not reached
}

template <class Body>
auto visit(Binary function, const Body& body) {
  switch (function) {
#define DGM_CASE(name)  \
  case Binary::k##name: \
    return body(name());
    DGM_BINARY_FUNCTIONS(DGM_CASE)
#undef DGM_CASE
  }
  return body(Add());  // not reached
}

DGM_LANES_END

#endif  // per-target include guard
