// SPDX-License-Identifier: Apache-2.0
// Terms of densities over lanes, see kernels/math/scalar_lanes.hpp, which or host/cpu/lanes-inl.hpp comes
// first. Each has value(u) and slope<I>(u), the derivative by argument I.
#if defined(DGM_KERNELS_MATH_DENSITIES_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_KERNELS_MATH_DENSITIES_INL
#undef DGM_KERNELS_MATH_DENSITIES_INL
#else
#define DGM_KERNELS_MATH_DENSITIES_INL
#endif

#include "kernels/densities.hpp"
#include "kernels/math/activations-inl.hpp"

DGM_LANES_BEGIN

// The reciprocal of a scale, from its logarithm. Finite for a scale of 0, so that a residual of 0 stays 0.
template <class L, class V = typename L::V>
DGM_LANES_FN V inverse_scale(V log_scale) {
  const V exponent = L::neg(log_scale);
  return L::exp(L::if_less(L::set(88.0f), exponent, L::set(88.0f), exponent));
}

// a b with 0 * inf = 0.
template <class L, class V = typename L::V>
DGM_LANES_FN V times_or_zero(V a, V b) {
  return L::if_less_equal(L::abs(a), L::set(0.0f), a, a * b);
}

// x log p + (1 - x) log(1 - p) with p = sigmoid(logit), which is (x - [logit > 0]) logit - log(1 + exp(-|logit|)):
// no difference of large numbers, and the limits at a logit of +-inf.
template <class L, class V = typename L::V>
DGM_LANES_FN V bernoulli(V x, V logit) {
  const V above = L::if_less(L::set(0.0f), logit, L::set(1.0f), L::set(0.0f));
  return times_or_zero<L>(x - above, logit) - L::log1p(L::exp(L::neg(L::abs(logit))));
}

// log N(x; mean, scale^2); arguments x, mean, log scale.
struct Gaussian {
  static constexpr int kArguments = 3;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    const V t = (u[0] - u[1]) * inverse_scale<L>(u[2]);
    return L::set(-0.5f) * t * t - u[2] - L::set(0.918938533f);
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    const V inverse = inverse_scale<L>(u[2]);
    const V t = (u[0] - u[1]) * inverse;
    if constexpr (I == 2) return t * t - L::set(1.0f);
    return I == 0 ? L::neg(t * inverse) : t * inverse;
  }
};

// log N(x; 0, 1).
struct StandardGaussian {
  static constexpr int kArguments = 1;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    return L::set(-0.5f) * u[0] * u[0] - L::set(0.918938533f);
  }
  template <class L, int, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    return L::neg(u[0]);
  }
};

// KL(N(m, s^2) || N(n, t^2)) = log t - log s + (s^2 + (m - n)^2) / (2 t^2) - 1/2; arguments m, log s, n, log t.
struct GaussianKl {
  static constexpr int kArguments = 4;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    const V inverse = inverse_scale<L>(u[3]);
    const V ratio = L::exp(u[1] - u[3]);
    const V gap = (u[0] - u[2]) * inverse;
    return u[3] - u[1] + L::set(0.5f) * (ratio * ratio + gap * gap) - L::set(0.5f);
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    const V inverse = inverse_scale<L>(u[3]);
    const V ratio = L::exp(u[1] - u[3]);
    const V gap = (u[0] - u[2]) * inverse;
    if constexpr (I == 1) return ratio * ratio - L::set(1.0f);
    if constexpr (I == 3) return L::set(1.0f) - (ratio * ratio + gap * gap);
    return I == 0 ? gap * inverse : L::neg(gap * inverse);
  }
};

// The same with n = 0, t = 1.
struct StandardGaussianKl {
  static constexpr int kArguments = 2;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    const V scale = L::exp(u[1]);
    return L::set(0.5f) * (scale * scale + u[0] * u[0]) - L::set(0.5f) - u[1];
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    if constexpr (I == 0) return u[0];
    const V scale = L::exp(u[1]);
    return scale * scale - L::set(1.0f);
  }
};

// log Bernoulli(x; sigmoid(logit)); arguments x, logit.
struct Bernoulli {
  static constexpr int kArguments = 2;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    return bernoulli<L>(u[0], u[1]);
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    if constexpr (I == 0) return u[1];
    return u[0] - sigmoid<L>(u[1]);
  }
};

// -sum_x p(x) log p(x); argument the logit.
struct BernoulliEntropy {
  static constexpr int kArguments = 1;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    return L::neg(bernoulli<L>(sigmoid<L>(u[0]), u[0]));
  }
  template <class L, int, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    const V p = sigmoid<L>(u[0]);
    return L::neg(times_or_zero<L>(p * sigmoid<L>(L::neg(u[0])), u[0]));
  }
};

// KL(Bernoulli(sigmoid(a)) || Bernoulli(sigmoid(b))); arguments a, b.
struct BernoulliKl {
  static constexpr int kArguments = 2;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    const V p = sigmoid<L>(u[0]);
    return bernoulli<L>(p, u[0]) - bernoulli<L>(p, u[1]);
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    const V p = sigmoid<L>(u[0]);
    if constexpr (I == 0) return times_or_zero<L>(p * sigmoid<L>(L::neg(u[0])), u[0] - u[1]);
    return sigmoid<L>(u[1]) - p;
  }
};

// -p log p; argument log p, normalised over the summed axis.
struct CategoricalEntropy {
  static constexpr int kArguments = 1;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    return L::neg(times_or_zero<L>(L::exp(u[0]), u[0]));
  }
  template <class L, int, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    return L::neg(times_or_zero<L>(L::exp(u[0]), u[0] + L::set(1.0f)));
  }
};

// p (log p - log q); arguments log p, log q.
struct CategoricalKl {
  static constexpr int kArguments = 2;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    return times_or_zero<L>(L::exp(u[0]), u[0] - u[1]);
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    const V p = L::exp(u[0]);
    if constexpr (I == 1) return L::neg(p);
    return times_or_zero<L>(p, u[0] - u[1] + L::set(1.0f));
  }
};

// log P(X <= x) for X ~ N(mean, scale^2); arguments x, mean, log scale. Below the mean through the scaled erfc, so that
// neither the probability nor the ratio of density and probability underflows.
struct GaussianCdf {
  static constexpr int kArguments = 3;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    const V t = (u[0] - u[1]) * inverse_scale<L>(u[2]);
    const V half_square = L::set(0.5f) * t * t;
    const V half = L::set(0.5f) * L::erfcx(L::set(0.70710678f) * L::abs(t));
    const V above = half * L::exp(L::neg(half_square));  // P(X > x) for x above the mean
    const V upper = L::if_less(above, L::set(0.25f), L::log1p(L::neg(above)), L::log(L::set(1.0f) - above));
    return L::if_less(t, L::set(0.0f), L::log(half) - half_square, upper);
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    const V inverse = inverse_scale<L>(u[2]);
    const V t = (u[0] - u[1]) * inverse;
    const V half = L::set(0.5f) * L::erfcx(L::set(0.70710678f) * L::abs(t));
    const V e = L::exp(L::set(-0.5f) * t * t);
    const V density = L::set(0.39894228f);
    // Density over probability, both times exp(t^2/2) where t < 0.
    const V ratio = L::if_less(t, L::set(0.0f), density / half, density * e / (L::set(1.0f) - half * e));
    if constexpr (I == 2) return L::neg(times_or_zero<L>(ratio, t));
    return I == 0 ? ratio * inverse : L::neg(ratio * inverse);
  }
};

// log P(X <= x) for a bit X that is 1 with probability sigmoid(logit); arguments x, logit.
struct BernoulliCdf {
  static constexpr int kArguments = 2;
  template <class L, class V = typename L::V>
  static DGM_LANES_FN V value(const V* u) {
    const V zero = L::set(0.0f);
    const V minus_inf = L::log(zero);
    const V below_one = bernoulli<L>(zero, u[1]);
    const V y = L::if_less_equal(L::set(1.0f), u[0], zero, below_one);
    // x + x keeps NaN.
    return L::if_less(u[0], zero, minus_inf, L::if_less_equal(zero, u[0], y, u[0] + u[0]));
  }
  template <class L, int I, class V = typename L::V>
  static DGM_LANES_FN V slope(const V* u) {
    const V zero = L::set(0.0f);
    if constexpr (I == 0) return zero;
    const V within = L::if_less(u[0], L::set(1.0f), L::neg(sigmoid<L>(u[1])), zero);
    return L::if_less(u[0], zero, zero, within);
  }
};

/// body(F()) for the struct F of a function.
template <class Body>
auto visit(Density function, const Body& body) {
  switch (function) {
#define DGM_CASE(name)   \
  case Density::k##name: \
    return body(name());
    DGM_DENSITIES(DGM_CASE)
#undef DGM_CASE
  }
  return body(Gaussian());  // not reached
}

DGM_LANES_END

#endif  // per-target include guard
