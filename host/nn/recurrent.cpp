// SPDX-License-Identifier: Apache-2.0
#include <dgm/nn/recurrent.hpp>
#include <dgm/ops/affine.hpp>

#include "host/core/check.hpp"

namespace dgm {

namespace {

void check_extents(const char* type, const std::string& name, int64_t inputs, int64_t hidden) {
  check<ArgumentError>(inputs >= 1 && hidden >= 1, type, " ", name, ": ", inputs, " inputs and ", hidden,
                       " hidden units; at least 1 of each is needed");
}

Parameter* add(Parameters& parameters, const std::string& name, const Initialiser& values, const Shape& shape,
               uint64_t seed, const Stream& stream) {
  return &parameters.add(name, values(shape, seed, parameters.size(), stream));
}

Variable use(Tape* tape, Parameter& parameter) {
  return tape != nullptr ? tape->watch(parameter) : Variable(parameter.value);
}

}  // namespace

Lstm::Lstm(Parameters& parameters, const std::string& name, int64_t inputs, int64_t hidden, const Stream& stream,
           const RecurrentLayerOptions& options) {
  check_extents("Lstm", name, inputs, hidden);
  input_weight_ =
      add(parameters, name + ".input_weight", options.input_values, {4 * hidden, inputs}, options.seed, stream);
  state_weight_ =
      add(parameters, name + ".state_weight", options.state_values, {4 * hidden, hidden}, options.seed, stream);
  std::vector<float> bias(static_cast<std::size_t>(4 * hidden), 0.0f);
  std::fill(bias.begin() + hidden, bias.begin() + 2 * hidden, options.forget_bias);
  bias_ = &parameters.add(name + ".bias", Tensor<float>::from(bias, {4 * hidden}, stream));
}

Variable Lstm::project(Tape* tape, const Variable& x) const {
  return affine(x, use(tape, *input_weight_), use(tape, *bias_));
}

LstmStates Lstm::steps(Tape* tape, const SequenceLayout& layout, const Variable& projected,
                       const LstmOptions& options) const {
  return lstm(layout, projected, use(tape, *state_weight_), options);
}

LstmStates Lstm::operator()(Tape* tape, const SequenceLayout& layout, const Variable& x,
                            const LstmOptions& options) const {
  return steps(tape, layout, project(tape, x), options);
}

Gru::Gru(Parameters& parameters, const std::string& name, int64_t inputs, int64_t hidden, const Stream& stream,
         const RecurrentLayerOptions& options) {
  check_extents("Gru", name, inputs, hidden);
  input_weight_ =
      add(parameters, name + ".input_weight", options.input_values, {3 * hidden, inputs}, options.seed, stream);
  state_weight_ =
      add(parameters, name + ".state_weight", options.state_values, {3 * hidden, hidden}, options.seed, stream);
  bias_ = add(parameters, name + ".bias", Initialiser::zeros(), {3 * hidden}, options.seed, stream);
  state_bias_ = add(parameters, name + ".state_bias", Initialiser::zeros(), {3 * hidden}, options.seed, stream);
}

Variable Gru::project(Tape* tape, const Variable& x) const {
  return affine(x, use(tape, *input_weight_), use(tape, *bias_));
}

Variable Gru::steps(Tape* tape, const SequenceLayout& layout, const Variable& projected,
                    const RecurrentOptions& options) const {
  return gru(layout, projected, use(tape, *state_weight_), use(tape, *state_bias_), options);
}

Variable Gru::operator()(Tape* tape, const SequenceLayout& layout, const Variable& x,
                         const RecurrentOptions& options) const {
  return steps(tape, layout, project(tape, x), options);
}

}  // namespace dgm
