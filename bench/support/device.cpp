// SPDX-License-Identifier: Apache-2.0
#include "bench/support/device.hpp"

#include "bench/support/ceilings.hpp"

#include <cstdlib>

namespace dgm::bench {

Device device() {
  static const Device result = [] {
    const char* const name = std::getenv("DGM_BENCH_DEVICE");
    return name == nullptr ? Device::cpu() : Device::parse(name);
  }();
  return result;
}

const Ceilings& ceilings() {
  static const Ceilings result = device().is_cuda() ? measure_cuda_ceilings(device()) : cpu_ceilings();
  return result;
}

}  // namespace dgm::bench
