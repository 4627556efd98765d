// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/importance_weights.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/importance_weights.hpp"

namespace dgm {

namespace {

void check_log_weights(const char* function, const Shape& shape) {
  check<ShapeError>(shape.rank() == 2 && shape[1] >= 1, function, ": log_weights has shape ", shape.str(),
                    "; (B, S) with S >= 1 is needed");
}

Tensor<float> gradient(const Tensor<float>& weights, const Tensor<float>* g_weights, const Tensor<float>* g_log_mean) {
  auto result = Tensor<float>::empty(weights.shape(), weights.stream());
  run(weights.stream(),
      kernels::ImportanceWeightsBackward{weights.data(), g_weights != nullptr ? g_weights->data() : nullptr,
                                         g_log_mean != nullptr ? g_log_mean->data() : nullptr, weights.shape()[0],
                                         weights.shape()[1], result.data()});
  return result;
}

}  // namespace

ImportanceWeights importance_weights(const Variable& log_weights) {
  const Shape& shape = log_weights.shape();
  check_log_weights("importance_weights", shape);
  auto weights = Tensor<float>::empty(shape, log_weights.stream());
  auto log_mean = Tensor<float>::empty({shape[0]}, log_weights.stream());
  auto ess = Tensor<float>::empty({shape[0]}, log_weights.stream());
  run(log_weights.stream(), kernels::ImportanceWeightsForward{log_weights.value().data(), shape[0], shape[1],
                                                              weights.data(), log_mean.data(), ess.data()});
  return {Tape::record(
              weights, {log_weights},
              [weights](const Tensor<float>& g, Gradients& inputs) { inputs.add(0, gradient(weights, &g, nullptr)); }),
          Tape::record(
              log_mean, {log_weights},
              [weights](const Tensor<float>& g, Gradients& inputs) { inputs.add(0, gradient(weights, nullptr, &g)); }),
          ess};
}

Tensor<float> pareto_shape(const Tensor<float>& log_weights) {
  const Shape& shape = log_weights.shape();
  check_log_weights("pareto_shape", shape);
  check<ArgumentError>(shape[1] <= kernels::ParetoShape::kMostSamples, "pareto_shape: log_weights has ", shape[1],
                       " samples a row; at most ", kernels::ParetoShape::kMostSamples, " are taken");
  auto result = Tensor<float>::empty({shape[0]}, log_weights.stream());
  run(log_weights.stream(), kernels::ParetoShape{log_weights.data(), shape[0], shape[1], result.data()});
  return result;
}

Tensor<float> leave_one_out_gain(const Tensor<float>& log_weights) {
  const Shape& shape = log_weights.shape();
  check<ShapeError>(shape.rank() == 2 && shape[1] >= 2, "leave_one_out_gain: log_weights has shape ", shape.str(),
                    "; (B, S) with S >= 2 is needed");
  auto result = Tensor<float>::empty(shape, log_weights.stream());
  run(log_weights.stream(), kernels::LeaveOneOutGain{log_weights.data(), shape[0], shape[1], result.data()});
  return result;
}

}  // namespace dgm
