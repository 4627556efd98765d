// SPDX-License-Identifier: Apache-2.0
// The host side of the CUDA runtime over the executor: one device, work done when it is queued.
#include "include/cuda_runtime.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

using Work = std::function<cudaError_t()>;

struct CUgraph_st {
  std::vector<Work> nodes;
};
struct CUgraphExec_st {
  std::vector<Work> nodes;
};
struct CUstream_st {
  std::unique_ptr<CUgraph_st> capture;  // what has been recorded, while the stream is being captured
  bool invalidated = false;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id capturer;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point time;
  bool recorded = false;
  bool captured = false;
  bool timing = true;
};

namespace simt::detail {
namespace {

constexpr std::size_t kDeviceMemory = std::size_t{4} << 30;
constexpr int kMultiprocessors = 3;  // few and odd: a kernel that strides over the grid has to
constexpr std::size_t kSharedPerBlock = 48 * 1024;
constexpr std::size_t kSharedOptIn = 227 * 1024;
[[maybe_unused]] constexpr std::size_t kGuard = 64;
[[maybe_unused]] constexpr unsigned char kCanary = 0xA5;
constexpr unsigned char kUninitialised = 0xFF;

struct Allocation {
  std::size_t bytes;
  bool device;  // else page-locked host memory
  unsigned char* base;
};

struct Runtime {
  std::recursive_mutex mutex;
  std::map<const unsigned char*, Allocation> allocations;
  std::size_t used = 0;
  std::vector<cudaStream_t> capturing;
  std::map<const void*, std::size_t> shared_limit;
};

Runtime& runtime() {
  static Runtime* const instance = new Runtime;  // outlives every static object that holds memory
  return *instance;
}

thread_local cudaError_t last_error = cudaSuccess;
thread_local std::string report;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess && error != cudaErrorNotReady) last_error = error;
  return error;
}

/// CUDA forbids some calls while a stream is being captured, and the capture then fails.
bool forbidden_by_capture() {
  Runtime& r = runtime();
  if (thread_mode == cudaStreamCaptureModeRelaxed) return false;
  bool forbidden = false;
  for (cudaStream_t stream : r.capturing) {
    const bool own = stream->capturer == std::this_thread::get_id();
    if (stream->mode == cudaStreamCaptureModeRelaxed) continue;
    if (own || (stream->mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal)) {
      stream->invalidated = true;
      forbidden = true;
    }
  }
  return forbidden;
}

bool is_capturing(cudaStream_t stream) { return stream != nullptr && stream->capture != nullptr; }

enum class Side { pageable, locked, device, straddles };

/// Where `bytes` bytes from `data` on lie.
Side side(const void* data, std::size_t bytes) {
  Runtime& r = runtime();
  const auto* const p = static_cast<const unsigned char*>(data);
  auto it = r.allocations.upper_bound(p);
  if (it == r.allocations.begin()) return Side::pageable;
  --it;
  if (p >= it->first + std::max<std::size_t>(it->second.bytes, 1)) return Side::pageable;
  if (p + bytes > it->first + it->second.bytes) return Side::straddles;
  return it->second.device ? Side::device : Side::locked;
}

cudaError_t allocate(void** data, std::size_t bytes, bool device) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (data == nullptr) return result(cudaErrorInvalidValue);
  *data = nullptr;
  if (forbidden_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (bytes > kDeviceMemory || (device && r.used + bytes > kDeviceMemory)) return result(cudaErrorMemoryAllocation);
  constexpr std::size_t kAlignment = 256;
#if defined(DGM_SIMT_ASAN)
  constexpr std::size_t kBefore = 0;  // the heap has red zones
  constexpr std::size_t kAfter = 0;
#else
  constexpr std::size_t kBefore = kAlignment;
  constexpr std::size_t kAfter = kGuard;
#endif
  void* base = nullptr;
  if (posix_memalign(&base, kAlignment, kBefore + bytes + kAfter) != 0) return result(cudaErrorMemoryAllocation);
  auto* const first = static_cast<unsigned char*>(base) + kBefore;
  if (kBefore > 0) std::memset(first - kGuard, kCanary, kGuard);
  if (kAfter > 0) std::memset(first + bytes, kCanary, kGuard);
  std::memset(first, kUninitialised, bytes);
  r.allocations[first] = {bytes, device, static_cast<unsigned char*>(base)};
  if (device) r.used += bytes;
  *data = first;
  return cudaSuccess;
}

cudaError_t release(void* data, bool device) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (data == nullptr) return cudaSuccess;
  if (forbidden_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  const auto it = r.allocations.find(static_cast<unsigned char*>(data));
  if (it == r.allocations.end() || it->second.device != device) return result(cudaErrorInvalidValue);
  if (device) r.used -= it->second.bytes;
  std::free(it->second.base);
  r.allocations.erase(it);
  return cudaSuccess;
}

/// Without ASan: the first allocation that was written outside of, described; else "".
std::string broken_guard() {
#if !defined(DGM_SIMT_ASAN)
  const auto is_canary = [](unsigned char c) { return c == kCanary; };
  for (const auto& [first, allocation] : runtime().allocations) {
    const unsigned char* const end = first + allocation.bytes;
    const char* which = !std::all_of(first - kGuard, first, is_canary) ? "before the beginning"
                        : !std::all_of(end, end + kGuard, is_canary)   ? "past the end"
                                                                       : nullptr;
    if (which == nullptr) continue;
    auto* const base = allocation.base;
    std::memset(base + (first - base) - kGuard, kCanary, kGuard);
    std::memset(base + (end - base), kCanary, kGuard);
    return std::string("a write ") + which + " of an allocation of " + std::to_string(allocation.bytes) + " bytes";
  }
#endif
  return "";
}

cudaError_t run_now(const Launch& launch, const std::function<void()>& body) {
  try {
    run(launch, body);
  } catch (const KernelError& error) {
    report = error.what();
    return cudaErrorLaunchFailure;
  }
  if (const std::string broken = broken_guard(); !broken.empty()) {
    report = describe(launch) + ": " + broken;
    return cudaErrorLaunchFailure;
  }
  return cudaSuccess;
}

cudaError_t copy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream, bool waits) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (waits && forbidden_by_capture()) return result(cudaErrorStreamCaptureUnsupported);
  if (bytes == 0) return cudaSuccess;
  if (to == nullptr || from == nullptr) return result(cudaErrorInvalidValue);
  const Side target = side(to, bytes);
  const Side source = side(from, bytes);
  if (target == Side::straddles || source == Side::straddles) return result(cudaErrorInvalidValue);
  const bool to_device = kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice;
  const bool from_device = kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice;
  if (kind != cudaMemcpyDefault && (to_device != (target == Side::device) || from_device != (source == Side::device))) {
    return result(cudaErrorInvalidValue);
  }
  if (is_capturing(stream) && (target == Side::pageable || source == Side::pageable)) {
    stream->invalidated = true;
    return result(cudaErrorStreamCaptureUnsupported);
  }
  return submit(stream, [to, from, bytes] {
    std::memmove(to, from, bytes);
    return cudaSuccess;
  });
}

cudaError_t set(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (bytes == 0) return cudaSuccess;
  const Side target = to == nullptr ? Side::pageable : side(to, bytes);
  if (target != Side::device && target != Side::locked) return result(cudaErrorInvalidValue);
  return submit(stream, [to, value, bytes] {
    std::memset(to, value, bytes);
    return cudaSuccess;
  });
}

}  // namespace

cudaError_t submit(cudaStream_t stream, std::function<cudaError_t()> work) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (stream == nullptr && forbidden_by_capture()) return result(cudaErrorStreamCaptureImplicit);
  if (!is_capturing(stream)) return result(work());
  if (stream->invalidated) return result(cudaErrorStreamCaptureInvalidated);
  stream->capture->nodes.push_back(std::move(work));
  return cudaSuccess;
}

cudaError_t set_function_attribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (attribute == cudaFuncAttributePreferredSharedMemoryCarveout) return cudaSuccess;
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      static_cast<std::size_t>(value) > kSharedOptIn) {
    return result(cudaErrorInvalidValue);
  }
  r.shared_limit[kernel] = static_cast<std::size_t>(value);
  return cudaSuccess;
}

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body) {
  const dim3 grid = config.gridDim;
  const dim3 block = config.blockDim;
  const auto threads = uint64_t{block.x} * block.y * block.z;
  const bool fits = grid.x >= 1 && grid.y >= 1 && grid.z >= 1 && grid.x <= 2147483647u && grid.y <= 65535 &&
                    grid.z <= 65535 && block.x <= 1024 && block.y <= 1024 && block.z <= 64 && threads >= 1 &&
                    threads <= 1024;
  if (!fits) return result(cudaErrorInvalidConfiguration);
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  const auto limit = r.shared_limit.find(kernel);
  if (config.dynamicSmemBytes > (limit == r.shared_limit.end() ? kSharedPerBlock : limit->second)) {
    return result(cudaErrorInvalidValue);
  }
  const Launch described{kernel, grid, block, config.dynamicSmemBytes};
  return submit(config.stream, [described, body = std::move(body)] { return run_now(described, body); });
}

}  // namespace simt::detail

using namespace simt::detail;

const char* cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "cudaSuccess";
    case cudaErrorInvalidValue:
      return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
      return "cudaErrorMemoryAllocation";
    case cudaErrorInvalidConfiguration:
      return "cudaErrorInvalidConfiguration";
    case cudaErrorInvalidMemcpyDirection:
      return "cudaErrorInvalidMemcpyDirection";
    case cudaErrorNoDevice:
      return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
      return "cudaErrorInvalidDevice";
    case cudaErrorInvalidResourceHandle:
      return "cudaErrorInvalidResourceHandle";
    case cudaErrorIllegalState:
      return "cudaErrorIllegalState";
    case cudaErrorNotReady:
      return "cudaErrorNotReady";
    case cudaErrorIllegalAddress:
      return "cudaErrorIllegalAddress";
    case cudaErrorLaunchFailure:
      return "cudaErrorLaunchFailure";
    case cudaErrorStreamCaptureUnsupported:
      return "cudaErrorStreamCaptureUnsupported";
    case cudaErrorStreamCaptureInvalidated:
      return "cudaErrorStreamCaptureInvalidated";
    case cudaErrorStreamCaptureImplicit:
      return "cudaErrorStreamCaptureImplicit";
    case cudaErrorStreamCaptureWrongThread:
      return "cudaErrorStreamCaptureWrongThread";
  }
  return "unrecognized error code";
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorInvalidMemcpyDirection:
      return "invalid copy direction for memcpy";
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice:
      return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
      return "invalid resource handle";
    case cudaErrorIllegalState:
      return "the operation cannot be performed in the present state";
    case cudaErrorNotReady:
      return "device not ready";
    case cudaErrorIllegalAddress:
      return "an illegal memory access was encountered";
    case cudaErrorLaunchFailure:
      return report.empty() ? "unspecified launch failure" : report.c_str();
    case cudaErrorStreamCaptureUnsupported:
      return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
      return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit:
      return "operation would make the legacy stream depend on a capturing blocking stream";
    case cudaErrorStreamCaptureWrongThread:
      return "attempt to terminate a thread-local capture sequence from another thread";
  }
  return "unrecognized error code";
}

cudaError_t cudaGetLastError() { return std::exchange(last_error, cudaSuccess); }
cudaError_t cudaPeekAtLastError() { return last_error; }

cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) { return result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (device != 0) return result(cudaErrorInvalidDevice);
  switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
      *value = 1024;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
      *value = static_cast<int>(kSharedPerBlock);
      return cudaSuccess;
    case cudaDevAttrWarpSize:
      *value = 32;
      return cudaSuccess;
    case cudaDevAttrClockRate:
      *value = 1000000;
      return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
      *value = kMultiprocessors;
      return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
      *value = 2048;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 8;
      return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
      *value = 0;
      return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = static_cast<int>(kSharedOptIn);
      return cudaSuccess;
  }
  return result(cudaErrorInvalidValue);
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (device != 0) return result(cudaErrorInvalidDevice);
  *properties = {
      "SIMT executor on the CPU", kDeviceMemory, kSharedPerBlock, kSharedOptIn, 32, 1024, 8, 0, kMultiprocessors};
  return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }

cudaError_t cudaDeviceSynchronize() {
  const std::lock_guard lock(runtime().mutex);
  return result(forbidden_by_capture() ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}

cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total) {
  const std::lock_guard lock(runtime().mutex);
  *free = kDeviceMemory - runtime().used;
  *total = kDeviceMemory;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** data, std::size_t bytes) { return allocate(data, bytes, true); }
cudaError_t cudaFree(void* data) { return release(data, true); }
cudaError_t cudaMallocHost(void** data, std::size_t bytes) { return allocate(data, bytes, false); }
cudaError_t cudaFreeHost(void* data) { return release(data, false); }

cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind) {
  return copy(to, from, bytes, kind, nullptr, true);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return copy(to, from, bytes, kind, stream, false);
}
cudaError_t cudaMemset(void* to, int value, std::size_t bytes) { return set(to, value, bytes, nullptr); }
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream) {
  return set(to, value, bytes, stream);
}

cudaError_t cudaStreamCreate(cudaStream_t* stream) { return cudaStreamCreateWithFlags(stream, cudaStreamDefault); }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  if (stream == nullptr) return result(cudaErrorInvalidResourceHandle);
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  std::erase(r.capturing, stream);
  delete stream;
  return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  if (!is_capturing(stream)) return cudaSuccess;
  stream->invalidated = true;
  return result(cudaErrorStreamCaptureUnsupported);
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return cudaStreamSynchronize(stream); }
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned) {
  const std::lock_guard lock(runtime().mutex);
  if (!is_capturing(stream) && !event->captured) return cudaSuccess;
  if (is_capturing(stream)) stream->invalidated = true;
  return result(cudaErrorStreamCaptureUnsupported);
}

cudaError_t cudaEventCreate(cudaEvent_t* event) { return cudaEventCreateWithFlags(event, cudaEventDefault); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags) {
  *event = new CUevent_st;
  (*event)->timing = (flags & cudaEventDisableTiming) == 0;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  const std::lock_guard lock(runtime().mutex);
  event->captured = is_capturing(stream);
  if (event->captured) return cudaSuccess;
  event->recorded = true;
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return result(event->captured ? cudaErrorStreamCaptureUnsupported : cudaSuccess);
}
cudaError_t cudaEventQuery(cudaEvent_t event) { return cudaEventSynchronize(event); }
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  if (!begin->recorded || !end->recorded || !begin->timing || !end->timing) {
    return result(cudaErrorInvalidResourceHandle);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(end->time - begin->time).count();
  return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  if (stream == nullptr) return result(cudaErrorStreamCaptureUnsupported);  // the legacy stream
  if (is_capturing(stream)) return result(cudaErrorIllegalState);
  stream->capture = std::make_unique<CUgraph_st>();
  stream->invalidated = false;
  stream->mode = mode;
  stream->capturer = std::this_thread::get_id();
  r.capturing.push_back(stream);
  return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  Runtime& r = runtime();
  const std::lock_guard lock(r.mutex);
  *graph = nullptr;
  if (!is_capturing(stream)) return result(cudaErrorIllegalState);
  if (stream->mode != cudaStreamCaptureModeRelaxed && stream->capturer != std::this_thread::get_id()) {
    return result(cudaErrorStreamCaptureWrongThread);
  }
  std::erase(r.capturing, stream);
  std::unique_ptr<CUgraph_st> recorded = std::move(stream->capture);
  if (stream->invalidated) return result(cudaErrorStreamCaptureInvalidated);
  *graph = recorded.release();
  return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const std::lock_guard lock(runtime().mutex);
  *status = !is_capturing(stream) ? cudaStreamCaptureStatusNone
            : stream->invalidated ? cudaStreamCaptureStatusInvalidated
                                  : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  *mode = std::exchange(thread_mode, *mode);
  return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long) {
  if (graph == nullptr) return result(cudaErrorInvalidValue);
  *executable = new CUgraphExec_st{graph->nodes};
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream) {
  if (executable == nullptr) return result(cudaErrorInvalidValue);
  return submit(stream, [nodes = executable->nodes] {
    for (const Work& node : nodes) {
      if (const cudaError_t error = node(); error != cudaSuccess) return error;
    }
    return cudaSuccess;
  });
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
