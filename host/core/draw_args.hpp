// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/random.hpp>

#include "kernels/draws.hpp"

namespace dgm {

inline kernels::DrawArgs draw_args(const Draws& draws) {
  return {draws.seed(), static_cast<uint64_t>(draws.site()), draws.step().data()};
}

}  // namespace dgm
