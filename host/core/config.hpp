// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace dgm {

/// Whether this build has CUDA kernels (compiled by nvcc, or for the executor of tests/simt).
#if defined(DGM_HAS_CUDA)
inline constexpr bool kCudaBuilt = true;
#else
inline constexpr bool kCudaBuilt = false;
#endif

}  // namespace dgm
