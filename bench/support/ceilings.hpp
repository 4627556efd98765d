// SPDX-License-Identifier: Apache-2.0
// What this machine can do, measured in the same run as the benchmarks and once only.
#pragma once

namespace dgm::bench {

struct Ceilings {
  double copy_bytes_per_second;  ///< read + written
  double read_bytes_per_second;
  double fma_flops_per_second;  ///< fp32, two operations an FMA
  double exp_per_second;        ///< the library's vector exp
};

/// Of the CPU with cpu_threads() threads.
const Ceilings& cpu_ceilings();

}  // namespace dgm::bench
