// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/device.hpp>
#include <dgm/core/error.hpp>

#include "host/core/check.hpp"
#include "host/core/config.hpp"
#include "kernels/runtime.hpp"

#include <omp.h>

#include <charconv>

namespace dgm {

int cuda_device_count() {
  static const int count = cuda::device_count();
  return count;
}

Device Device::cuda(int index) {
  check<BackendUnavailable>(kCudaBuilt, "Device::cuda: this build has no CUDA; configure with -DDGM_CUDA=ON");
  check<ArgumentError>(index >= 0, "Device::cuda: index is ", index, "; at least 0 is needed");
  check<BackendUnavailable>(index < cuda_device_count(), "Device::cuda: device ", index,
                            " is asked for but this machine has ", cuda_device_count(), " usable CUDA devices");
  return Device(index);
}

Device Device::parse(std::string_view name) {
  if (name == "cpu") return cpu();
  if (name == "cuda") return cuda();
  if (name == "auto") return cuda_device_count() > 0 ? cuda() : cpu();
  constexpr std::string_view kPrefix = "cuda:";
  if (name.substr(0, kPrefix.size()) == kPrefix) {
    const std::string_view number = name.substr(kPrefix.size());
    int index = -1;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
    if (error == std::errc() && end == number.data() + number.size() && index >= 0) return cuda(index);
  }
  throw ArgumentError(text("Device::parse: name is \"", name, "\"; cpu, cuda, cuda:N or auto is needed"));
}

std::vector<Device> Device::all() {
  std::vector<Device> devices = {cpu()};
  for (int i = 0; i < cuda_device_count(); ++i) devices.push_back(cuda(i));
  return devices;
}

std::string Device::name() const { return is_cuda() ? "cuda:" + std::to_string(index_) : "cpu"; }

int cpu_threads() { return omp_get_max_threads(); }

void set_cpu_threads(int threads) {
  check<ArgumentError>(threads >= 1, "set_cpu_threads: threads is ", threads, "; at least 1 is needed");
  omp_set_num_threads(threads);
}

}  // namespace dgm
