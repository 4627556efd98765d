// SPDX-License-Identifier: Apache-2.0
#include <dgm/nn/mlp.hpp>

#include <dgm/ops/activations.hpp>
#include <dgm/ops/dropout.hpp>

#include "host/core/check.hpp"

namespace dgm {

Mlp::Mlp(Parameters& parameters, const std::string& name, const std::vector<int64_t>& widths, const Stream& stream,
         const MlpOptions& options)
    : activation_(options.activation ? options.activation : ActivationFunction(relu)), dropout_(options.dropout) {
  check<ArgumentError>(widths.size() >= 2, "Mlp ", name, ": ", widths.size(), " widths; at least 2 are needed");
  check<ArgumentError>(dropout_ >= 0.0f && dropout_ < 1.0f, "Mlp ", name, ": dropout is ", dropout_,
                       "; 0 <= dropout < 1 is needed");
  for (const int64_t width : widths) {
    check<ArgumentError>(width >= 1, "Mlp ", name, ": a width is ", width, "; at least 1 is needed");
  }
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    const bool last = i + 2 == widths.size();
    LinearOptions layer;
    layer.weight_values = last ? options.last_weight_values : options.weight_values;
    layer.seed = options.seed;
    layers_.emplace_back(parameters, name + "." + std::to_string(i), widths[i], widths[i + 1], stream, layer);
  }
}

Variable Mlp::operator()(Tape& tape, const Variable& x, const Draws* draws) const {
  Variable h = x;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    h = layers_[i](tape, h);
    if (i + 1 == layers_.size()) break;
    h = activation_(h);
    if (draws != nullptr && dropout_ > 0.0f) h = dropout(h, dropout_, draws->at(draws->site() + static_cast<int>(i)));
  }
  return h;
}

Variable Mlp::operator()(const Variable& x) const {
  Variable h = x;
  for (std::size_t i = 0; i < layers_.size(); ++i) {
    h = layers_[i](h);
    if (i + 1 < layers_.size()) h = activation_(h);
  }
  return h;
}

}  // namespace dgm
