// SPDX-License-Identifier: Apache-2.0
// A mixture and data for it, as the ops of mixtures take them, and the gradients by all four.
#pragma once

#include <dgm/autodiff/tape.hpp>

#include "tests/support/reference.hpp"

#include <string>
#include <vector>

namespace dgm::test {

struct MixtureCase {
  int64_t n;
  int64_t k;
  int64_t d;
  std::vector<float> x;
  std::vector<float> logits;
  std::vector<float> mean;
  std::vector<float> scale;  // log scales, or factors

  std::string str() const { return "N=" + std::to_string(n) + " K=" + std::to_string(k) + " D=" + std::to_string(d); }
  // x, logits, mean, scale one after the other: what central differences vary.
  Reals all() const {
    Reals result = to_reals(x);
    for (const auto* part : {&logits, &mean, &scale}) result.insert(result.end(), part->begin(), part->end());
    return result;
  }
};

}  // namespace dgm::test
