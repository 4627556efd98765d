// SPDX-License-Identifier: Apache-2.0
// How CPU ops use threads: contiguous ranges of a static split.
#pragma once

#include <dgm/core/device.hpp>

#include <omp.h>

#include <algorithm>
#include <cstdint>

namespace dgm::cpu {

/// Calls body(begin, end, thread) for contiguous ranges that cover 0..n-1, range t on thread t.
/// No thread gets fewer than grain items (but the last), so small work stays on one thread; each
/// range but the last begins at a multiple of `multiple`. body must not throw.
template <class Body>
void parallel_ranges(int64_t n, int64_t grain, int64_t multiple, const Body& body) {
  if (n <= 0) return;
  const int64_t most = (n + grain - 1) / grain;
  const int threads = static_cast<int>(std::clamp<int64_t>(most, 1, cpu_threads()));
  if (threads == 1 || omp_in_parallel()) {
    body(int64_t{0}, n, 0);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const int64_t t = omp_get_thread_num();
    const int64_t units = (n + multiple - 1) / multiple;
    const int64_t begin = units * t / omp_get_num_threads() * multiple;
    const int64_t end = std::min(n, units * (t + 1) / omp_get_num_threads() * multiple);
    if (begin < end) body(begin, end, static_cast<int>(t));
  }
}

template <class Body>
void parallel_ranges(int64_t n, int64_t grain, const Body& body) {
  parallel_ranges(n, grain, 1, body);
}

/// body(begin, end) for ranges of rows of cols terms each, with enough terms to be worth a thread.
template <class Body>
void parallel_rows(int64_t rows, int64_t cols, const Body& body) {
  constexpr int64_t kGrainTerms = 1 << 14;
  parallel_ranges(rows, std::max<int64_t>(1, kGrainTerms / cols),
                  [&](int64_t begin, int64_t end, int) { body(begin, end); });
}

}  // namespace dgm::cpu
