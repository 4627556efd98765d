// SPDX-License-Identifier: Apache-2.0
#include "tests/simt/include/curand_kernel.h"

#include "tests/simt/curand_calls.hpp"

namespace dgm::test {

CurandResults calls_on_the_executors_curand(uint64_t seed, uint64_t subsequence, uint64_t offset) {
  return curand_calls(seed, subsequence, offset);
}

}  // namespace dgm::test
