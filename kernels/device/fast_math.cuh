// SPDX-License-Identifier: Apache-2.0
// Functions of the special function unit, with what they are accurate to.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

namespace dgm::cuda {

inline constexpr float kLog2E = 1.44269504f;
inline constexpr float kLn2 = 0.693147181f;

/// 2^x by the special function unit: 2 ulp; results below 2^-126 are 0.
__device__ __forceinline__ float exp2_fast(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return exp2f(x);
#endif
}

/// 1 / x by the special function unit: 1 ulp. A true division is a call, around which a kernel that
/// holds its tile in registers would spill.
__device__ __forceinline__ float reciprocal(float x) {
#if defined(__CUDA_ARCH__)
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
#else
  return 1.0f / x;
#endif
}

}  // namespace dgm::cuda
