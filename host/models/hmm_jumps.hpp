// SPDX-License-Identifier: Apache-2.0
// How the states of an HMM of one direction follow each other.
#pragma once

#include <dgm/models/hmm_alignment.hpp>

#include "kernels/hmm_alignment.hpp"

namespace dgm {

struct HmmJumps {
  std::int64_t classes = 1;
  int reach = 0;
  std::vector<std::int32_t> word_class;  // (vocabulary + 1), word w at w + 1
  std::vector<float> weight;             // (classes + 1, buckets), rows that sum to 1
  std::vector<double> shared;            // (buckets), what the classes lean on
  std::array<float, 2> move = {};        // to NULL, to a word
  std::vector<float> stop;               // (kHmmStops), or none

  std::int64_t buckets() const { return 2 * reach + 3; }
  kernels::HmmCountsLayout layout() const { return {classes, buckets()}; }

  HmmJumps() = default;
  HmmJumps(const HmmAlignmentOptions& options, const std::vector<std::int64_t>& frequency);

  // A jump's probability is its weight over the weights of all positions there are, so that counts over their sum are
  // not what maximises. new = old * count / expected never lowers the likelihood: log Z is concave, and lies under its
  // tangent at the old Z.
  void update(const std::vector<std::int64_t>& counts, const HmmAlignmentOptions& options);
};

}  // namespace dgm
