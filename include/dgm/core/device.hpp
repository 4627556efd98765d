// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace dgm {

/// Where tensors live and ops run: the CPU, or one CUDA device.
class Device {
 public:
  static Device cpu() { return Device(-1); }
  /// Throws BackendUnavailable if the build has no CUDA or the machine no such device.
  static Device cuda(int index = 0);
  /// "cpu", "cuda", "cuda:N" or "auto" (the first CUDA device if there is one, else the CPU).
  /// Throws ArgumentError for anything else, BackendUnavailable for a device that is not there.
  static Device parse(std::string_view name);
  /// Every device that can be used here, the CPU first.
  static std::vector<Device> all();

  bool is_cuda() const { return index_ >= 0; }
  /// Number of the CUDA device; -1 for the CPU.
  int index() const { return index_; }
  /// "cpu" or "cuda:N".
  std::string name() const;

  friend bool operator==(Device, Device) = default;

 private:
  explicit Device(int index) : index_(index) {}
  int index_;
};

/// Number of CUDA devices this build can use here; 0 for a build without CUDA.
int cuda_device_count();

/// Threads that CPU ops use. The default is OpenMP's (OMP_NUM_THREADS or the number of cores).
int cpu_threads();
/// Throws ArgumentError if threads < 1.
void set_cpu_threads(int threads);

}  // namespace dgm
