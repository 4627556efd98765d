// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/error.cuh"
#include "kernels/runtime.hpp"

#include <dgm/core/error.hpp>

#include <sstream>

namespace dgm::cuda {
namespace {

// The runtime's calls act on the thread's current device: set it for the length of one call.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    DGM_CUDA_CHECK(cudaGetDevice(&before_));
    if (before_ != device) DGM_CUDA_CHECK(cudaSetDevice(device));
    device_ = device;
  }
  ~OnDevice() {
    if (before_ != device_) (void)cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  int device_ = 0;
};

cudaStream_t as_stream(void* stream) { return static_cast<cudaStream_t>(stream); }

}  // namespace

int device_count() noexcept {
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) {
    (void)cudaGetLastError();  // no driver is an answer, not an error to be found by the next call
    return 0;
  }
  return count;
}

void* stream_create(int device) {
  OnDevice guard(device);
  cudaStream_t stream = nullptr;
  DGM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
  return stream;
}

void stream_destroy(int, void* stream) noexcept { (void)cudaStreamDestroy(as_stream(stream)); }

void stream_synchronize(int device, void* stream) {
  OnDevice guard(device);
  DGM_CUDA_CHECK(cudaStreamSynchronize(as_stream(stream)));
}

void* allocate(int device, std::size_t bytes) {
  OnDevice guard(device);
  // Relaxed for this one call: allocating does not touch the stream that is being captured.
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  DGM_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  DGM_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
  if (status == cudaErrorMemoryAllocation) {
    (void)cudaGetLastError();
    std::size_t free = 0;
    std::size_t total = 0;
    (void)cudaMemGetInfo(&free, &total);
    constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;
    std::ostringstream message;
    message.precision(3);
    message << "cudaMalloc(" << double(bytes) / kGiB << " GiB) on cuda:" << device << ": out of memory, "
            << double(free) / kGiB << " GiB free";
    throw OutOfMemory(message.str());
  }
  DGM_CUDA_CHECK(status);
  return data;
}

void release(int, void* data) noexcept { (void)cudaFree(data); }

void copy(int device, void* to, const void* from, std::size_t bytes, void* stream) {
  OnDevice guard(device);
  DGM_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, as_stream(stream)));
}

void fill_zero(int device, void* to, std::size_t bytes, void* stream) {
  OnDevice guard(device);
  DGM_CUDA_CHECK(cudaMemsetAsync(to, 0, bytes, as_stream(stream)));
}

void capture_begin(int device, void* stream) {
  OnDevice guard(device);
  DGM_CUDA_CHECK(cudaStreamBeginCapture(as_stream(stream), cudaStreamCaptureModeThreadLocal));
}

void* capture_end(int device, void* stream) {
  OnDevice guard(device);
  cudaGraph_t graph = nullptr;
  DGM_CUDA_CHECK(cudaStreamEndCapture(as_stream(stream), &graph));
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = cudaGraphInstantiate(&executable, graph, 0);
  (void)cudaGraphDestroy(graph);
  DGM_CUDA_CHECK(status);
  return executable;
}

void capture_abandon(int device, void* stream) noexcept {
  int before = 0;
  (void)cudaGetDevice(&before);
  (void)cudaSetDevice(device);
  cudaGraph_t graph = nullptr;
  (void)cudaStreamEndCapture(as_stream(stream), &graph);
  if (graph != nullptr) (void)cudaGraphDestroy(graph);
  (void)cudaGetLastError();
  (void)cudaSetDevice(before);
}

void graph_launch(int device, void* graph, void* stream) {
  OnDevice guard(device);
  DGM_CUDA_CHECK(cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), as_stream(stream)));
}

void graph_destroy(void* graph) noexcept { (void)cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

}  // namespace dgm::cuda
