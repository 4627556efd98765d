// SPDX-License-Identifier: Apache-2.0
// One test body for every device: class Foo : public OnEveryDevice {}; TEST_P(Foo, ...) { device() ... }
#pragma once

#include <dgm/core/device.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

namespace dgm::test {

/// Whether a missing CUDA device is a failure rather than a skip (DGM_REQUIRE_CUDA=1).
inline bool require_cuda() {
  const char* const value = std::getenv("DGM_REQUIRE_CUDA");
  return value != nullptr && std::string(value) == "1";
}

class OnEveryDevice : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "cuda" && cuda_device_count() == 0) {
      if (require_cuda()) FAIL() << "DGM_REQUIRE_CUDA=1 but no CUDA device can be used";
      GTEST_SKIP() << "no CUDA device can be used here";
    }
  }
  Device device() const { return Device::parse(GetParam()); }
  /// Whether the device is the executor of tests/simt, some thousand times slower than a GPU.
  bool on_simulated_device() const {
#if defined(DGM_SIMT)
    return device().is_cuda();
#else
    return false;
#endif
  }
};

}  // namespace dgm::test

/// Makes the tests of a class derived from OnEveryDevice run on the CPU and on CUDA.
#define DGM_ON_EVERY_DEVICE(suite)                                          \
  INSTANTIATE_TEST_SUITE_P(Device, suite, ::testing::Values("cpu", "cuda"), \
                           [](const auto& device_param) { return std::string(device_param.param); })
