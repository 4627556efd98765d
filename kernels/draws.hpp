// SPDX-License-Identifier: Apache-2.0
// What a launch that draws is told: see DrawIndex in kernels/math/philox.hpp.
#pragma once

#include <cstdint>

namespace dgm::kernels {

struct DrawArgs {
  uint64_t seed;
  uint64_t site;
  /// On the launch's device, so that a replayed graph draws anew.
  const int64_t* step;
};

}  // namespace dgm::kernels
