// SPDX-License-Identifier: Apache-2.0
// The CUDA runtime of a build without CUDA. No stream on a CUDA device can come into being, so no
// op ever reaches a CUDA launcher: these are the only entries that have to refuse.
#include "kernels/runtime.hpp"

#include <dgm/core/error.hpp>

namespace dgm::cuda {
namespace {
[[noreturn]] void unavailable() {
  throw BackendUnavailable("this build of libdgm_cuda has no CUDA; configure with -DDGM_CUDA=ON");
}
}  // namespace

int device_count() noexcept { return 0; }
void* stream_create(int) { unavailable(); }
void stream_destroy(int, void*) noexcept {}
void stream_synchronize(int, void*) { unavailable(); }
void* allocate(int, std::size_t) { unavailable(); }
void release(int, void*) noexcept {}
void copy(int, void*, const void*, std::size_t, void*) { unavailable(); }
void fill_zero(int, void*, std::size_t, void*) { unavailable(); }
void capture_begin(int, void*) { unavailable(); }
void* capture_end(int, void*) { unavailable(); }
void capture_abandon(int, void*) noexcept {}
void graph_launch(int, void*, void*) { unavailable(); }
void graph_destroy(void*) noexcept {}

}  // namespace dgm::cuda
