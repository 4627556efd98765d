// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/joint.hpp>
#include <dgm/ops/sparse_alignment.hpp>

#include <functional>
#include <optional>

namespace dgm {

/// Lexical alignment as the estimators see it: datum b is a target word, z_b the place of its source word in the pair's
/// sentence, 0 for NULL; given the source sentences the words are independent. So any estimator trains a translation
/// table by gradient, whatever computes its logarithms.
class AlignmentJoint : public FiniteJoint {
 public:
  using LogTable = std::function<Variable(Tape& tape)>;
  /// log_table   makes log t(f | e) for each entry of the cells' pattern, (entries), on the tape.
  /// diagonal    p0 and tension of the prior, (2); uniform without.
  AlignmentJoint(AlignmentCells cells, LogTable log_table, std::optional<Tensor<float>> diagonal = std::nullopt);

  int64_t batch() const override { return cells_.pattern().target_tokens(); }
  const Stream& stream() const override { return cells_.stream(); }
  Variable log_joint(Tape& tape, const Tensor<int32_t>& z) const override;
  Variable log_marginal(Tape& tape) const override;
  Tensor<int32_t> sample_posterior(const Draws& draws, int64_t samples) const override;

 private:
  AlignmentCells cells_;
  LogTable log_table_;
  std::optional<Tensor<float>> diagonal_;
};

}  // namespace dgm
