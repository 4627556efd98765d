// SPDX-License-Identifier: Apache-2.0
// One benchmark body for every device: tensors on device(), the body in repeat().
#pragma once

#include <dgm/core/stream.hpp>

#include <benchmark/benchmark.h>

namespace dgm::bench {

/// The device that this run measures: DGM_BENCH_DEVICE, as Device::parse takes it; the CPU without.
Device device();

/// Times body(). On CUDA, work is queued eight calls deep and waited for, so that the time is the
/// device's unless the host cannot keep up.
template <class Body>
void repeat(benchmark::State& state, const Body& body) {
  const Stream stream = device();
  body();  // fills the memory pool and, on CUDA, loads the kernels
  stream.synchronize();
  const int64_t depth = device().is_cuda() ? 8 : 1;
  while (state.KeepRunningBatch(depth)) {
    for (int64_t i = 0; i < depth; ++i) body();
    stream.synchronize();
  }
}

}  // namespace dgm::bench
