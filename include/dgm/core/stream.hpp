// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/device.hpp>

#include <cstddef>
#include <memory>

namespace dgm {

namespace detail {
struct StreamState;
}

/// An ordered queue of work on a device, with its own memory pool. A handle: copies name the same
/// queue. On the CPU work is done when the call returns.
class Stream {
 public:
  /// The device's default stream, always the same one. Implicit, so that a Device will do wherever
  /// a Stream is wanted.
  Stream(Device device);  // NOLINT(google-explicit-constructor)
  /// A new stream beside the default one.
  static Stream create(Device device);

  Device device() const;
  /// Waits until all work queued so far is done.
  void synchronize() const;
  /// The cudaStream_t; null on the CPU.
  void* native() const;
  /// Bytes taken from the device by this stream's pool, and of these the bytes in use now.
  struct Memory {
    std::size_t reserved = 0;
    std::size_t used = 0;
    std::size_t peak_used = 0;
  };
  Memory memory() const;
  /// Gives cached blocks that are not in use back to the device.
  void release_cached_memory() const;

  detail::StreamState& state() const { return *state_; }
  friend bool operator==(const Stream& a, const Stream& b) { return a.state_ == b.state_; }

 private:
  explicit Stream(std::shared_ptr<detail::StreamState> state) : state_(std::move(state)) {}
  std::shared_ptr<detail::StreamState> state_;
};

}  // namespace dgm
