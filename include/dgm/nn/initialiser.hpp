// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/tensor.hpp>

#include <cstdint>

namespace dgm {

/// How the values of a parameter start: a distribution whose width may follow from the shape. Of a
/// shape (..., I) the fan-in is I, the fan-out the product of the other extents.
///
/// Values are drawn on the host by the contract of Draws: element (r, c) of the rows and the last axis is
/// made from datum r, block c / 4 (c / 2 for normals) at kInitialStep, a step that training does not
/// reach. So they are the same on every device.
class Initialiser {
 public:
  static Initialiser constant(float value);
  static Initialiser zeros() { return constant(0.0f); }
  /// On (-bound, bound].
  static Initialiser uniform(float bound);
  /// Of mean 0.
  static Initialiser normal(float deviation);
  /// Uniform with bound sqrt(6 / (fan-in + fan-out)): for tanh and sigmoid.
  /// Source: Glorot & Bengio 2010, AISTATS.
  static Initialiser glorot_uniform();
  /// Uniform with bound sqrt(6 / fan-in): for relu and its kin.
  /// Source: He et al. 2015, arXiv:1502.01852.
  static Initialiser he_uniform();
  /// Normal with deviation sqrt(2 / fan-in).
  static Initialiser he_normal();

  /// Values for a parameter. site tells parameters of one seed apart.
  /// Throws ArgumentError unless 0 <= site < 65536.
  Tensor<float> operator()(const Shape& shape, uint64_t seed, int64_t site, const Stream& stream) const;

  static constexpr int64_t kInitialStep = (int64_t{1} << 30) - 1;

 private:
  enum class Kind { kConstant, kUniform, kNormal };
  enum class Width { kFixed, kFanIn, kFanInAndOut };
  Initialiser(Kind kind, Width width, double scale) : kind_(kind), width_(width), scale_(scale) {}
  Kind kind_;
  Width width_;
  double scale_;  // the value, bound or deviation; over sqrt(fan) where the width is not fixed
};

}  // namespace dgm
