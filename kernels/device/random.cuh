// SPDX-License-Identifier: Apache-2.0
// Draws inside kernels, through cuRAND's device API; the same words as kernels/math/philox.hpp.
#pragma once

#include "kernels/math/philox.hpp"

#include <curand_kernel.h>

namespace dgm::cuda {

__device__ inline PhiloxWords draw_words(uint64_t seed, const DrawIndex& index) {
  curandStatePhilox4_32_10_t state;
  curand_init(seed, index.subsequence(), index.offset(), &state);
  const uint4 words = curand4(&state);
  return {{words.x, words.y, words.z, words.w}};
}

}  // namespace dgm::cuda
