// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/core/stream.hpp>

#include "host/core/check.hpp"
#include "host/core/stream_state.hpp"
#include "kernels/runtime.hpp"

#include <algorithm>
#include <cstdlib>
#include <utility>

#ifdef __linux__
#include <sys/mman.h>
#endif

// A sanitizer can see a use after free or a write past the end only if blocks are exact and really
// freed: cached blocks would hide both.
#if defined(__SANITIZE_ADDRESS__)
#define DGM_POOL_CACHES 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DGM_POOL_CACHES 0
#endif
#endif
#if !defined(DGM_POOL_CACHES)
#define DGM_POOL_CACHES 1
#endif

namespace dgm {
namespace detail {
namespace {
constexpr bool kCaches = DGM_POOL_CACHES != 0;
constexpr std::size_t kCpuAlignment = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
}  // namespace

Pool::~Pool() { release_cached(); }

std::size_t Pool::rounded(std::size_t bytes) {
  if constexpr (!kCaches) return bytes;
  // Eight sizes to each power of two: at most an eighth is wasted, and sizes that differ a little
  // from step to step find each other's blocks.
  constexpr std::size_t kSmallest = 256;
  if (bytes <= kSmallest) return kSmallest;
  std::size_t power = kSmallest;
  while (power <= bytes / 2) power *= 2;
  const std::size_t step = std::max<std::size_t>(power / 8, 64);
  return (bytes + step - 1) / step * step;
}

void* Pool::from_device(std::size_t bytes) const {
  if (device_.is_cuda()) return cuda::allocate(device_.index(), bytes);
  // Whole cache lines behind the last element: a vector load may read there, never write.
  // Large blocks begin at huge pages: fewer faults when they are first touched, and fewer translations.
  const std::size_t alignment = bytes >= 4 * kHugePage ? kHugePage : kCpuAlignment;
  const std::size_t padded = (bytes + alignment - 1) / alignment * alignment;
  void* const data = padded < bytes ? nullptr : std::aligned_alloc(alignment, padded);
  check<OutOfMemory>(data != nullptr, "allocate(", bytes, " bytes) on cpu: out of memory");
#ifdef __linux__
  if (alignment == kHugePage) madvise(data, padded, MADV_HUGEPAGE);  // where the system has none, all is as before
#endif
  return data;
}

void Pool::to_device(void* data) const noexcept {
  if (device_.is_cuda()) {
    cuda::release(device_.index(), data);
  } else {
    std::free(data);
  }
}

void* Pool::take_cached(Blocks& from, std::size_t bytes) {
  const auto found = from.find(bytes);
  if (found == from.end()) return nullptr;
  void* const data = found->second;
  from.erase(found);
  return data;
}

void* Pool::allocate(std::size_t bytes) {
  const std::size_t size = rounded(std::max<std::size_t>(bytes, 1));
  const std::lock_guard lock(mutex_);
  void* data = capturing_ ? take_cached(captured_free_, size) : nullptr;
  if (data == nullptr) data = take_cached(free_, size);
  if (data == nullptr) {
    try {
      data = from_device(size);
    } catch (const OutOfMemory&) {
      // The cache may hold what is missing, in blocks of other sizes.
      if (free_.empty()) throw;
      for (const auto& [block_size, block] : free_) {
        to_device(block);
        memory_.reserved -= block_size;
      }
      free_.clear();
      data = from_device(size);
    }
    memory_.reserved += size;
  }
  memory_.used += size;
  memory_.peak_used = std::max(memory_.peak_used, memory_.used);
  return data;
}

void Pool::release(void* data, std::size_t bytes) noexcept {
  const std::size_t size = rounded(std::max<std::size_t>(bytes, 1));
  const std::lock_guard lock(mutex_);
  memory_.used -= size;
  if (capturing_) {
    captured_free_.emplace(size, data);
  } else if (kCaches) {
    free_.emplace(size, data);
  } else {
    memory_.reserved -= size;
    to_device(data);
  }
}

void Pool::release_cached() noexcept {
  const std::lock_guard lock(mutex_);
  for (const auto& [size, data] : free_) {
    to_device(data);
    memory_.reserved -= size;
  }
  free_.clear();
}

Stream::Memory Pool::memory() const {
  const std::lock_guard lock(mutex_);
  return memory_;
}

bool Pool::capturing() const {
  const std::lock_guard lock(mutex_);
  return capturing_;
}

void Pool::begin_capture() {
  const std::lock_guard lock(mutex_);
  check<ArgumentError>(!capturing_, "graph capture: the stream is already being captured");
  capturing_ = true;
}

Pool::Blocks Pool::end_capture() {
  const std::lock_guard lock(mutex_);
  capturing_ = false;
  return std::exchange(captured_free_, {});
}

void Pool::return_blocks(Blocks blocks) noexcept {
  const std::lock_guard lock(mutex_);
  if (kCaches) {
    free_.merge(blocks);
  } else {
    for (const auto& [size, data] : blocks) {
      to_device(data);
      memory_.reserved -= size;
    }
  }
}

StreamState::StreamState(Device device_of_stream)
    : device(device_of_stream),
      native(device.is_cuda() ? cuda::stream_create(device.index()) : nullptr),
      pool(device) {}

StreamState::~StreamState() {
  if (native != nullptr) cuda::stream_destroy(device.index(), native);
}

void refuse_to_wait_in_capture(const Stream& stream) {
  check<ArgumentError>(!stream.state().pool.capturing(),
                       "the stream is being captured in a graph, in which nothing can be waited for or read; read "
                       "results after launch()");
}

}  // namespace detail

namespace {

std::shared_ptr<detail::StreamState> default_state(Device device) {
  // Never destroyed: tensors of static storage duration may outlive any order we could choose, and
  // the CUDA driver is gone before such destructors run.
  static std::mutex& mutex = *new std::mutex;
  static auto& states = *new std::map<int, std::shared_ptr<detail::StreamState>>;
  const std::lock_guard lock(mutex);
  auto& state = states[device.index()];
  if (!state) state = std::make_shared<detail::StreamState>(device);
  return state;
}

}  // namespace

Stream::Stream(Device device) : state_(default_state(device)) {}

Stream Stream::create(Device device) { return Stream(std::make_shared<detail::StreamState>(device)); }

Device Stream::device() const { return state_->device; }

void Stream::synchronize() const {
  detail::refuse_to_wait_in_capture(*this);
  if (state_->device.is_cuda()) cuda::stream_synchronize(state_->device.index(), state_->native);
}

void* Stream::native() const { return state_->native; }

Stream::Memory Stream::memory() const { return state_->pool.memory(); }

void Stream::release_cached_memory() const {
  synchronize();
  state_->pool.release_cached();
}

}  // namespace dgm
