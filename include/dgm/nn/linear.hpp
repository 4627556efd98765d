// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/parameters.hpp>
#include <dgm/nn/initialiser.hpp>

#include <cstdint>
#include <string>

namespace dgm {

struct LinearOptions {
  bool bias = true;
  Initialiser weight_values = Initialiser::glorot_uniform();
  Initialiser bias_values = Initialiser::zeros();
  /// Of the initial values; the parameters' order in their set tells them apart.
  uint64_t seed = 0;
};

/// A trained affine map: y = x weight^T + bias, x (..., inputs), y (..., outputs).
///
/// Its parameters "<name>.weight" (outputs, inputs) and "<name>.bias" (outputs) live in the set that it
/// is made with and that must outlive it. A small handle: copies are the same layer.
class Linear {
 public:
  /// Throws ArgumentError if a name is taken or an extent is not positive.
  Linear(Parameters& parameters, const std::string& name, int64_t inputs, int64_t outputs, const Stream& stream,
         const LinearOptions& options = {});

  /// The parameters are watched by the tape.
  Variable operator()(Tape& tape, const Variable& x) const;
  /// The parameters are constants; a gradient still flows to x.
  Variable operator()(const Variable& x) const;

  Parameter& weight() const { return *weight_; }
  /// Null without one.
  Parameter* bias() const { return bias_; }

 private:
  Parameter* weight_;
  Parameter* bias_ = nullptr;
};

}  // namespace dgm
