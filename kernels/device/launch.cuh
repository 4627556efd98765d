// SPDX-License-Identifier: Apache-2.0
// The one way to launch a kernel and the one way to reach shared memory. Both are written against
// an interface that the executor of tests/simt provides too.
#pragma once

#include "kernels/device/error.cuh"

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <utility>

// Unrolling is for nvcc, which must know every register by name; for the executor it would only cost
// compile time.
#if defined(DGM_SIMT)
#define DGM_UNROLL
#define DGM_UNROLL_BY(count)
#else
#define DGM_PRAGMA(text) _Pragma(#text)
#define DGM_UNROLL DGM_PRAGMA(unroll)
#define DGM_UNROLL_BY(count) DGM_PRAGMA(unroll count)
#endif

namespace dgm::cuda {

/// Queues kernel<<<grid, block, shared_bytes, stream>>>(args...). A grid of no blocks is a CUDA
/// error: callers return before it for an empty batch.
template <class... Params, class... Args>
void launch(void (*kernel)(Params...), dim3 grid, dim3 block, std::size_t shared_bytes, void* stream, Args&&... args) {
  constexpr std::size_t kSharedWithoutOptIn = 48 * 1024;
  if (shared_bytes > kSharedWithoutOptIn) {
    DGM_CUDA_CHECK(
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = block;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  DGM_CUDA_CHECK(cudaLaunchKernelEx(&config, kernel, std::forward<Args>(args)...));
}

#if defined(DGM_SIMT)
// tests/simt gives each take() a region of its own between red zones.
using SharedMemory = simt::SharedMemory;
#else
/// Hands out a block's dynamic shared memory. Every thread constructs one at the top of the kernel
/// and takes the same arrays in the same order; the launch's shared_bytes is the sum of
/// SharedMemory::bytes<T>(count) over them. Kernels declare no __shared__ variables of their own.
class SharedMemory {
 public:
  template <class T>
  static constexpr std::size_t bytes(std::size_t count) {
    return (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }
  template <class T>
  __device__ T* take(std::size_t count) {
    extern __shared__ __align__(16) unsigned char dgm_shared_memory[];
    T* const result = reinterpret_cast<T*>(dgm_shared_memory + used_);
    used_ += bytes<T>(count);
    return result;
  }

 private:
  static constexpr std::size_t kAlignment = 16;
  std::size_t used_ = 0;
};
#endif

/// Blocks that cover n items, at most limit (kernels stride over the rest).
inline unsigned blocks_for(int64_t items, int64_t items_per_block, int64_t limit = 65535) {
  const int64_t blocks = (items + items_per_block - 1) / items_per_block;
  return static_cast<unsigned>(blocks < limit ? blocks : limit);
}

}  // namespace dgm::cuda
