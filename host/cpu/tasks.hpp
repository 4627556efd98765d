// SPDX-License-Identifier: Apache-2.0
// Threads that take the next piece of work when they are done with one: for pieces of uneven size whose
// results do not depend on who does them.
#pragma once

#include <dgm/core/device.hpp>

#include <omp.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <mutex>

namespace dgm::cpu {

/// Calls body(task, thread) for tasks 0..count-1, each once. What a body throws is thrown again, the first of
/// them, when all threads have stopped.
template <class Body>
void parallel_tasks(int64_t count, const Body& body) {
  const int threads = static_cast<int>(std::clamp<int64_t>(count, 1, cpu_threads()));
  if (threads == 1 || omp_in_parallel()) {
    for (int64_t task = 0; task < count; ++task) body(task, 0);
    return;
  }
  std::atomic<int64_t> next = 0;
  std::exception_ptr error;
  std::mutex error_mutex;
#pragma omp parallel num_threads(threads)
  {
    try {
      for (int64_t task = next++; task < count; task = next++) body(task, omp_get_thread_num());
    } catch (...) {
      next = count;
      // Not an OpenMP critical section: its lock would be a symbol that the library exports.
      const std::lock_guard<std::mutex> lock(error_mutex);
      if (!error) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

}  // namespace dgm::cpu
