// SPDX-License-Identifier: Apache-2.0
// That the executor runs right kernels right under every schedule, and finds what is wrong with
// wrong ones.
#include "tests/simt/executor.hpp"

#include "kernels/device/launch.cuh"

#include <gtest/gtest.h>

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#if defined(__shared__)
#error "a __shared__ variable has to be a compile error here: the executor cannot poison it"
#endif

#if defined(__SANITIZE_ADDRESS__)
#define DGM_SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DGM_SIMT_ASAN 1
#endif
#endif

namespace dgm::cuda {
namespace {

constexpr unsigned kAll = 0xFFFFFFFFu;

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(const std::vector<T>& values) : DeviceArray(values.size()) {
    DGM_CUDA_CHECK(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  explicit DeviceArray(std::size_t size) : size_(size) {
    void* data = nullptr;
    DGM_CUDA_CHECK(cudaMalloc(&data, size * sizeof(T)));
    data_ = static_cast<T*>(data);
  }
  ~DeviceArray() { (void)cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  operator T*() const { return data_; }
  std::vector<T> host() const {
    std::vector<T> values(size_);
    DGM_CUDA_CHECK(cudaMemcpy(values.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }

 private:
  std::size_t size_;
  T* data_ = nullptr;
};

class NewStream {
 public:
  NewStream() { DGM_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking)); }
  ~NewStream() { (void)cudaStreamDestroy(stream_); }
  NewStream(const NewStream&) = delete;
  NewStream& operator=(const NewStream&) = delete;
  operator cudaStream_t() const { return stream_; }

 private:
  cudaStream_t stream_ = nullptr;
};

/// Runs body under each schedule, with its name in every failure.
void under_every_schedule(const std::function<void()>& body) {
  for (const simt::Schedule& schedule : simt::schedules()) {
    SCOPED_TRACE("schedule " + schedule.name());
    simt::use_schedule(schedule);
    body();
  }
  simt::use_schedule(std::nullopt);
}

/// In how many of the schedules body() returned false.
int schedules_that_fail(const std::function<bool()>& body) {
  int count = 0;
  for (const simt::Schedule& schedule : simt::schedules()) {
    simt::use_schedule(schedule);
    count += body() ? 0 : 1;
  }
  simt::use_schedule(std::nullopt);
  return count;
}

/// The message of the CudaError that body throws; "" if it throws none.
std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const CudaError& error) {
    return error.what();
  }
  return "";
}

void expect_error_under_every_schedule(const std::function<void()>& body, const std::vector<std::string>& parts) {
  under_every_schedule([&] {
    const std::string error = error_of(body);
    for (const std::string& part : parts)
      EXPECT_NE(error.find(part), std::string::npos) << "no \"" << part << "\" in: " << error;
  });
}

// ---------------------------------------------------------------- right kernels

__global__ void block_sums(const int* x, int* sums, int size) {
  SharedMemory memory;
  int* const warps = memory.take<int>(blockDim.x / 32);
  int sum = 0;
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < size;
       i += static_cast<int>(gridDim.x * blockDim.x)) {
    sum += x[i];
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(kAll, sum, step);
  if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x < 32) {
    sum = threadIdx.x < blockDim.x / 32 ? warps[threadIdx.x] : 0;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(kAll, sum, static_cast<unsigned>(step));
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
  }
}

TEST(SimtExecutor, BlockReductionByShufflesIsRightForEverySizeAndSchedule) {
  under_every_schedule([] {
    for (const int size : {1, 31, 32, 33, 1000}) {
      for (const unsigned threads : {32u, 96u, 256u, 1024u}) {
        std::vector<int> x(static_cast<std::size_t>(size));
        int wanted = 0;
        for (int i = 0; i < size; ++i) wanted += x[static_cast<std::size_t>(i)] = i * i - 7;
        const DeviceArray<int> device_x(x);
        const DeviceArray<int> sums(3);
        launch(block_sums, 3, threads, SharedMemory::bytes<int>(threads / 32), nullptr,
               static_cast<const int*>(device_x), static_cast<int*>(sums), size);
        int total = 0;
        for (const int sum : sums.host()) total += sum;
        EXPECT_EQ(total, wanted) << size << " numbers, " << threads << " threads";
      }
    }
  });
}

__global__ void histogram_kernel(const unsigned* x, unsigned* counts, float* total, int size) {
  for (int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x); i < size;
       i += static_cast<int>(gridDim.x * blockDim.x)) {
    atomicAdd(&counts[x[i]], 1u);
    atomicAdd(total, 1.f);
    atomicMax(&counts[7], x[i]);
  }
}

TEST(SimtExecutor, AtomicsOfAllBlocksAddUp) {
  under_every_schedule([] {
    std::vector<unsigned> x(999);
    std::vector<unsigned> wanted(8);
    for (std::size_t i = 0; i < x.size(); ++i) ++wanted[x[i] = static_cast<unsigned>(i * i % 7)];
    wanted[7] = 4;
    const DeviceArray<unsigned> device_x(x);
    const DeviceArray<unsigned> counts{std::vector<unsigned>(8)};
    const DeviceArray<float> total{std::vector<float>(1)};
    launch(histogram_kernel, 5, 64, 0, nullptr, static_cast<const unsigned*>(device_x), static_cast<unsigned*>(counts),
           static_cast<float*>(total), 999);
    EXPECT_EQ(counts.host(), wanted);
    EXPECT_EQ(total.host()[0], 999.f);
  });
}

__global__ void vote_kernel(unsigned* out) {
  const unsigned lane = threadIdx.x % 32;
  const unsigned odd = __ballot_sync(kAll, lane & 1);
  const int any = __any_sync(kAll, lane == 31);
  const int all = __all_sync(kAll, lane < 31);
  const unsigned sum = __reduce_add_sync(kAll, lane);
  const int lowest = __reduce_min_sync(kAll, static_cast<int>(lane) - 5);
  const unsigned equals = __match_any_sync(kAll, lane % 4);
  unsigned* const row = out + 6 * threadIdx.x;
  row[0] = odd;
  row[1] = static_cast<unsigned>(any);
  row[2] = static_cast<unsigned>(all);
  row[3] = sum;
  row[4] = static_cast<unsigned>(lowest);
  row[5] = equals;
}

TEST(SimtExecutor, VotesAndReductionsAgreeWithTheirDefinitions) {
  under_every_schedule([] {
    const DeviceArray<unsigned> out(64 * 6);
    launch(vote_kernel, 1, 64, 0, nullptr, static_cast<unsigned*>(out));
    const std::vector<unsigned> got = out.host();
    for (unsigned thread = 0; thread < 64; ++thread) {
      const unsigned* const row = &got[6 * thread];
      EXPECT_EQ(row[0], 0xAAAAAAAAu);
      EXPECT_EQ(row[1], 1u);
      EXPECT_EQ(row[2], 0u);
      EXPECT_EQ(row[3], 496u);
      EXPECT_EQ(static_cast<int>(row[4]), -5);
      EXPECT_EQ(row[5], 0x11111111u << thread % 4);
    }
  });
}

__global__ void shuffle_kernel(int argument, int width, double* out) {
  const double value = threadIdx.x;
  double* const row = out + 4 * threadIdx.x;
  row[0] = __shfl_sync(kAll, value, argument, width);
  row[1] = __shfl_up_sync(kAll, value, static_cast<unsigned>(argument), width);
  row[2] = __shfl_down_sync(kAll, value, static_cast<unsigned>(argument), width);
  row[3] = __shfl_xor_sync(kAll, value, argument, width);
}

TEST(SimtExecutor, ShufflesWithAWidthStayWithinTheirSegment) {
  under_every_schedule([] {
    for (const int width : {1, 2, 4, 8, 16, 32}) {
      for (int argument = 0; argument < 32; ++argument) {
        const DeviceArray<double> out(32 * 4);
        launch(shuffle_kernel, 1, 32, 0, nullptr, argument, width, static_cast<double*>(out));
        const std::vector<double> got = out.host();
        for (int lane = 0; lane < 32; ++lane) {
          const int first = lane / width * width;
          const int position = lane - first;
          const int flipped = lane ^ argument;
          EXPECT_EQ(got[4 * lane], first + argument % width) << "lane " << lane << " width " << width;
          EXPECT_EQ(got[4 * lane + 1], position >= argument ? lane - argument : lane);
          EXPECT_EQ(got[4 * lane + 2], position + argument < width ? lane + argument : lane);
          // A lane may read from earlier segments, never from later ones.
          EXPECT_EQ(got[4 * lane + 3], flipped < first + width ? flipped : lane)
              << "lane " << lane << " width " << width;
        }
      }
    }
  });
}

__global__ void half_warps(int* out) {
  const unsigned half = threadIdx.x % 32 / 16;
  const unsigned mask = half == 0 ? 0xFFFFu : 0xFFFF0000u;
  int value = static_cast<int>(threadIdx.x);
  // The halves shuffle different numbers of times before the warp meets again.
  for (unsigned round = 0; round <= 3 * half; ++round) value += __shfl_xor_sync(mask, value, 1);
  out[threadIdx.x] = __shfl_sync(kAll, value, 16);
}

TEST(SimtExecutor, HalvesOfAWarpMayDivergeAndMeetAgain) {
  under_every_schedule([] {
    const DeviceArray<int> out(32);
    launch(half_warps, 1, 32, 0, nullptr, static_cast<int*>(out));
    EXPECT_EQ(out.host(), std::vector<int>(32, (16 + 17) * 8));
  });
}

__global__ void block_votes(int* out) {
  const int count = __syncthreads_count(threadIdx.x % 3 == 0);
  const int all = __syncthreads_and(threadIdx.x < 100);
  const int any = __syncthreads_or(threadIdx.x == 99);
  if (threadIdx.x == 57) {
    out[0] = count;
    out[1] = all;
    out[2] = any;
  }
}

TEST(SimtExecutor, BarriersCountVotesOfABlockThatIsNoMultipleOfAWarp) {
  under_every_schedule([] {
    const DeviceArray<int> out(3);
    launch(block_votes, 1, 100, 0, nullptr, static_cast<int*>(out));
    EXPECT_EQ(out.host(), (std::vector<int>{34, 1, 1}));
  });
}

__global__ void count_visits(int* visits) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  ++visits[block * blockDim.x * blockDim.y * blockDim.z + thread];
}

TEST(SimtExecutor, EveryThreadOfAThreeDimensionalGridRunsOnce) {
  under_every_schedule([] {
    constexpr std::size_t kThreads = 5 * 3 * 2 * 7 * 2 * 3;
    const DeviceArray<int> visits{std::vector<int>(kThreads)};
    launch(count_visits, dim3(5, 3, 2), dim3(7, 2, 3), 0, nullptr, static_cast<int*>(visits));
    EXPECT_EQ(visits.host(), std::vector<int>(kThreads, 1));
  });
}

__global__ void wait_for_the_other(unsigned* turn) {
  // Thread t takes its turn after thread t + 1: hangs where one thread runs to its end first.
  while (atomicAdd(turn, 0u) != blockDim.x - 1 - threadIdx.x) {
  }
  atomicAdd(turn, 1u);
}

TEST(SimtExecutor, ThreadThatWaitsForAnAtomicOfAnotherLetsItRun) {
  under_every_schedule([] {
    const DeviceArray<unsigned> turn{std::vector<unsigned>(1)};
    launch(wait_for_the_other, 1, 70, 0, nullptr, static_cast<unsigned*>(turn));
    EXPECT_EQ(turn.host()[0], 70u);
  });
}

// ---------------------------------------------------------------- missing barriers

template <bool kBarrier>
__global__ void reverse_block(int* out) {
  SharedMemory memory;
  int* const values = memory.take<int>(blockDim.x);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if constexpr (kBarrier) __syncthreads();
  out[threadIdx.x] = values[blockDim.x - 1 - threadIdx.x];
}

template <class Kernel>
bool reverses(Kernel kernel) {
  const DeviceArray<int> out(128);
  launch(kernel, 1, 128, SharedMemory::bytes<int>(128), nullptr, static_cast<int*>(out));
  const std::vector<int> got = out.host();
  for (int i = 0; i < 128; ++i) {
    if (got[static_cast<std::size_t>(i)] != 127 - i) return false;
  }
  return true;
}

TEST(SimtExecutor, MissingBarrierGivesAWrongResultUnderEverySchedule) {
  EXPECT_EQ(schedules_that_fail([] { return reverses(reverse_block<true>); }), 0);
  EXPECT_EQ(schedules_that_fail([] { return reverses(reverse_block<false>); }),
            static_cast<int>(simt::schedules().size()));
}

template <bool kBarrier>
__global__ void rotate_in_rounds(int* out, int rounds) {
  SharedMemory memory;
  int* const values = memory.take<int>(blockDim.x);
  int value = static_cast<int>(threadIdx.x);
  for (int round = 0; round < rounds; ++round) {
    values[threadIdx.x] = value;
    __syncthreads();
    value = values[(threadIdx.x + 1) % blockDim.x];
    // Without this one a fast warp overwrites what a slow one has yet to read.
    if constexpr (kBarrier) __syncthreads();
  }
  out[threadIdx.x] = value;
}

template <class Kernel>
bool rotates(Kernel kernel) {
  const DeviceArray<int> out(96);
  launch(kernel, 1, 96, SharedMemory::bytes<int>(96), nullptr, static_cast<int*>(out), 5);
  const std::vector<int> got = out.host();
  for (int i = 0; i < 96; ++i) {
    if (got[static_cast<std::size_t>(i)] != (i + 5) % 96) return false;
  }
  return true;
}

TEST(SimtExecutor, SharedBufferReusedTooEarlyGivesAWrongResult) {
  EXPECT_EQ(schedules_that_fail([] { return rotates(rotate_in_rounds<true>); }), 0);
  EXPECT_GE(schedules_that_fail([] { return rotates(rotate_in_rounds<false>); }), 3);
}

template <bool kBarrier>
__global__ void warp_exchange(int* out) {
  SharedMemory memory;
  int* const values = memory.take<int>(32);
  values[threadIdx.x] = static_cast<int>(threadIdx.x);
  if constexpr (kBarrier) __syncwarp();
  out[threadIdx.x] = values[threadIdx.x ^ 1];
}

TEST(SimtExecutor, MissingWarpBarrierGivesAWrongResultUnderEverySchedule) {
  const auto exchanges = [](auto kernel) {
    const DeviceArray<int> out(32);
    launch(kernel, 1, 32, SharedMemory::bytes<int>(32), nullptr, static_cast<int*>(out));
    const std::vector<int> got = out.host();
    for (int i = 0; i < 32; ++i) {
      if (got[static_cast<std::size_t>(i)] != (i ^ 1)) return false;
    }
    return true;
  };
  EXPECT_EQ(schedules_that_fail([&] { return exchanges(warp_exchange<true>); }), 0);
  EXPECT_EQ(schedules_that_fail([&] { return exchanges(warp_exchange<false>); }),
            static_cast<int>(simt::schedules().size()));
}

// ---------------------------------------------------------------- barriers that some never reach

__global__ void returns_before_the_barrier(int size) {
  if (static_cast<int>(threadIdx.x) >= size) return;
  __syncthreads();
}

TEST(SimtExecutor, BarrierAfterAnEarlyReturnIsReportedWithItsThreads) {
  expect_error_under_every_schedule(
      [] { launch(returns_before_the_barrier, 2, 96, 0, nullptr, 40); },
      {"returns_before_the_barrier", "block (", "a barrier is not reached by all of the block",
       "threads 0-39 wait at __syncthreads (", "executor_test.cpp:", "threads 40-95 returned", "schedule "});
  EXPECT_EQ(error_of([] { launch(returns_before_the_barrier, 2, 96, 0, nullptr, 96); }), "");
}

__global__ void barrier_of_one_warp(int* out) {
  if (threadIdx.x < 32) __syncthreads();
  out[threadIdx.x] = 1;
  __syncthreads();
}

TEST(SimtExecutor, BarrierThatPartOfTheBlockSkipsIsReportedWithBothPlaces) {
  expect_error_under_every_schedule(
      [] {
        const DeviceArray<int> out(64);
        launch(barrier_of_one_warp, 1, 64, 0, nullptr, static_cast<int*>(out));
      },
      {"barrier_of_one_warp", "the block does not meet at one barrier", "threads 0-31 wait", "threads 32-63 wait"});
}

__global__ void barrier_in_a_divergent_warp(int* out) {
  if (threadIdx.x % 2 == 0) {
    out[threadIdx.x] = __shfl_xor_sync(kAll, 1, 2);
  } else {
    __syncthreads();
  }
}

TEST(SimtExecutor, WarpThatSplitsBetweenAShuffleAndABarrierIsReported) {
  expect_error_under_every_schedule(
      [] {
        const DeviceArray<int> out(64);
        launch(barrier_in_a_divergent_warp, 1, 64, 0, nullptr, static_cast<int*>(out));
      },
      {"a warp collective is not reached by all of its lanes", "__shfl_xor_sync of lanes 0xffffffff",
       "wait at __syncthreads"});
}

__global__ void shuffle_after_return(int* out) {
  if (threadIdx.x == 5) return;
  out[threadIdx.x] = __shfl_sync(kAll, 1, 0);
}

TEST(SimtExecutor, ShuffleThatNamesALaneThatReturnedIsReported) {
  expect_error_under_every_schedule(
      [] {
        const DeviceArray<int> out(32);
        launch(shuffle_after_return, 1, 32, 0, nullptr, static_cast<int*>(out));
      },
      {"threads 0-4,6-31 wait at __shfl_sync", "thread 5 returned"});
}

__global__ void different_collectives(int* out) {
  if (threadIdx.x < 16) {
    out[threadIdx.x] = __any_sync(kAll, 1);
  } else {
    out[threadIdx.x] = __all_sync(kAll, 1);
  }
}

TEST(SimtExecutor, LanesThatArriveAtDifferentCollectivesAreReported) {
  expect_error_under_every_schedule(
      [] {
        const DeviceArray<int> out(32);
        launch(different_collectives, 1, 32, 0, nullptr, static_cast<int*>(out));
      },
      {"threads 0-15 wait at __any_sync", "threads 16-31 wait at __all_sync"});
}

__global__ void shuffle_from_outside(int* out, unsigned mask) {
  if ((mask >> threadIdx.x & 1) != 0) out[threadIdx.x] = __shfl_down_sync(mask, 1, 8);
}

TEST(SimtExecutor, ShuffleFromALaneOutsideTheMaskIsReported) {
  expect_error_under_every_schedule(
      [] {
        const DeviceArray<int> out(32);
        launch(shuffle_from_outside, 1, 32, 0, nullptr, static_cast<int*>(out), 0xFFFFu);
      },
      {"reads from lane", "which does not take part"});
  // A block of 20 threads has no lane 20 to read from.
  EXPECT_NE(error_of([] {
              const DeviceArray<int> out(32);
              launch(shuffle_from_outside, 1, 20, 0, nullptr, static_cast<int*>(out), kAll);
            }).find("reads from lane 2"),
            std::string::npos);
}

__global__ void not_in_its_own_mask(int* out) { out[threadIdx.x] = __shfl_sync(0xFFFFu, 1, 0); }

TEST(SimtExecutor, LaneThatIsNotInItsOwnMaskIsReported) {
  expect_error_under_every_schedule(
      [] {
        const DeviceArray<int> out(32);
        launch(not_in_its_own_mask, 1, 32, 0, nullptr, static_cast<int*>(out));
      },
      {"the calling lane is not in its own mask"});
}

TEST(SimtExecutor, RunsRightKernelsAfterAReportedOne) {
  for (int round = 0; round < 50; ++round) {
    EXPECT_NE(error_of([] { launch(returns_before_the_barrier, 1, 64, 0, nullptr, 1); }), "");
    EXPECT_TRUE(reverses(reverse_block<true>));
  }
}

// ---------------------------------------------------------------- memory

__global__ void write_shared(int count, int index) {
  SharedMemory memory;
  float* const first = memory.take<float>(static_cast<std::size_t>(count));
  float* const second = memory.take<float>(static_cast<std::size_t>(count));
  second[threadIdx.x] = first[threadIdx.x];
  if (threadIdx.x == 0) first[index] = 1.f;
}

TEST(SimtExecutorDeathTest, WriteOnePastTheEndOfASharedArrayIsCaught) {
  // 5 floats leave slack before the next 16-byte boundary, 8 do not.
  for (const int count : {5, 8}) {
    const auto write = [count](int index) {
      launch(write_shared, 1, static_cast<unsigned>(count), 2 * SharedMemory::bytes<float>(count), nullptr, count,
             index);
    };
    write(count - 1);
#if defined(DGM_SIMT_ASAN)
    EXPECT_DEATH(write(count), "use-after-poison(.|\n)*in kernel .*write_shared(.|\n)*thread \\(0, 0, 0\\)");
#else
    EXPECT_NE(error_of([&] { write(count); }).find("a write outside of take number 0"), std::string::npos);
#endif
  }
}

__global__ void write_global(float* x, int index) { x[index] = 1.f; }

TEST(SimtExecutorDeathTest, WriteOnePastTheEndOfAnAllocationIsCaught) {
  const auto write = [](int index) {
    const DeviceArray<float> x(7);
    launch(write_global, 1, 1, 0, nullptr, static_cast<float*>(x), index);
  };
  write(6);
#if defined(DGM_SIMT_ASAN)
  EXPECT_DEATH(write(7), "heap-buffer-overflow(.|\n)*in kernel .*write_global");
#else
  EXPECT_NE(error_of([&] { write(7); }).find("a write past the end of an allocation of 28 bytes"), std::string::npos);
  EXPECT_NE(error_of([&] { write(-1); }).find("a write before the beginning"), std::string::npos);
#endif
}

TEST(SimtExecutorDeathTest, FaultIsReportedWithKernelBlockAndThread) {
  EXPECT_DEATH(launch(write_global, 1, 1, 0, nullptr, reinterpret_cast<float*>(64), 0),
               "in kernel .*write_global.*<<<.*block \\(0, 0, 0\\).*thread \\(0, 0, 0\\)");
}

__global__ void read_shared(float* out) {
  SharedMemory memory;
  float* const values = memory.take<float>(32);
  out[threadIdx.x] = values[threadIdx.x];
  values[threadIdx.x] = 1.f;  // the next block must not see it
}

TEST(SimtExecutor, MemoryIsNanUntilItIsWritten) {
  const DeviceArray<float> out(32);
  for (const float value : out.host()) EXPECT_TRUE(std::isnan(value));
  launch(write_global, 1, 1, 0, nullptr, static_cast<float*>(out), 3);
  launch(read_shared, 3, 32, SharedMemory::bytes<float>(32), nullptr, static_cast<float*>(out));
  for (const float value : out.host()) EXPECT_TRUE(std::isnan(value));
}

TEST(SimtExecutor, MoreSharedMemoryTakenThanLaunchedWithIsReported) {
  expect_error_under_every_schedule(
      [] { launch(write_shared, 1, 8, 48, nullptr, 8, 0); },
      {"write_shared", "take number 1 of shared memory makes 64 bytes, launched with 48"});
}

__global__ void uneven_takes() {
  SharedMemory memory;
  memory.take<float>(threadIdx.x == 33 ? 4 : 8);
}

TEST(SimtExecutor, ThreadsThatTakeDifferentArraysAreReported) {
  expect_error_under_every_schedule([] { launch(uneven_takes, 1, 64, 64, nullptr); },
                                    {"thread (", "in another thread"});
}

__global__ void throws_in_one_thread() {
  if (threadIdx.x == 3 && blockIdx.x == 1) throw std::runtime_error("as expected");
}

TEST(SimtExecutor, ExceptionNamesKernelBlockAndThread) {
  expect_error_under_every_schedule([] { launch(throws_in_one_thread, 2, 8, 0, nullptr); },
                                    {"throws_in_one_thread", "block (1, 0, 0)", "thread (3, 0, 0): as expected"});
}

// ---------------------------------------------------------------- launches

TEST(SimtRuntime, LaunchOutsideTheLimitsOfADeviceIsRefused) {
  const auto launch_with = [](dim3 grid, dim3 block, std::size_t shared) {
    cudaLaunchConfig_t config = {grid, block, shared, nullptr};
    return cudaLaunchKernelEx(&config, throws_in_one_thread);
  };
  EXPECT_EQ(launch_with(0, 32, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_with(1, 0, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_with(1, 1025, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_with(1, dim3(32, 32, 2), 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_with(dim3(1, 65536), 1, 0), cudaErrorInvalidConfiguration);
  EXPECT_EQ(launch_with(1, 32, 48 * 1024 + 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFuncSetAttribute(throws_in_one_thread, cudaFuncAttributeMaxDynamicSharedMemorySize, 64 * 1024),
            cudaSuccess);
  EXPECT_EQ(launch_with(1, 32, 64 * 1024), cudaSuccess);
  EXPECT_EQ(cudaFuncSetAttribute(throws_in_one_thread, cudaFuncAttributeMaxDynamicSharedMemorySize, 228 * 1024),
            cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaErrorInvalidValue);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

TEST(SimtRuntime, MemoryIsBoundedAndCopiesAreChecked) {
  std::size_t free = 0;
  std::size_t total = 0;
  ASSERT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  void* data = nullptr;
  EXPECT_EQ(cudaMalloc(&data, total + 1), cudaErrorMemoryAllocation);
  EXPECT_EQ(data, nullptr);
  ASSERT_EQ(cudaMalloc(&data, 100), cudaSuccess);
  std::size_t less = 0;
  ASSERT_EQ(cudaMemGetInfo(&less, &total), cudaSuccess);
  EXPECT_EQ(less, free - 100);
  char host[200] = {};
  EXPECT_EQ(cudaMemcpy(data, host, 101, cudaMemcpyDefault), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemcpy(data, host, 100, cudaMemcpyDeviceToHost), cudaErrorInvalidValue);
  EXPECT_EQ(cudaMemset(host, 0, 1), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(host), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(data), cudaSuccess);
  EXPECT_EQ(cudaFree(data), cudaErrorInvalidValue);
  (void)cudaGetLastError();
}

// ---------------------------------------------------------------- capture

__global__ void add_kernel(float* x, float value) { x[threadIdx.x] += value; }

TEST(SimtRuntime, CapturedWorkRunsAtEachLaunchOfTheGraphAndOnlyThen) {
  const NewStream stream;
  const DeviceArray<float> x(std::vector<float>{1, 2, 3, 4});
  const DeviceArray<float> y(4);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  float value = 10.f;
  launch(add_kernel, 1, 4, 0, stream, static_cast<float*>(x), value);
  value = 99.f;  // arguments are those at the time of the call
  DGM_CUDA_CHECK(cudaMemcpyAsync(y, x, 4 * sizeof(float), cudaMemcpyDefault, stream));
  DGM_CUDA_CHECK(cudaMemsetAsync(x, 0, sizeof(float), stream));
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(x.host(), (std::vector<float>{1, 2, 3, 4}));

  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  for (int round = 0; round < 2; ++round) DGM_CUDA_CHECK(cudaGraphLaunch(executable, stream));
  DGM_CUDA_CHECK(cudaStreamSynchronize(stream));
  EXPECT_EQ(y.host(), (std::vector<float>{10, 22, 23, 24}));
  EXPECT_EQ(x.host(), (std::vector<float>{0, 22, 23, 24}));
  DGM_CUDA_CHECK(cudaGraphExecDestroy(executable));
}

TEST(SimtRuntime, CaptureRefusesWhatNeedsTheDeviceToFinish) {
  const NewStream stream;
  const NewStream other;
  const DeviceArray<float> x(4);
  float host[4] = {};
  void* data = nullptr;
  const std::map<std::string, std::function<cudaError_t()>> calls = {
      {"synchronize the stream", [&] { return cudaStreamSynchronize(stream); }},
      {"synchronize the device", [&] { return cudaDeviceSynchronize(); }},
      {"copy to the host", [&] { return cudaMemcpyAsync(host, x, 16, cudaMemcpyDefault, stream); }},
      {"copy from the host", [&] { return cudaMemcpyAsync(x, host, 16, cudaMemcpyDefault, stream); }},
      {"blocking copy", [&] { return cudaMemcpy(host, x, 16, cudaMemcpyDefault); }},
      {"allocate", [&] { return cudaMalloc(&data, 16); }},
  };
  for (const auto& [name, call] : calls) {
    SCOPED_TRACE(name);
    ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(other), cudaSuccess);
    EXPECT_EQ(call(), cudaErrorStreamCaptureUnsupported);
    EXPECT_EQ(cudaMemsetAsync(x, 0, 16, stream), cudaErrorStreamCaptureInvalidated);
    cudaGraph_t graph = nullptr;
    EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureInvalidated);
    EXPECT_EQ(graph, nullptr);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  }
  // Allocating is legal for a thread that says it means to.
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  EXPECT_EQ(cudaMalloc(&data, 16), cudaSuccess);
  EXPECT_EQ(cudaThreadExchangeStreamCaptureMode(&mode), cudaSuccess);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  EXPECT_EQ(cudaFree(data), cudaSuccess);
  (void)cudaGetLastError();
}

TEST(SimtRuntime, KernelThatFailsInAGraphIsReportedByTheLaunch) {
  const NewStream stream;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  launch(throws_in_one_thread, 2, 8, 0, stream);
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t executable = nullptr;
  ASSERT_EQ(cudaGraphInstantiate(&executable, graph, 0), cudaSuccess);
  EXPECT_NE(error_of([&] { DGM_CUDA_CHECK(cudaGraphLaunch(executable, stream)); }).find("as expected"),
            std::string::npos);
  (void)cudaGraphExecDestroy(executable);
  (void)cudaGraphDestroy(graph);
}

// ---------------------------------------------------------------- cuBLAS

TEST(SimtCublas, ProductsOfEveryTransposeMatchALoop) {
  cublasHandle_t handle = nullptr;
  ASSERT_EQ(cublasCreate(&handle), CUBLAS_STATUS_SUCCESS);
  constexpr int m = 3, n = 5, k = 4, ld = 7, batch = 2, stride = 64;
  std::vector<float> a(batch * stride), b(batch * stride), c(batch * stride);
  for (std::size_t i = 0; i < a.size(); ++i) {
    a[i] = static_cast<float>(static_cast<int>(i * 37 % 19) - 9);
    b[i] = static_cast<float>(static_cast<int>(i * 53 % 23) - 11);
    c[i] = static_cast<float>(static_cast<int>(i * 11 % 13) - 6);
  }
  const DeviceArray<float> device_a(a);
  const DeviceArray<float> device_b(b);
  for (const cublasOperation_t at : {CUBLAS_OP_N, CUBLAS_OP_T}) {
    for (const cublasOperation_t bt : {CUBLAS_OP_N, CUBLAS_OP_T}) {
      for (const float beta : {0.f, 2.f}) {
        std::vector<float> before = c;
        if (beta == 0.f) before.assign(before.size(), NAN);  // must not be read
        const DeviceArray<float> device_c(before);
        const float alpha = 0.5f;
        ASSERT_EQ(cublasSgemmStridedBatched(handle, at, bt, m, n, k, &alpha, device_a, ld, stride, device_b, ld, stride,
                                            &beta, device_c, ld, stride, batch),
                  CUBLAS_STATUS_SUCCESS);
        const std::vector<float> got = device_c.host();
        for (int s = 0; s < batch; ++s) {
          for (int j = 0; j < n; ++j) {
            for (int i = 0; i < m; ++i) {
              float sum = 0.f;
              for (int p = 0; p < k; ++p) {
                sum += a[s * stride + (at == CUBLAS_OP_N ? i + p * ld : p + i * ld)] *
                       b[s * stride + (bt == CUBLAS_OP_N ? p + j * ld : j + p * ld)];
              }
              const int at_c = s * stride + i + j * ld;
              EXPECT_EQ(got[at_c], alpha * sum + (beta == 0.f ? 0.f : beta * before[at_c]));
            }
          }
        }
      }
    }
  }
  const float one = 1.f;
  EXPECT_EQ(
      cublasSgemm(handle, CUBLAS_OP_N, CUBLAS_OP_N, m, n, k, &one, device_a, m - 1, device_b, k, &one, device_a, m),
      CUBLAS_STATUS_INVALID_VALUE);
  EXPECT_EQ(cublasDestroy(handle), CUBLAS_STATUS_SUCCESS);
}

}  // namespace
}  // namespace dgm::cuda
