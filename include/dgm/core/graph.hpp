// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/stream.hpp>

#include <functional>
#include <memory>

namespace dgm {

/// Work on one stream, recorded once and replayed as a whole: on a GPU a CUDA graph, whose launch
/// costs microseconds however many kernels it holds. On the CPU launch() runs the function again.
///
/// A replay repeats the same kernels on the same memory. What is to differ from one replay to the
/// next must be on the device, as step counters are; numbers that the function computes on the host
/// are frozen when it is captured. Tensors that the function uses must stay alive as long as the
/// graph: those it owns do, since the graph keeps the function. Memory that the function allocates
/// and frees belongs to the graph until it is destroyed. Move-only.
class Graph {
 public:
  /// Records what `work` queues on the stream without running it; on the CPU just keeps it. Run
  /// `work` once before, so that everything that is made on first use is there.
  /// Throws what `work` throws, the stream then being usable as before; ArgumentError if the stream
  /// is being captured already, or if `work` waits for the stream or copies from the host.
  static Graph capture(const Stream& stream, std::function<void()> work);
  ~Graph();
  Graph(Graph&&) noexcept;
  Graph& operator=(Graph&&) noexcept;

  /// Queues the recorded work on the stream; does not synchronise.
  void launch() const;

 private:
  struct Recording;
  explicit Graph(std::unique_ptr<Recording> recording);
  std::unique_ptr<Recording> recording_;
};

}  // namespace dgm
