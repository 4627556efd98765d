// SPDX-License-Identifier: Apache-2.0
// Inputs for functions of one float: the whole range, finer where functions turn.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <vector>

namespace dgm::test {

/// One float in `stride` of all that are not NaN, subnormals included, in order of their bits;
/// [-20, 20] in steps of 1/512; and the edges: 0, -0, 1, the smallest, the largest, the infinities, NaN.
inline std::vector<float> floats_of_the_whole_range(uint32_t stride = 65537) {
  using Limits = std::numeric_limits<float>;
  std::vector<float> values = {0.0f, -0.0f, 1.0f, -1.0f, Limits::quiet_NaN()};
  for (const float edge : {Limits::denorm_min(), Limits::min(), Limits::max(), Limits::infinity()}) {
    values.push_back(edge);
    values.push_back(-edge);
  }
  constexpr uint32_t kInfinity = 0x7f800000u;
  for (uint64_t bits = 0; bits < kInfinity; bits += stride) {
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
    values.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits) | 0x80000000u));
  }
  for (int i = -20 * 512; i <= 20 * 512; ++i) values.push_back(static_cast<float>(i) / 512.0f);
  return values;
}

}  // namespace dgm::test
