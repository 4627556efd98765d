// SPDX-License-Identifier: Apache-2.0
// The translation probabilities of both directions of an HMM in training, from one table of counts.
#pragma once

#include <dgm/data/cooccurrence.hpp>
#include <dgm/models/hmm_alignment.hpp>

namespace dgm {

// Expected counts of links, and the translation probabilities that follow from them in both directions.
class HmmTranslations {
 public:
  static constexpr float kFloor = 1e-7f;      // of a translation that training did not see
  static constexpr float kSmallest = 1e-10f;  // of one that it did see

  HmmTranslations(const Cooccurrence& pattern, const Vocabulary& source, const Vocabulary& target,
                  const HmmAlignmentOptions& options, bool both);

  void clear_counts();
  // From counts to probabilities.
  void update();

  std::int64_t begin(std::int32_t e) const { return pattern_.row_offsets()[static_cast<std::size_t>(e) + 1]; }
  std::int64_t end(std::int32_t e) const { return pattern_.row_offsets()[static_cast<std::size_t>(e) + 2]; }
  std::int32_t target(std::int64_t k) const { return pattern_.entry_targets()[static_cast<std::size_t>(k)]; }

  std::vector<float> counts, forward, reverse;    // (entries)
  std::vector<float> null_forward, null_reverse;  // (vocabulary + 1), word w at w + 1
  std::vector<double> null_counts_forward, null_counts_reverse;

 private:
  std::int32_t group_of(std::int32_t e) const { return source_group_[static_cast<std::size_t>(e)]; }

  const Cooccurrence& pattern_;
  const HmmAlignmentOptions& options_;
  bool both_;
  std::int32_t sources_, targets_;
  std::int32_t source_groups_ = 0, target_groups_ = 0;
  std::vector<std::int32_t> source_group_, target_group_, by_group_;
  std::vector<std::int64_t> group_begin_, identical_;
};

}  // namespace dgm
