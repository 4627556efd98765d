// SPDX-License-Identifier: Apache-2.0
// The part of the CUDA runtime that the library uses, for a C++ compiler: device code runs on the
// executor, "device memory" is the heap's. Everything here does what CUDA does, or refuses as CUDA
// would; what is not here does not compile (so: no __shared__, take it from SharedMemory; no
// cooperative groups, textures, tensor cores).
#pragma once

#include "../executor.hpp"
#include "vector_types.h"

#include <math.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>
#include <type_traits>
#include <utility>

#if defined(__CUDACC__)
#error "this is the cuda_runtime.h of a build without nvcc"
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))

// ================================================================ device code

inline constexpr const uint3& threadIdx = simt::detail::thread_index;
inline constexpr const uint3& blockIdx = simt::detail::block_index;
inline constexpr const dim3& blockDim = simt::detail::block_extent;
inline constexpr const dim3& gridDim = simt::detail::grid_extent;
inline constexpr int warpSize = 32;

// ---------------------------------------------------------------- barriers

// The line where a thread waits goes into the report.
#define DGM_SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(DGM_SIMT_HERE) { simt::detail::barrier(simt::detail::Barrier::plain, false, file, line); }
inline int __syncthreads_count(int predicate, DGM_SIMT_HERE) {
  return simt::detail::barrier(simt::detail::Barrier::count, predicate != 0, file, line);
}
inline int __syncthreads_and(int predicate, DGM_SIMT_HERE) {
  return simt::detail::barrier(simt::detail::Barrier::conjunction, predicate != 0, file, line);
}
inline int __syncthreads_or(int predicate, DGM_SIMT_HERE) {
  return simt::detail::barrier(simt::detail::Barrier::disjunction, predicate != 0, file, line);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, DGM_SIMT_HERE) {
  simt::detail::collective(simt::detail::Collective::sync, mask, 0, 0, 32, file, line);
}

// ---------------------------------------------------------------- warp collectives

namespace simt::detail {

template <class T>
concept Shufflable = std::is_same_v<T, int> || std::is_same_v<T, unsigned> || std::is_same_v<T, long> ||
    std::is_same_v<T, unsigned long> || std::is_same_v<T, long long> || std::is_same_v<T, unsigned long long> ||
    std::is_same_v<T, float> || std::is_same_v<T, double>;

template <Shufflable T>
T shuffle(Collective kind, unsigned mask, T value, int lane, int width, const char* file, int line) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  const uint64_t result = collective(kind, mask, std::bit_cast<Bits>(value), lane, width, file, line);
  return std::bit_cast<T>(static_cast<Bits>(result));
}

}  // namespace simt::detail

template <simt::detail::Shufflable T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, DGM_SIMT_HERE) {
  return simt::detail::shuffle(simt::detail::Collective::shuffle, mask, value, source, width, file, line);
}
template <simt::detail::Shufflable T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, DGM_SIMT_HERE) {
  return simt::detail::shuffle(simt::detail::Collective::shuffle_up, mask, value, static_cast<int>(delta), width, file,
                               line);
}
template <simt::detail::Shufflable T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, DGM_SIMT_HERE) {
  return simt::detail::shuffle(simt::detail::Collective::shuffle_down, mask, value, static_cast<int>(delta), width,
                               file, line);
}
template <simt::detail::Shufflable T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = warpSize, DGM_SIMT_HERE) {
  return simt::detail::shuffle(simt::detail::Collective::shuffle_xor, mask, value, lanes, width, file, line);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, DGM_SIMT_HERE) {
  using simt::detail::Collective;
  return static_cast<unsigned>(
      simt::detail::collective(Collective::ballot, mask, predicate != 0 ? 1 : 0, 0, 32, file, line));
}
inline int __any_sync(unsigned mask, int predicate, DGM_SIMT_HERE) {
  using simt::detail::Collective;
  return static_cast<int>(simt::detail::collective(Collective::any, mask, predicate != 0 ? 1 : 0, 0, 32, file, line));
}
inline int __all_sync(unsigned mask, int predicate, DGM_SIMT_HERE) {
  using simt::detail::Collective;
  return static_cast<int>(simt::detail::collective(Collective::all, mask, predicate != 0 ? 1 : 0, 0, 32, file, line));
}
template <simt::detail::Shufflable T>
unsigned __match_any_sync(unsigned mask, T value, DGM_SIMT_HERE) {
  using Bits = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
  using simt::detail::Collective;
  return static_cast<unsigned>(
      simt::detail::collective(Collective::match_any, mask, std::bit_cast<Bits>(value), 0, 32, file, line));
}

#define DGM_SIMT_REDUCE(name, T, kind)                                                                \
  inline T __reduce_##name##_sync(unsigned mask, T value, DGM_SIMT_HERE) {                            \
    return static_cast<T>(simt::detail::collective(simt::detail::Collective::reduce_##kind, mask,     \
                                                   static_cast<uint32_t>(value), 0, 32, file, line)); \
  }
DGM_SIMT_REDUCE(add, int, add)
DGM_SIMT_REDUCE(add, unsigned, add)
DGM_SIMT_REDUCE(min, int, min_signed)
DGM_SIMT_REDUCE(min, unsigned, min_unsigned)
DGM_SIMT_REDUCE(max, int, max_signed)
DGM_SIMT_REDUCE(max, unsigned, max_unsigned)
DGM_SIMT_REDUCE(and, unsigned, and)
DGM_SIMT_REDUCE(or, unsigned, or)
DGM_SIMT_REDUCE(xor, unsigned, xor)
#undef DGM_SIMT_REDUCE

// ---------------------------------------------------------------- memory

inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}

template <class T>
T __ldg(const T* p) {
  return *p;
}
template <class T>
T __ldcs(const T* p) {
  return *p;
}
template <class T>
T __ldcg(const T* p) {
  return *p;
}
template <class T>
T __ldca(const T* p) {
  return *p;
}
template <class T>
void __stcs(T* p, T value) {
  *p = value;
}
template <class T>
void __stcg(T* p, T value) {
  *p = value;
}
template <class T>
void __stwb(T* p, T value) {
  *p = value;
}

namespace simt::detail {

/// One thread runs at a time, so a read and a write are atomic; a random schedule switches here.
template <class T, class F>
T atomic(T* p, F f) {
  if (--atomics_until_switch == 0) switch_at_atomic();
  const T before = *p;
  *p = f(before);
  return before;
}

}  // namespace simt::detail

#define DGM_SIMT_ATOMIC(name, T, expression)                                                        \
  inline T name(T* p, T value) {                                                                    \
    return simt::detail::atomic(p, [value]([[maybe_unused]] T before) -> T { return expression; }); \
  }
DGM_SIMT_ATOMIC(atomicAdd, int, static_cast<int>(static_cast<unsigned>(before) + static_cast<unsigned>(value)))
DGM_SIMT_ATOMIC(atomicAdd, unsigned, before + value)
DGM_SIMT_ATOMIC(atomicAdd, unsigned long long, before + value)
DGM_SIMT_ATOMIC(atomicAdd, float, before + value)
DGM_SIMT_ATOMIC(atomicAdd, double, before + value)
DGM_SIMT_ATOMIC(atomicSub, int, static_cast<int>(static_cast<unsigned>(before) - static_cast<unsigned>(value)))
DGM_SIMT_ATOMIC(atomicSub, unsigned, before - value)
DGM_SIMT_ATOMIC(atomicExch, int, value)
DGM_SIMT_ATOMIC(atomicExch, unsigned, value)
DGM_SIMT_ATOMIC(atomicExch, unsigned long long, value)
DGM_SIMT_ATOMIC(atomicExch, float, value)
DGM_SIMT_ATOMIC(atomicMin, int, before < value ? before : value)
DGM_SIMT_ATOMIC(atomicMin, unsigned, before < value ? before : value)
DGM_SIMT_ATOMIC(atomicMin, long long, before < value ? before : value)
DGM_SIMT_ATOMIC(atomicMin, unsigned long long, before < value ? before : value)
DGM_SIMT_ATOMIC(atomicMax, int, before > value ? before : value)
DGM_SIMT_ATOMIC(atomicMax, unsigned, before > value ? before : value)
DGM_SIMT_ATOMIC(atomicMax, long long, before > value ? before : value)
DGM_SIMT_ATOMIC(atomicMax, unsigned long long, before > value ? before : value)
DGM_SIMT_ATOMIC(atomicAnd, int, before& value)
DGM_SIMT_ATOMIC(atomicAnd, unsigned, before& value)
DGM_SIMT_ATOMIC(atomicAnd, unsigned long long, before& value)
DGM_SIMT_ATOMIC(atomicOr, int, before | value)
DGM_SIMT_ATOMIC(atomicOr, unsigned, before | value)
DGM_SIMT_ATOMIC(atomicOr, unsigned long long, before | value)
DGM_SIMT_ATOMIC(atomicXor, int, before ^ value)
DGM_SIMT_ATOMIC(atomicXor, unsigned, before ^ value)
DGM_SIMT_ATOMIC(atomicXor, unsigned long long, before ^ value)
DGM_SIMT_ATOMIC(atomicInc, unsigned, before >= value ? 0u : before + 1)
DGM_SIMT_ATOMIC(atomicDec, unsigned, before == 0 || before > value ? value : before - 1)
#undef DGM_SIMT_ATOMIC

#define DGM_SIMT_CAS(T)                                                                           \
  inline T atomicCAS(T* p, T compare, T value) {                                                  \
    return simt::detail::atomic(p, [=](T before) { return before == compare ? value : before; }); \
  }
DGM_SIMT_CAS(int)
DGM_SIMT_CAS(unsigned)
DGM_SIMT_CAS(unsigned long long)
#undef DGM_SIMT_CAS

// ---------------------------------------------------------------- bits

inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline long long __double_as_longlong(double x) { return std::bit_cast<long long>(x); }
inline double __longlong_as_double(long long x) { return std::bit_cast<double>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __clzll(long long x) { return std::countl_zero(static_cast<unsigned long long>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }
inline int __ffsll(long long x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned long long>(x)) + 1; }
inline unsigned __brev(unsigned x) {
  unsigned result = 0;
  for (int i = 0; i < 32; ++i) result |= (x >> i & 1) << (31 - i);
  return result;
}
inline unsigned __umulhi(unsigned a, unsigned b) {
  return static_cast<unsigned>(static_cast<unsigned long long>(a) * b >> 32);
}
inline int __mulhi(int a, int b) { return static_cast<int>(static_cast<long long>(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ using Wide = unsigned __int128;
  return static_cast<unsigned long long>(static_cast<Wide>(a) * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  shift &= 31;
  return shift == 0 ? high : high << shift | low >> (32 - shift);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  shift &= 31;
  return shift == 0 ? low : low >> shift | high << (32 - shift);
}

// ---------------------------------------------------------------- arithmetic

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline float __frcp_rn(float x) { return 1.f / x; }
inline float __fsqrt_rn(float x) { return sqrtf(x); }
inline float __frsqrt_rn(float x) { return static_cast<float>(1.0 / sqrt(static_cast<double>(x))); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / sqrt(x); }
inline float __saturatef(float x) { return x > 0.f ? (x < 1.f ? x : 1.f) : 0.f; }
inline float fdividef(float a, float b) { return a / b; }

inline int __float2int_rn(float x) { return static_cast<int>(rintf(x)); }
inline int __float2int_rd(float x) { return static_cast<int>(floorf(x)); }
inline int __float2int_ru(float x) { return static_cast<int>(ceilf(x)); }
inline int __float2int_rz(float x) { return static_cast<int>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __double2float_rn(double x) { return static_cast<float>(x); }

inline float sinpif(float x) {
  const float r = remainderf(x, 2.f);  // exact
  return static_cast<float>(sin(M_PI * static_cast<double>(r)));
}
inline float cospif(float x) {
  const float r = remainderf(x, 2.f);
  return static_cast<float>(cos(M_PI * static_cast<double>(r)));
}
inline void sincospif(float x, float* s, float* c) {
  *s = sinpif(x);
  *c = cospif(x);
}
inline float normcdff(float x) { return static_cast<float>(0.5 * erfc(-static_cast<double>(x) * M_SQRT1_2)); }
inline float rhypotf(float x, float y) { return 1.f / hypotf(x, y); }

// The fast intrinsics are what they are on the device: a base-2 function and a rounded product, so
// that a test sees the error they have where |x| is large. Macros, for glibc declares __expf too.
namespace simt::detail {
inline float fast_exp(float x) { return exp2f(x * 1.44269504f); }
inline float fast_exp10(float x) { return exp2f(x * 3.32192809f); }
inline float fast_log(float x) { return log2f(x) * 0.693147181f; }
inline float fast_log10(float x) { return log2f(x) * 0.301029996f; }
inline float fast_pow(float x, float y) { return exp2f(y * log2f(x)); }
inline float fast_divide(float a, float b) {
  // The documented hole: the reciprocal of a huge b is flushed to zero.
  const float size = fabsf(b);
  if (size > 0x1p126f && size < INFINITY) return isinf(a) ? NAN : copysignf(0.f, a) * copysignf(1.f, b);
  return a / b;
}
inline void fast_sincos(float x, float* s, float* c) {
  *s = sinf(x);
  *c = cosf(x);
}
}  // namespace simt::detail
#define __expf(x) ::simt::detail::fast_exp(x)
#define __exp10f(x) ::simt::detail::fast_exp10(x)
#define __logf(x) ::simt::detail::fast_log(x)
#define __log2f(x) ::log2f(x)
#define __log10f(x) ::simt::detail::fast_log10(x)
#define __powf(x, y) ::simt::detail::fast_pow(x, y)
#define __fdividef(a, b) ::simt::detail::fast_divide(a, b)
#define __sinf(x) ::sinf(x)
#define __cosf(x) ::cosf(x)
#define __sincosf(x, s, c) ::simt::detail::fast_sincos(x, s, c)

// As on the device: of a number and a NaN, the number.
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
#define DGM_SIMT_MIN_MAX(T)                                  \
  inline constexpr T min(T a, T b) { return a < b ? a : b; } \
  inline constexpr T max(T a, T b) { return a < b ? b : a; }
DGM_SIMT_MIN_MAX(int)
DGM_SIMT_MIN_MAX(unsigned)
DGM_SIMT_MIN_MAX(long)
DGM_SIMT_MIN_MAX(unsigned long)
DGM_SIMT_MIN_MAX(long long)
DGM_SIMT_MIN_MAX(unsigned long long)
#undef DGM_SIMT_MIN_MAX

// ================================================================ host code

// Values are CUDA's own.
enum cudaError {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInvalidConfiguration = 9,
  cudaErrorInvalidMemcpyDirection = 21,
  cudaErrorNoDevice = 100,
  cudaErrorInvalidDevice = 101,
  cudaErrorInvalidResourceHandle = 400,
  cudaErrorIllegalState = 401,
  cudaErrorNotReady = 600,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900,
  cudaErrorStreamCaptureInvalidated = 901,
  cudaErrorStreamCaptureImplicit = 906,
  cudaErrorStreamCaptureWrongThread = 908,
};
using cudaError_t = cudaError;

using cudaStream_t = struct CUstream_st*;
using cudaEvent_t = struct CUevent_st*;
using cudaGraph_t = struct CUgraph_st*;
using cudaGraphExec_t = struct CUgraphExec_st*;

enum cudaMemcpyKind {
  cudaMemcpyHostToHost = 0,
  cudaMemcpyHostToDevice = 1,
  cudaMemcpyDeviceToHost = 2,
  cudaMemcpyDeviceToDevice = 3,
  cudaMemcpyDefault = 4,
};

enum cudaStreamCaptureMode {
  cudaStreamCaptureModeGlobal = 0,
  cudaStreamCaptureModeThreadLocal = 1,
  cudaStreamCaptureModeRelaxed = 2,
};

enum cudaStreamCaptureStatus {
  cudaStreamCaptureStatusNone = 0,
  cudaStreamCaptureStatusActive = 1,
  cudaStreamCaptureStatusInvalidated = 2,
};

enum cudaFuncAttribute {
  cudaFuncAttributeMaxDynamicSharedMemorySize = 8,
  cudaFuncAttributePreferredSharedMemoryCarveout = 9,
};

enum cudaDeviceAttr {
  cudaDevAttrMaxThreadsPerBlock = 1,
  cudaDevAttrMaxSharedMemoryPerBlock = 8,
  cudaDevAttrWarpSize = 10,
  cudaDevAttrClockRate = 13,
  cudaDevAttrMultiProcessorCount = 16,
  cudaDevAttrMaxThreadsPerMultiProcessor = 39,
  cudaDevAttrComputeCapabilityMajor = 75,
  cudaDevAttrComputeCapabilityMinor = 76,
  cudaDevAttrMaxSharedMemoryPerMultiprocessor = 81,
  cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};

inline constexpr unsigned cudaStreamDefault = 0;
inline constexpr unsigned cudaStreamNonBlocking = 1;
inline constexpr unsigned cudaEventDefault = 0;
inline constexpr unsigned cudaEventBlockingSync = 1;
inline constexpr unsigned cudaEventDisableTiming = 2;

struct cudaDeviceProp {
  char name[256];
  std::size_t totalGlobalMem;
  std::size_t sharedMemPerBlock;
  std::size_t sharedMemPerBlockOptin;
  int warpSize;
  int maxThreadsPerBlock;
  int major;
  int minor;
  int multiProcessorCount;
};

const char* cudaGetErrorName(cudaError_t error);
/// For cudaErrorLaunchFailure the executor's report of this thread's last failed kernel.
const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();
cudaError_t cudaPeekAtLastError();

cudaError_t cudaGetDeviceCount(int* count);
cudaError_t cudaGetDevice(int* device);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device);
cudaError_t cudaDriverGetVersion(int* version);
cudaError_t cudaRuntimeGetVersion(int* version);
cudaError_t cudaDeviceSynchronize();
cudaError_t cudaMemGetInfo(std::size_t* free, std::size_t* total);

cudaError_t cudaMalloc(void** data, std::size_t bytes);
cudaError_t cudaFree(void* data);
cudaError_t cudaMallocHost(void** data, std::size_t bytes);
cudaError_t cudaFreeHost(void* data);
cudaError_t cudaMemcpy(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void* to, const void* from, std::size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream = nullptr);
cudaError_t cudaMemset(void* to, int value, std::size_t bytes);
cudaError_t cudaMemsetAsync(void* to, int value, std::size_t bytes, cudaStream_t stream = nullptr);

cudaError_t cudaStreamCreate(cudaStream_t* stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamQuery(cudaStream_t stream);
/// Between streams of which none is being captured; cudaErrorStreamCaptureUnsupported otherwise.
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags = 0);

cudaError_t cudaEventCreate(cudaEvent_t* event);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream = nullptr);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end);

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph);
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status);
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph, unsigned long long flags = 0);
cudaError_t cudaGraphDestroy(cudaGraph_t graph);
cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t stream);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable);

struct cudaLaunchConfig_t {
  dim3 gridDim;
  dim3 blockDim;
  std::size_t dynamicSmemBytes;
  cudaStream_t stream;
};

namespace simt::detail {

cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, std::function<void()> body);
cudaError_t set_function_attribute(const void* kernel, cudaFuncAttribute attribute, int value);
/// Runs work now, or, where the stream is being captured, at each launch of the graph.
cudaError_t submit(cudaStream_t stream, std::function<cudaError_t()> work);

}  // namespace simt::detail

template <class... Params>
cudaError_t cudaFuncSetAttribute(void (*kernel)(Params...), cudaFuncAttribute attribute, int value) {
  return simt::detail::set_function_attribute(reinterpret_cast<const void*>(kernel), attribute, value);
}

template <class... Params, class... Args>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Params...), Args&&... args) {
  static_assert(sizeof...(Params) == sizeof...(Args));
  static_assert(((!std::is_reference_v<Params> && std::is_trivially_copyable_v<Params>)&&...),
                "a kernel's arguments are copied to the device bit by bit");
  static_assert((sizeof(Params) + ... + 0) <= 4096);
  // Evaluated now, also where the launch is recorded: as CUDA does.
  std::tuple<Params...> values(std::forward<Args>(args)...);
  return simt::detail::launch(*config, reinterpret_cast<const void*>(kernel),
                              [kernel, values] { std::apply(kernel, values); });
}
