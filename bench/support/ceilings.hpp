// SPDX-License-Identifier: Apache-2.0
// What this machine can do, measured in the same run as the benchmarks and once only.
#pragma once

#include <dgm/core/stream.hpp>

namespace dgm::bench {

struct Ceilings {
  double copy_bytes_per_second;  ///< read + written
  double read_bytes_per_second;
  double fma_flops_per_second;  ///< fp32, two operations an FMA
  double exp_per_second;        ///< the CPU: the library's vector exp; CUDA: __expf
};

/// Of the CPU with cpu_threads() threads.
const Ceilings& cpu_ceilings();
/// Of the GPU that a stream is on. Throws BackendUnavailable in a build without CUDA.
Ceilings measure_cuda_ceilings(const Stream& stream);
/// Of device() (bench/support/device.hpp).
const Ceilings& ceilings();

}  // namespace dgm::bench
