// SPDX-License-Identifier: Apache-2.0
#include "bench/support/allocations.hpp"

#include <malloc.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace {

std::atomic<int64_t> allocated{0};
std::atomic<int64_t> most_allocated{0};

void* count_allocation(void* data) {
  if (data == nullptr) throw std::bad_alloc();
  const int64_t now = allocated += static_cast<int64_t>(malloc_usable_size(data));
  for (int64_t most = most_allocated; now > most && !most_allocated.compare_exchange_weak(most, now);) {
  }
  return data;
}

void count_release(void* data) {
  if (data != nullptr) allocated -= static_cast<int64_t>(malloc_usable_size(data));
  std::free(data);
}

}  // namespace

// Of the whole program, library included.
void* operator new(std::size_t size) { return count_allocation(std::malloc(size > 0 ? size : 1)); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  const auto align = static_cast<std::size_t>(alignment);
  return count_allocation(std::aligned_alloc(align, (size + align - 1) / align * align));
}
void operator delete(void* data) noexcept { count_release(data); }
void operator delete(void* data, std::size_t) noexcept { count_release(data); }
void operator delete(void* data, std::align_val_t) noexcept { count_release(data); }
void operator delete(void* data, std::size_t, std::align_val_t) noexcept { count_release(data); }

namespace dgm::bench {

double peak_allocation(const std::function<void()>& body) {
  body();
  const int64_t before = allocated;
  most_allocated = before;
  body();
  return static_cast<double>(most_allocated - before);
}

}  // namespace dgm::bench
