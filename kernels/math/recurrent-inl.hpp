// SPDX-License-Identifier: Apache-2.0
// Cells of recurrent layers over lanes, see kernels/math/scalar_lanes.hpp.
#if defined(DGM_KERNELS_MATH_RECURRENT_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_KERNELS_MATH_RECURRENT_INL
#undef DGM_KERNELS_MATH_RECURRENT_INL
#else
#define DGM_KERNELS_MATH_RECURRENT_INL
#endif

#include "kernels/math/activations-inl.hpp"

DGM_LANES_BEGIN

// i f g o come as what goes into the gates; c as the cell before.
template <class L, class V = typename L::V>
DGM_LANES_FN V lstm_step(V& i, V& f, V& g, V& o, V& c) {
  i = sigmoid<L>(i);
  f = sigmoid<L>(f);
  g = L::tanh(g);
  o = sigmoid<L>(o);
  c = f * c + i * g;
  return o * L::tanh(c);
}

// i f g o come as the gates and leave as the gradients of what went into them; dc comes as the gradient of c from
// later steps and leaves as that of the cell before.
template <class L, class V = typename L::V>
DGM_LANES_FN void lstm_step_gradient(V& i, V& f, V& g, V& o, V before, V c, V dh, V& dc) {
  const V one = L::set(1.0f);
  const V t = L::tanh(c);
  dc = dc + dh * o * (one - t) * (one + t);
  const V df = dc * before * f * (one - f);
  const V di = dc * g * i * (one - i);
  const V dg = dc * i * (one - g) * (one + g);
  o = dh * t * o * (one - o);
  dc = dc * f;
  i = di;
  f = df;
  g = dg;
}

// r z n come as the input's parts, with the product's in r and z; p is the product's part for n.
template <class L, class V = typename L::V>
DGM_LANES_FN V gru_step(V& r, V& z, V& n, V p, V before) {
  r = sigmoid<L>(r);
  z = sigmoid<L>(z);
  n = L::tanh(n + r * p);
  return n + z * (before - n);
}

// r z n come as the gates and leave as the gradients of what went into them; p leaves as that of the product's n.
// Returns the gradient of the state before, but for what goes through the product.
template <class L, class V = typename L::V>
DGM_LANES_FN V gru_step_gradient(V& r, V& z, V& n, V& p, V before, V dh) {
  const V one = L::set(1.0f);
  const V dn = dh * (one - z) * (one - n) * (one + n);
  const V through = dh * z;
  const V dz = dh * (before - n) * z * (one - z);
  const V dr = dn * p * r * (one - r);
  p = dn * r;
  r = dr;
  z = dz;
  n = dn;
  return through;
}

DGM_LANES_END

#endif  // per-target include guard
