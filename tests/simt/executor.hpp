// SPDX-License-Identifier: Apache-2.0
// Runs CUDA kernels, compiled as plain C++, on the CPU: a fiber per CUDA thread, blocks one after
// the other.
//
// A thread runs until it reaches a warp collective or a block barrier that others have not reached
// yet. Each warp runs as far ahead as it can, so a kernel that lacks a barrier meets another warp's
// stale or future data; the order of blocks, warps and lanes is the schedule's. What hangs or is
// undefined on a GPU is a KernelError here: a barrier that some threads of the block never reach, a
// warp collective that lanes named in its mask do not reach or reach as another collective, a
// shuffle from a lane outside the mask, more shared memory taken than launched with.
//
// Says nothing about speed, registers, or the memory model between barriers.
#pragma once

#include "include/vector_types.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace simt {

/// A kernel did what the CUDA model forbids. what() names kernel, launch, block, schedule, and which
/// threads wait where.
class KernelError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Order {
  forward,   ///< blocks, warps and lanes ascending; each runs as far ahead as it can
  reverse,   ///< the same, descending
  random,    ///< shuffled, with switches at collectives and atomics as well
  lockstep,  ///< warps take turns, each lane from one collective to the next
};

struct Schedule {
  Order order = Order::forward;
  uint64_t seed = 0;
  /// "forward", "reverse", "random:SEED", "lockstep".
  std::string name() const;
  /// Inverse of name(); "random" is seed 1. Throws std::invalid_argument.
  static Schedule parse(std::string_view name);
};

/// One of each order, and random with several seeds: what a kernel's test should pass under.
const std::vector<Schedule>& schedules();
/// Every launch from now on; nullopt returns to DGM_SIMT_SCHEDULE or, without that, to an order that
/// changes from launch to launch (the same ones each time a program is run).
void use_schedule(std::optional<Schedule> schedule);

/// Counted since the start of the process.
struct Statistics {
  uint64_t launches = 0;
  uint64_t blocks = 0;
  uint64_t threads = 0;
  uint64_t switches = 0;
};
Statistics statistics();

struct Launch {
  const void* kernel;  ///< for its name
  dim3 grid;
  dim3 block;
  std::size_t shared_bytes;
};

/// Runs body once for every thread. Throws KernelError; then blocks that did not finish stay so.
void run(const Launch& launch, const std::function<void()>& body);

/// "f(int)<<<(4, 1, 1), (128, 1, 1), 512 bytes>>>".
std::string describe(const Launch& launch);

namespace detail {

extern uint3 thread_index;
extern uint3 block_index;
extern dim3 block_extent;
extern dim3 grid_extent;

enum class Collective : uint8_t {
  sync,
  shuffle,
  shuffle_up,
  shuffle_down,
  shuffle_xor,
  ballot,
  any,
  all,
  match_any,
  reduce_add,
  reduce_min_signed,
  reduce_max_signed,
  reduce_min_unsigned,
  reduce_max_unsigned,
  reduce_and,
  reduce_or,
  reduce_xor,
};

enum class Barrier : uint8_t { plain, count, conjunction, disjunction };

/// Waits for all lanes of the mask. value's meaning, and the result's, are the collective's.
uint64_t collective(Collective kind, unsigned mask, uint64_t value, int lane, int width, const char* file, int line);
/// Waits for all threads of the block.
int barrier(Barrier kind, bool predicate, const char* file, int line);
/// The block's region number `index`, made when its first thread asks.
void* take(unsigned index, std::size_t count, std::size_t element_bytes, std::size_t rounded_bytes);

extern unsigned atomics_until_switch;
void switch_at_atomic();

}  // namespace detail

/// The block's dynamic shared memory: kernels/device/launch.cuh says how it is used. Here every
/// take() has a region of its own between red zones, filled with NaN for each block.
class SharedMemory {
 public:
  template <class T>
  static constexpr std::size_t bytes(std::size_t count) {
    return (count * sizeof(T) + kAlignment - 1) / kAlignment * kAlignment;
  }
  template <class T>
  T* take(std::size_t count) {
    static_assert(alignof(T) <= kAlignment);
    return static_cast<T*>(detail::take(taken_++, count, sizeof(T), bytes<T>(count)));
  }

 private:
  static constexpr std::size_t kAlignment = 16;
  unsigned taken_ = 0;
};

}  // namespace simt
