// SPDX-License-Identifier: Apache-2.0
// What a Stream names: the queue, and the pool that its memory comes from.
#pragma once

#include <dgm/core/stream.hpp>

#include <cstddef>
#include <map>
#include <mutex>
#include <vector>

namespace dgm::detail {

/// A caching allocator for one stream. A freed block may be handed out again at once: all work on
/// it is ordered on the same stream, so what is queued next runs after what was queued before.
///
/// While a graph is captured, blocks that are freed go to a list of the capture's own and are
/// reused only within it; afterwards they belong to the graph, since every replay writes them.
class Pool {
 public:
  explicit Pool(Device device) : device_(device) {}
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  void* allocate(std::size_t bytes);
  void release(void* data, std::size_t bytes) noexcept;
  void release_cached() noexcept;
  Stream::Memory memory() const;

  using Blocks = std::multimap<std::size_t, void*>;
  void begin_capture();
  bool capturing() const;
  /// The blocks that the captured work uses; give them back with return_blocks.
  Blocks end_capture();
  void return_blocks(Blocks blocks) noexcept;

  /// Bytes that a request is rounded to.
  static std::size_t rounded(std::size_t bytes);

 private:
  void* take_cached(Blocks& from, std::size_t bytes);
  void* from_device(std::size_t bytes) const;
  void to_device(void* data) const noexcept;

  Device device_;
  mutable std::mutex mutex_;
  Blocks free_;
  Blocks captured_free_;
  bool capturing_ = false;
  Stream::Memory memory_;
};

struct StreamState {
  explicit StreamState(Device device_of_stream);
  ~StreamState();
  StreamState(const StreamState&) = delete;
  StreamState& operator=(const StreamState&) = delete;

  Device device;
  void* native = nullptr;
  Pool pool;
};

/// Throws ArgumentError while the stream is being captured: nothing can be waited for or read then.
void refuse_to_wait_in_capture(const Stream& stream);

}  // namespace dgm::detail
