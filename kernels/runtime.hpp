// SPDX-License-Identifier: Apache-2.0
// What the host needs of the CUDA runtime, as plain C++. Implemented by runtime.cu; by
// runtime_stub.cpp in a build without CUDA, where every entry throws BackendUnavailable.
#pragma once

#include <cstddef>

namespace dgm::cuda {

/// 0 where there is no driver or no device; never throws.
int device_count() noexcept;

void* stream_create(int device);
void stream_destroy(int device, void* stream) noexcept;
void stream_synchronize(int device, void* stream);

/// Throws OutOfMemory with the bytes asked for and the bytes free. Legal during capture.
void* allocate(int device, std::size_t bytes);
void release(int device, void* data) noexcept;

/// Copies of any direction, ordered on the stream. Host memory is pageable: the call returns once
/// the source may be reused.
void copy(int device, void* to, const void* from, std::size_t bytes, void* stream);
void fill_zero(int device, void* to, std::size_t bytes, void* stream);

/// Capture of everything queued on a stream between begin and end into one executable graph.
void capture_begin(int device, void* stream);
void* capture_end(int device, void* stream);
/// Ends a capture that failed and throws its work away.
void capture_abandon(int device, void* stream) noexcept;
void graph_launch(int device, void* graph, void* stream);
void graph_destroy(void* graph) noexcept;

}  // namespace dgm::cuda
