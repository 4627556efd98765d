// SPDX-License-Identifier: Apache-2.0
#include <dgm/models/alignment_joint.hpp>

namespace dgm {

AlignmentJoint::AlignmentJoint(AlignmentCells cells, LogTable log_table, std::optional<Tensor<float>> diagonal)
    : cells_(std::move(cells)), log_table_(std::move(log_table)), diagonal_(std::move(diagonal)) {}

Variable AlignmentJoint::log_joint(Tape& tape, const Tensor<int32_t>& z) const {
  return sparse_alignment_log_joint(cells_, z, log_table_(tape), diagonal_ ? &*diagonal_ : nullptr);
}

Variable AlignmentJoint::log_marginal(Tape& tape) const {
  if (!diagonal_) return sparse_alignment_word_log_marginal(cells_, log_table_(tape));
  const Variable prior = *diagonal_;
  return sparse_alignment_word_log_marginal(cells_, log_table_(tape), &prior);
}

Tensor<int32_t> AlignmentJoint::sample_posterior(const Draws& draws, int64_t samples) const {
  Tape unused;
  return sparse_alignment_sample(cells_, log_table_(unused).value(), draws, samples, diagonal_ ? &*diagonal_ : nullptr);
}

}  // namespace dgm
