// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/device.hpp>

#include "bench/support/ceilings.hpp"
#include "bench/support/device.hpp"

#include <benchmark/benchmark.h>

#include <string>

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  const dgm::bench::Ceilings& ceilings = dgm::bench::ceilings();
  benchmark::AddCustomContext("device", dgm::bench::device().name());
  benchmark::AddCustomContext("cpu_threads", std::to_string(dgm::cpu_threads()));
  benchmark::AddCustomContext("copy_GB_per_s", std::to_string(ceilings.copy_bytes_per_second / 1e9));
  benchmark::AddCustomContext("read_GB_per_s", std::to_string(ceilings.read_bytes_per_second / 1e9));
  benchmark::AddCustomContext("fma_GFLOP_per_s", std::to_string(ceilings.fma_flops_per_second / 1e9));
  benchmark::AddCustomContext("exp_G_per_s", std::to_string(ceilings.exp_per_second / 1e9));
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}
