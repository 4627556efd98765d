// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/graph.hpp>

#include "host/core/check.hpp"
#include "host/core/stream_state.hpp"
#include "kernels/runtime.hpp"

namespace dgm {

struct Graph::Recording {
  Stream stream;
  std::function<void()> work;
  void* executable = nullptr;  // null on the CPU
  detail::Pool::Blocks blocks;

  Recording(const Stream& on, std::function<void()> what) : stream(on), work(std::move(what)) {}
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  ~Recording() {
    // A launch that is still running keeps the executable; the blocks' next user is ordered behind.
    if (executable != nullptr) cuda::graph_destroy(executable);
    stream.state().pool.return_blocks(std::move(blocks));
  }
};

Graph::Graph(std::unique_ptr<Recording> recording) : recording_(std::move(recording)) {}
Graph::~Graph() = default;
Graph::Graph(Graph&&) noexcept = default;
Graph& Graph::operator=(Graph&&) noexcept = default;

Graph Graph::capture(const Stream& stream, std::function<void()> work) {
  auto recording = std::make_unique<Recording>(stream, std::move(work));
  if (stream.device().is_cuda()) {
    const int device = stream.device().index();
    detail::Pool& pool = stream.state().pool;
    pool.begin_capture();
    try {
      cuda::capture_begin(device, stream.native());
      try {
        recording->work();
      } catch (...) {
        cuda::capture_abandon(device, stream.native());
        throw;
      }
      recording->executable = cuda::capture_end(device, stream.native());
    } catch (...) {
      recording->blocks = pool.end_capture();  // given back when the recording is destroyed
      throw;
    }
    recording->blocks = pool.end_capture();
  }
  return Graph(std::move(recording));
}

void Graph::launch() const {
  if (recording_->executable == nullptr) {
    recording_->work();
  } else {
    cuda::graph_launch(recording_->stream.device().index(), recording_->executable, recording_->stream.native());
  }
}

}  // namespace dgm
