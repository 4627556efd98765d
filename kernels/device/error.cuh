// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/error.hpp>

#include <cuda_runtime.h>

#include <string>

namespace dgm::cuda {

inline void throw_if(cudaError_t status, const char* call, const char* file, int line) {
  if (status == cudaSuccess) return;
  throw CudaError(std::string(call) + ": " + cudaGetErrorString(status) + " (" + file + ":" + std::to_string(line) +
                  ")");
}

}  // namespace dgm::cuda

#define DGM_CUDA_CHECK(call) ::dgm::cuda::throw_if((call), #call, __FILE__, __LINE__)
