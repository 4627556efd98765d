// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/random.hpp>
#include <dgm/nn/linear.hpp>

#include <functional>
#include <string>
#include <vector>

namespace dgm {

/// A function of one Variable, for instance dgm::relu.
using ActivationFunction = std::function<Variable(const Variable&)>;

struct MlpOptions {
  /// Between the layers, not behind the last. Empty: relu.
  ActivationFunction activation;
  /// After every activation, when draws are given.
  float dropout = 0.0f;
  Initialiser weight_values = Initialiser::he_uniform();
  /// Of the last layer's weight: smaller values start closer to a constant function.
  Initialiser last_weight_values = Initialiser::glorot_uniform();
  uint64_t seed = 0;
};

/// Affine layers with an activation between them: widths {2, 64, 64, 5} map (..., 2) to (..., 5).
/// Layer i's parameters are "<name>.<i>.weight" and "<name>.<i>.bias". A handle, as Linear.
class Mlp {
 public:
  /// Throws ArgumentError unless there are at least 2 widths, all positive, and 0 <= dropout < 1.
  Mlp(Parameters& parameters, const std::string& name, const std::vector<int64_t>& widths, const Stream& stream,
      const MlpOptions& options = {});

  /// For training. Dropout is applied if draws are given; hidden layer i then takes site draws.site() + i.
  Variable operator()(Tape& tape, const Variable& x, const Draws* draws = nullptr) const;
  /// The parameters are constants, and nothing is dropped.
  Variable operator()(const Variable& x) const;

  const std::vector<Linear>& layers() const { return layers_; }

 private:
  std::vector<Linear> layers_;
  ActivationFunction activation_;
  float dropout_;
};

}  // namespace dgm
