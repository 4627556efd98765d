// SPDX-License-Identifier: Apache-2.0
#include <dgm/inference/joint.hpp>
#include <dgm/ops/categorical_sample.hpp>
#include <dgm/ops/log_sum_exp.hpp>
#include <dgm/ops/pick.hpp>

namespace dgm {

Variable TabulatedJoint::log_joint(Tape& tape, const Tensor<int32_t>& z) const { return pick(table_(tape), z); }

Variable TabulatedJoint::log_marginal(Tape& tape) const { return log_sum_exp(table_(tape)); }

Tensor<int32_t> TabulatedJoint::sample_posterior(const Draws& draws, int64_t samples) const {
  Tape unused;
  return categorical_sample(table_(unused).value(), draws, samples);
}

}  // namespace dgm
