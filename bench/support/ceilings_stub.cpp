// SPDX-License-Identifier: Apache-2.0
// Stands in for ceilings_cuda.cu in a build without CUDA.
#include <dgm/core/error.hpp>

#include "bench/support/ceilings.hpp"

namespace dgm::bench {

Ceilings measure_cuda_ceilings(const Stream&) {
  throw BackendUnavailable("measure_cuda_ceilings: this build has no CUDA; configure with -DDGM_CUDA=ON");
}

}  // namespace dgm::bench
