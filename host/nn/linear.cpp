// SPDX-License-Identifier: Apache-2.0
#include <dgm/nn/linear.hpp>

#include <dgm/ops/affine.hpp>

#include "host/core/check.hpp"

namespace dgm {

Linear::Linear(Parameters& parameters, const std::string& name, int64_t inputs, int64_t outputs, const Stream& stream,
               const LinearOptions& options) {
  check<ArgumentError>(inputs >= 1 && outputs >= 1, "Linear ", name, ": ", inputs, " inputs and ", outputs,
                       " outputs; at least 1 of each is needed");
  weight_ = &parameters.add(name + ".weight",
                            options.weight_values({outputs, inputs}, options.seed, parameters.size(), stream));
  if (options.bias) {
    bias_ = &parameters.add(name + ".bias", options.bias_values({outputs}, options.seed, parameters.size(), stream));
  }
}

Variable Linear::operator()(Tape& tape, const Variable& x) const {
  if (bias_ == nullptr) return affine(x, tape.watch(*weight_));
  return affine(x, tape.watch(*weight_), tape.watch(*bias_));
}

Variable Linear::operator()(const Variable& x) const {
  if (bias_ == nullptr) return affine(x, weight_->value);
  return affine(x, weight_->value, bias_->value);
}

}  // namespace dgm
