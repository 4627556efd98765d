// SPDX-License-Identifier: Apache-2.0
#include "executor.hpp"

#include "symbol.hpp"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <numeric>
#include <sstream>
#include <utility>

#if defined(DGM_SIMT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__) && !defined(DGM_SIMT_UCONTEXT)
#define DGM_SIMT_ASSEMBLY 1
#else
#include <ucontext.h>
#endif

namespace simt {

namespace detail {
uint3 thread_index;
uint3 block_index;
dim3 block_extent;
dim3 grid_extent;
unsigned atomics_until_switch = 1;
}  // namespace detail

namespace {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;
constexpr unsigned kMaxRegions = 64;
constexpr std::size_t kRedZone = 64;
[[maybe_unused]] constexpr unsigned char kCanary = 0xA5;
constexpr unsigned char kUninitialised = 0xFF;  // a NaN as float and double, -1 as an index
constexpr std::size_t kStackBytes = 256 * 1024;
// A thread that only ever does atomics waits for another thread: let that one run.
constexpr unsigned kPatience = 1 << 14;

// ---------------------------------------------------------------- stacks and switching

struct Context {
#if defined(DGM_SIMT_ASSEMBLY)
  void* stack_pointer = nullptr;
#else
  ucontext_t context;
#endif
};

[[noreturn]] void fiber_main();

#if defined(DGM_SIMT_ASSEMBLY)
// swapcontext would ask the kernel for the signal mask twice a switch. A fiber is entered and left
// through calls only, so the callee-saved registers are all there is to keep.
extern "C" void simt_switch_stacks(void** from, void* to);
asm(R"(
  .text
  .p2align 4
  .globl simt_switch_stacks
  .type simt_switch_stacks, @function
simt_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
  .size simt_switch_stacks, . - simt_switch_stacks
)");

void switch_context(Context& from, Context& to) { simt_switch_stacks(&from.stack_pointer, to.stack_pointer); }

void prepare(Context& context, char* stack) {
  void** top = reinterpret_cast<void**>(stack + kStackBytes);
  *--top = nullptr;  // where a return address would be: aligns the frame, ends a backtrace
  *--top = reinterpret_cast<void*>(&fiber_main);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  context.stack_pointer = top;
}
#else
void switch_context(Context& from, Context& to) { swapcontext(&from.context, &to.context); }

void prepare(Context& context, char* stack) {
  getcontext(&context.context);
  context.context.uc_stack.ss_sp = stack;
  context.context.uc_stack.ss_size = kStackBytes;
  context.context.uc_link = nullptr;
  makecontext(
      &context.context, [] { fiber_main(); }, 0);
}
#endif

class Stacks {
 public:
  char* take() {
    if (free_.empty()) free_.push_back(map());
    char* const stack = free_.back();
    free_.pop_back();
    return stack;
  }
  void give(char* stack) { free_.push_back(stack); }
  /// A stack whose fiber will never return: its frames are still poisoned.
  void abandon(char* stack) {
#if defined(DGM_SIMT_ASAN)
    __asan_unpoison_memory_region(stack, kStackBytes);
#endif
    give(stack);
  }

 private:
  static char* map() {
    const std::size_t guard = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    void* const base =
        mmap(nullptr, guard + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    mprotect(base, guard, PROT_NONE);  // a kernel that overflows its stack faults
    return static_cast<char*>(base) + guard;
  }
  std::vector<char*> free_;
};

// ---------------------------------------------------------------- the state of the running launch

enum class State : uint8_t { fresh, ready, collective, barrier, finished };

struct Fiber {
  Context context;
  char* stack = nullptr;
  void* fake_stack = nullptr;
  uint3 index = {};
  State state = State::fresh;
  uint8_t kind = 0;  // a Collective or a Barrier, where it waits
  bool predicate = false;
  unsigned mask = 0;
  int lane_argument = 0;
  int width = 0;
  int line = 0;
  const char* file = nullptr;
  uint64_t value = 0;  // goes in; the result comes out
};

struct Warp {
  unsigned exists = 0;   // lanes the block has
  unsigned ready = 0;    // lanes that can run
  unsigned yielded = 0;  // lanes that can run once every other one has had its turn
  unsigned waiting = 0;  // lanes in a collective
};

struct Region {
  unsigned char* data;
  std::size_t bytes;
  std::size_t rounded;
};

struct Executor {
  std::mutex mutex;
  Stacks stacks;
  Context scheduler;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_bytes = 0;

  const Launch* launch = nullptr;
  const std::function<void()>* body = nullptr;
  Schedule schedule;
  uint64_t random = 0;
  unsigned threads = 0;
  unsigned alive = 0;
  unsigned at_barrier = 0;
  std::vector<Fiber> fibers;
  Warp warps[kMaxThreads / kWarp];
  unsigned warp_count = 0;
  unsigned ready_warps = 0;
  unsigned last_warp = 0;
  Fiber* current = nullptr;
  std::string failure;  // what a thread of this block did wrong

  std::vector<unsigned char> arena;
  std::size_t arena_used = 0;
  std::size_t shared_taken = 0;
  Region regions[kMaxRegions];
  unsigned region_count = 0;

  std::optional<Schedule> chosen;
  Statistics counts;
};

Executor& executor() {
  static Executor* const instance = new Executor;  // outlives every static object that launches
  return *instance;
}

// SplitMix64.
uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}
uint64_t next_random(Executor& e) { return mix(e.random += 0x9E3779B97F4A7C15ull); }
unsigned random_below(Executor& e, unsigned n) { return static_cast<unsigned>((next_random(e) >> 32) * n >> 32); }

unsigned number(const Executor& e, const Fiber& f) { return static_cast<unsigned>(&f - e.fibers.data()); }

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class T>
std::string triple(const T& v) {
  return text("(", v.x, ", ", v.y, ", ", v.z, ")");
}

std::string where(const Executor& e) {
  return text(describe(*e.launch), ", block ", triple(detail::block_index), ", schedule ", e.schedule.name());
}

// ---------------------------------------------------------------- fibers

__attribute__((noinline)) void run_body(Executor& e) {
  try {
    (*e.body)();
  } catch (const std::exception& error) {
    e.failure = text("thread ", triple(e.current->index), ": ", error.what());
  } catch (...) {
    e.failure = text("thread ", triple(e.current->index), ": an exception");
  }
}

// Not instrumented: with detect_stack_use_after_return its frame would be on the scheduler's fake
// stack when it begins and on one already destroyed when it ends.
[[noreturn]] __attribute__((no_sanitize("address"))) void fiber_main() {
  Executor& e = executor();
#if defined(DGM_SIMT_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &e.scheduler_stack, &e.scheduler_stack_bytes);
#endif
  run_body(e);
  Fiber& self = *e.current;
  self.state = State::finished;
#if defined(DGM_SIMT_ASAN)
  __sanitizer_start_switch_fiber(nullptr, e.scheduler_stack, e.scheduler_stack_bytes);
#endif
  switch_context(self.context, e.scheduler);
  std::abort();
}

/// Back to the scheduler until it resumes this thread.
void leave(Executor& e) {
  Fiber& self = *e.current;
#if defined(DGM_SIMT_ASAN)
  __sanitizer_start_switch_fiber(&self.fake_stack, e.scheduler_stack, e.scheduler_stack_bytes);
#endif
  switch_context(self.context, e.scheduler);
#if defined(DGM_SIMT_ASAN)
  __sanitizer_finish_switch_fiber(self.fake_stack, &e.scheduler_stack, &e.scheduler_stack_bytes);
#endif
}

void resume(Executor& e, Fiber& fiber) {
  if (fiber.state == State::fresh) {
    fiber.stack = e.stacks.take();
    prepare(fiber.context, fiber.stack);
  }
  fiber.state = State::ready;
  e.current = &fiber;
  detail::thread_index = fiber.index;
  detail::atomics_until_switch = e.schedule.order == Order::random ? 1 + random_below(e, 8) : kPatience;
  ++e.counts.switches;
#if defined(DGM_SIMT_ASAN)
  __sanitizer_start_switch_fiber(&e.scheduler_fake_stack, fiber.stack, kStackBytes);
#endif
  switch_context(e.scheduler, fiber.context);
#if defined(DGM_SIMT_ASAN)
  __sanitizer_finish_switch_fiber(e.scheduler_fake_stack, nullptr, nullptr);
#endif
  e.current = nullptr;
  if (fiber.state == State::finished) {
    e.stacks.give(fiber.stack);
    fiber.stack = nullptr;
    --e.alive;
  }
}

void wake(Executor& e, unsigned warp, unsigned lanes) {
  e.warps[warp].ready |= lanes;
  if (e.warps[warp].ready != 0) e.ready_warps |= 1u << warp;
}

// ---------------------------------------------------------------- reports

std::string ranges(const std::vector<unsigned>& numbers) {
  std::string result;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t j = i;
    while (j + 1 < numbers.size() && numbers[j + 1] == numbers[j] + 1) ++j;
    result += text(result.empty() ? "" : ",", numbers[i]);
    if (j > i) result += text("-", numbers[j]);
    i = j + 1;
  }
  return result;
}

const char* collective_name(uint8_t kind) {
  static constexpr const char* kNames[] = {
      "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",    "__shfl_down_sync",  "__shfl_xor_sync",
      "__ballot_sync",     "__any_sync",        "__all_sync",        "__match_any_sync",  "__reduce_add_sync",
      "__reduce_min_sync", "__reduce_max_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_and_sync",
      "__reduce_or_sync",  "__reduce_xor_sync"};
  return kNames[kind];
}

const char* barrier_name(uint8_t kind) {
  static constexpr const char* kNames[] = {"__syncthreads", "__syncthreads_count", "__syncthreads_and",
                                           "__syncthreads_or"};
  return kNames[kind];
}

std::string who_waits_where(const Executor& e) {
  std::map<std::string, std::vector<unsigned>> groups;
  for (unsigned i = 0; i < e.threads; ++i) {
    const Fiber& f = e.fibers[i];
    std::ostringstream what;
    switch (f.state) {
      case State::finished:
        what << "returned";
        break;
      case State::barrier:
        what << "wait at " << barrier_name(f.kind) << " (" << f.file << ":" << f.line << ")";
        break;
      case State::collective:
        what << "wait at " << collective_name(f.kind) << " of lanes 0x" << std::hex << f.mask << std::dec << " ("
             << f.file << ":" << f.line << ")";
        break;
      default:
        what << "were running";
    }
    groups[what.str()].push_back(i);
  }
  std::string result;
  for (const auto& [what, numbers] : groups) {
    result +=
        text(result.empty() ? "" : "; ", numbers.size() == 1 ? "thread " : "threads ", ranges(numbers), " ", what);
  }
  return result;
}

[[noreturn]] void fail(const Executor& e, const std::string& what) { throw KernelError(text(where(e), ": ", what)); }

// ---------------------------------------------------------------- shared memory

void poison(const void* begin, std::size_t bytes) {
#if defined(DGM_SIMT_ASAN)
  __asan_poison_memory_region(begin, bytes);
#else
  std::memset(const_cast<void*>(begin), kCanary, bytes);
#endif
}

void unpoison(const void* begin, std::size_t bytes) {
#if defined(DGM_SIMT_ASAN)
  __asan_unpoison_memory_region(begin, bytes);
#else
  (void)begin;
  (void)bytes;
#endif
}

void make_arena(Executor& e, std::size_t shared_bytes) {
  const std::size_t needed = shared_bytes + (kMaxRegions + 2) * kRedZone;
  if (e.arena.size() < needed) {
    unpoison(e.arena.data(), e.arena.size());
    e.arena = std::vector<unsigned char>(needed);
    poison(e.arena.data(), e.arena.size());
  }
}

/// Ends the block's regions; the number of the one that was written outside of, or -1.
int drop_regions(Executor& e) {
  int broken = -1;
  for (unsigned i = 0; i < e.region_count; ++i) {
#if !defined(DGM_SIMT_ASAN)
    const Region& r = e.regions[i];
    const auto is_canary = [](unsigned char c) { return c == kCanary; };
    if (broken < 0 && !(std::all_of(r.data - kRedZone, r.data, is_canary) &&
                        std::all_of(r.data + r.bytes, r.data + r.rounded + kRedZone, is_canary))) {
      broken = static_cast<int>(i);
    }
    poison(r.data - kRedZone, r.rounded + 2 * kRedZone);  // the next block may cut it up otherwise
#else
    poison(e.regions[i].data, e.regions[i].bytes);
#endif
  }
  e.region_count = 0;
  e.arena_used = 0;
  e.shared_taken = 0;
  return broken;
}

// ---------------------------------------------------------------- warp collectives

uint64_t reduce(detail::Collective kind, uint64_t a, uint64_t b) {
  using detail::Collective;
  const auto x = static_cast<uint32_t>(a);
  const auto y = static_cast<uint32_t>(b);
  const auto sx = static_cast<int32_t>(x);
  const auto sy = static_cast<int32_t>(y);
  switch (kind) {
    case Collective::reduce_add:
      return x + y;
    case Collective::reduce_min_signed:
      return static_cast<uint32_t>(std::min(sx, sy));
    case Collective::reduce_max_signed:
      return static_cast<uint32_t>(std::max(sx, sy));
    case Collective::reduce_min_unsigned:
      return std::min(x, y);
    case Collective::reduce_max_unsigned:
      return std::max(x, y);
    case Collective::reduce_and:
      return x & y;
    case Collective::reduce_or:
      return x | y;
    default:
      return x ^ y;
  }
}

/// The lane that `lane` reads from in a shuffle (PTX ISA, shfl.sync).
unsigned shuffle_source(const Fiber& f, unsigned lane) {
  using detail::Collective;
  const unsigned width = static_cast<unsigned>(f.width);
  const unsigned first = lane & ~(width - 1);
  const unsigned last = first + width - 1;
  const unsigned argument = static_cast<unsigned>(f.lane_argument) & (kWarp - 1);
  switch (static_cast<Collective>(f.kind)) {
    case Collective::shuffle:
      return first | (argument & (width - 1));
    case Collective::shuffle_up:
      return lane < first + argument ? lane : lane - argument;
    case Collective::shuffle_down:
      return lane + argument > last ? lane : lane + argument;
    default:
      return (lane ^ argument) > last ? lane : lane ^ argument;
  }
}

template <class F>
void for_each_lane(unsigned lanes, F f) {
  for (; lanes != 0; lanes &= lanes - 1) f(static_cast<unsigned>(std::countr_zero(lanes)));
}

/// All lanes have arrived: gives each its result.
void complete(Fiber* lanes, unsigned members, detail::Collective kind) {
  using detail::Collective;
  switch (kind) {
    case Collective::sync:
      return;
    case Collective::shuffle:
    case Collective::shuffle_up:
    case Collective::shuffle_down:
    case Collective::shuffle_xor: {
      uint64_t result[kWarp];
      for_each_lane(members, [&](unsigned lane) {
        const unsigned source = shuffle_source(lanes[lane], lane);
        if ((members >> source & 1) == 0) {
          throw std::runtime_error(text(collective_name(static_cast<uint8_t>(kind)), " (", lanes[lane].file, ":",
                                        lanes[lane].line, "): lane ", lane, " reads from lane ", source,
                                        ", which does not take part in the shuffle"));
        }
        result[lane] = lanes[source].value;
      });
      for_each_lane(members, [&](unsigned lane) { lanes[lane].value = result[lane]; });
      return;
    }
    case Collective::ballot:
    case Collective::any:
    case Collective::all: {
      unsigned votes = 0;
      for_each_lane(members, [&](unsigned lane) { votes |= (lanes[lane].value != 0 ? 1u : 0u) << lane; });
      const unsigned result = kind == Collective::ballot ? votes
                              : kind == Collective::any  ? (votes != 0 ? 1 : 0)
                                                         : (votes == members ? 1 : 0);
      for_each_lane(members, [&](unsigned lane) { lanes[lane].value = result; });
      return;
    }
    case Collective::match_any: {
      unsigned result[kWarp] = {};
      for_each_lane(members, [&](unsigned a) {
        for_each_lane(members, [&](unsigned b) { result[a] |= (lanes[a].value == lanes[b].value ? 1u : 0u) << b; });
      });
      for_each_lane(members, [&](unsigned lane) { lanes[lane].value = result[lane]; });
      return;
    }
    default: {
      bool first = true;
      uint64_t total = 0;
      for_each_lane(members, [&](unsigned lane) {
        total = first ? lanes[lane].value : reduce(kind, total, lanes[lane].value);
        first = false;
      });
      for_each_lane(members, [&](unsigned lane) { lanes[lane].value = total; });
    }
  }
}

// ---------------------------------------------------------------- scheduling

unsigned nth_bit(unsigned bits, unsigned n) {
  while (n-- > 0) bits &= bits - 1;
  return static_cast<unsigned>(std::countr_zero(bits));
}

unsigned pick(Executor& e, unsigned bits) {
  switch (e.schedule.order) {
    case Order::reverse:
      return static_cast<unsigned>(31 - std::countl_zero(bits));
    case Order::random:
      return nth_bit(bits, random_below(e, static_cast<unsigned>(std::popcount(bits))));
    default:
      return static_cast<unsigned>(std::countr_zero(bits));
  }
}

unsigned pick_warp(Executor& e) {
  if (e.schedule.order != Order::lockstep) return pick(e, e.ready_warps);
  const unsigned later = e.ready_warps & ~((2u << e.last_warp) - 1);
  return e.last_warp = static_cast<unsigned>(std::countr_zero(later != 0 ? later : e.ready_warps));
}

void run_warp(Executor& e, unsigned w) {
  Warp& warp = e.warps[w];
  const bool lockstep = e.schedule.order == Order::lockstep;
  unsigned turn = lockstep ? warp.ready : ~0u;
  // Half of the random turns run the warp as far as it gets, the others only a few lanes of it.
  unsigned steps = e.schedule.order == Order::random && random_below(e, 2) == 0 ? 1 + random_below(e, 64) : ~0u;
  while ((warp.ready & turn) != 0 && steps-- > 0) {
    const unsigned lane = pick(e, warp.ready & turn);
    warp.ready &= ~(1u << lane);
    if (lockstep) turn &= ~(1u << lane);
    resume(e, e.fibers[w * kWarp + lane]);
    if (!e.failure.empty()) fail(e, e.failure);
  }
  if (warp.ready == 0) e.ready_warps &= ~(1u << w);
}

bool restore_yielded(Executor& e) {
  for (unsigned w = 0; w < e.warp_count; ++w) wake(e, w, std::exchange(e.warps[w].yielded, 0u));
  return e.ready_warps != 0;
}

void release_barrier(Executor& e) {
  const Fiber& first = e.fibers[0];
  unsigned votes = 0;
  for (unsigned i = 0; i < e.threads; ++i) {
    const Fiber& f = e.fibers[i];
    // The guide allows a barrier in conditional code only if the whole block goes the same way.
    const bool same = f.state == State::barrier && f.kind == first.kind && f.line == first.line &&
                      (f.file == first.file || std::strcmp(f.file, first.file) == 0);
    if (!same) fail(e, text("the block does not meet at one barrier: ", who_waits_where(e)));
    votes += f.predicate ? 1 : 0;
  }
  const auto kind = static_cast<detail::Barrier>(first.kind);
  const unsigned result = kind == detail::Barrier::count         ? votes
                          : kind == detail::Barrier::conjunction ? (votes == e.threads ? 1 : 0)
                                                                 : (votes > 0 ? 1 : 0);
  for (unsigned i = 0; i < e.threads; ++i) {
    e.fibers[i].value = result;
    e.fibers[i].state = State::ready;
  }
  e.at_barrier = 0;
  for (unsigned w = 0; w < e.warp_count; ++w) wake(e, w, e.warps[w].exists);
}

void run_block(Executor& e) {
  const dim3& extent = e.launch->block;
  for (unsigned i = 0; i < e.threads; ++i) {
    Fiber& f = e.fibers[i];
    f.state = State::fresh;
    f.index = {i % extent.x, i / extent.x % extent.y, i / extent.x / extent.y};
  }
  e.alive = e.threads;
  e.at_barrier = 0;
  e.ready_warps = 0;
  e.failure.clear();
  for (unsigned w = 0; w < e.warp_count; ++w) {
    const unsigned lanes = std::min(kWarp, e.threads - w * kWarp);
    e.warps[w] = {};
    e.warps[w].exists = lanes == kWarp ? ~0u : (1u << lanes) - 1;
    wake(e, w, e.warps[w].exists);
  }
  e.last_warp = e.warp_count - 1;
  while (e.alive > 0) {
    if (e.ready_warps != 0) {
      run_warp(e, pick_warp(e));
    } else if (restore_yielded(e)) {
      continue;
    } else if (e.at_barrier == e.threads) {
      release_barrier(e);
    } else {
      const bool collective = std::any_of(e.fibers.begin(), e.fibers.begin() + e.threads,
                                          [](const Fiber& f) { return f.state == State::collective; });
      fail(e, text(collective ? "a warp collective is not reached by all of its lanes: "
                              : "a barrier is not reached by all of the block: ",
                   who_waits_where(e)));
    }
  }
  const int broken = drop_regions(e);
  if (broken >= 0) {
    fail(e, text("a write outside of take number ", broken, " of the block's shared memory"));
  }
}

void abandon_block(Executor& e) {
  for (unsigned i = 0; i < e.threads; ++i) {
    Fiber& f = e.fibers[i];
    if (f.stack != nullptr) e.stacks.abandon(f.stack);
    f.stack = nullptr;
  }
  (void)drop_regions(e);
}

Schedule schedule_of_launch(const Executor& e) {
  if (e.chosen) return *e.chosen;
  if (const char* name = std::getenv("DGM_SIMT_SCHEDULE")) return Schedule::parse(name);
  // Not in turn: a kernel that is every fourth launch of a loop would meet one order only.
  const uint64_t n = e.counts.launches;
  return {static_cast<Order>(mix(n * 0x9E3779B97F4A7C15ull) >> 62), n};
}

std::vector<uint64_t> block_order(Executor& e, uint64_t blocks) {
  std::vector<uint64_t> order(blocks);
  std::iota(order.begin(), order.end(), uint64_t{0});
  if (e.schedule.order == Order::reverse) std::reverse(order.begin(), order.end());
  if (e.schedule.order == Order::random) {
    for (uint64_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[next_random(e) % i]);
  }
  return order;
}

// ---------------------------------------------------------------- faults

void report_fault() {
  const Executor& e = executor();
  if (e.current == nullptr) return;
  std::fputs(text("in kernel ", where(e), ", thread ", triple(e.current->index), "\n").c_str(), stderr);
}

#if !defined(DGM_SIMT_ASAN)
void on_signal(int signal) {
  report_fault();
  ::signal(signal, SIG_DFL);
  raise(signal);
}
#endif

void install_fault_reports() {
#if defined(DGM_SIMT_ASAN)
  __sanitizer_set_death_callback(report_fault);
#else
  // A fiber that ran out of stack has none left for the handler.
  static unsigned char* const stack = new unsigned char[256 * 1024];
  stack_t alternative = {};
  alternative.ss_sp = stack;
  alternative.ss_size = 256 * 1024;
  sigaltstack(&alternative, nullptr);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) {
    struct sigaction before = {};
    sigaction(signal, nullptr, &before);
    if (before.sa_handler != SIG_DFL) continue;
    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK;
    sigaction(signal, &action, nullptr);
  }
#endif
}

}  // namespace

// ---------------------------------------------------------------- what a kernel calls

namespace detail {

uint64_t collective(Collective kind, unsigned mask, uint64_t value, int lane, int width, const char* file, int line) {
  Executor& e = executor();
  Fiber& self = *e.current;
  const unsigned thread = number(e, self);
  const unsigned w = thread / kWarp;
  const unsigned bit = 1u << thread % kWarp;
  Warp& warp = e.warps[w];
  if ((mask & bit) == 0 || width < 1 || width > 32 || (width & (width - 1)) != 0) {
    const std::string what = (mask & bit) == 0 ? "the calling lane is not in its own mask"
                                               : text("width ", width, " is not a power of 2 up to 32");
    throw std::runtime_error(text(collective_name(static_cast<uint8_t>(kind)), " (", file, ":", line, "): ", what));
  }
  self.kind = static_cast<uint8_t>(kind);
  self.mask = mask;
  self.value = value;
  self.lane_argument = lane;
  self.width = width;
  self.file = file;
  self.line = line;
  self.state = State::collective;
  warp.waiting |= bit;

  // Lanes that the block does not have count as gone, as on a GPU; those that returned do not: they
  // were named and do not come.
  const unsigned members = mask & warp.exists;
  Fiber* const lanes = &e.fibers[w * kWarp];
  bool all_here = (warp.waiting & members) == members;
  for (unsigned rest = all_here ? members : 0; all_here && rest != 0; rest &= rest - 1) {
    const Fiber& f = lanes[std::countr_zero(rest)];
    all_here = f.kind == self.kind && f.mask == mask;
  }
  if (!all_here) {
    leave(e);
    return self.value;
  }
  complete(lanes, members, kind);
  warp.waiting &= ~members;
  for_each_lane(members, [&](unsigned l) { lanes[l].state = State::ready; });
  const bool run_on = e.schedule.order == Order::forward || e.schedule.order == Order::reverse;
  wake(e, w, run_on ? members & ~bit : members);
  if (!run_on) leave(e);
  return self.value;
}

int barrier(Barrier kind, bool predicate, const char* file, int line) {
  Executor& e = executor();
  Fiber& self = *e.current;
  self.kind = static_cast<uint8_t>(kind);
  self.predicate = predicate;
  self.file = file;
  self.line = line;
  self.state = State::barrier;
  ++e.at_barrier;
  leave(e);
  return static_cast<int>(self.value);
}

void* take(unsigned index, std::size_t count, std::size_t element_bytes, std::size_t rounded) {
  Executor& e = executor();
  if (count > e.launch->shared_bytes) {  // before the product, which might overflow
    throw std::runtime_error(text("take number ", index, " of shared memory asks for ", count,
                                  " elements, launched with ", e.launch->shared_bytes, " bytes"));
  }
  const std::size_t bytes = count * element_bytes;
  if (index < e.region_count) {
    if (e.regions[index].bytes != bytes) {
      throw std::runtime_error(text("take number ", index, " of shared memory is ", bytes, " bytes here and ",
                                    e.regions[index].bytes, " bytes in another thread"));
    }
    return e.regions[index].data;
  }
  e.shared_taken += rounded;
  if (e.shared_taken > e.launch->shared_bytes || index >= kMaxRegions) {
    throw std::runtime_error(text("take number ", index, " of shared memory makes ", e.shared_taken,
                                  " bytes, launched with ", e.launch->shared_bytes));
  }
  unsigned char* const base = e.arena.data();
  const auto misalignment = reinterpret_cast<uintptr_t>(base) % 16;
  unsigned char* const data = base + (misalignment == 0 ? 0 : 16 - misalignment) + kRedZone + e.arena_used;
  e.arena_used += rounded + kRedZone;
  e.regions[e.region_count++] = {data, bytes, rounded};
  unpoison(data, bytes);
  std::memset(data, kUninitialised, bytes);
  return data;
}

void switch_at_atomic() {
  Executor& e = executor();
  Fiber& self = *e.current;
  const unsigned thread = number(e, self);
  if (e.schedule.order == Order::random && random_below(e, 64) != 0) {
    wake(e, thread / kWarp, 1u << thread % kWarp);
  } else {
    e.warps[thread / kWarp].yielded |= 1u << thread % kWarp;
  }
  leave(e);
}

}  // namespace detail

// ---------------------------------------------------------------- what a host calls

std::string Schedule::name() const {
  switch (order) {
    case Order::forward:
      return "forward";
    case Order::reverse:
      return "reverse";
    case Order::random:
      return text("random:", seed);
    default:
      return "lockstep";
  }
}

Schedule Schedule::parse(std::string_view name) {
  if (name == "forward") return {Order::forward, 0};
  if (name == "reverse") return {Order::reverse, 0};
  if (name == "lockstep") return {Order::lockstep, 0};
  if (name == "random") return {Order::random, 1};
  constexpr std::string_view kRandom = "random:";
  if (name.substr(0, kRandom.size()) == kRandom) {
    return {Order::random, std::stoull(std::string(name.substr(kRandom.size())))};
  }
  throw std::invalid_argument("DGM_SIMT_SCHEDULE is \"" + std::string(name) +
                              "\"; forward, reverse, random, random:SEED or lockstep is needed");
}

const std::vector<Schedule>& schedules() {
  static const std::vector<Schedule> all = {{Order::forward, 0}, {Order::reverse, 0}, {Order::lockstep, 0},
                                            {Order::random, 1},  {Order::random, 2},  {Order::random, 3}};
  return all;
}

void use_schedule(std::optional<Schedule> schedule) {
  Executor& e = executor();
  const std::lock_guard lock(e.mutex);
  e.chosen = schedule;
}

Statistics statistics() {
  Executor& e = executor();
  const std::lock_guard lock(e.mutex);
  return e.counts;
}

std::string describe(const Launch& launch) {
  return text(symbol_name(launch.kernel), "<<<", triple(launch.grid), ", ", triple(launch.block), ", ",
              launch.shared_bytes, " bytes>>>");
}

void run(const Launch& launch, const std::function<void()>& body) {
  Executor& e = executor();
  const std::lock_guard lock(e.mutex);
  static const bool installed = (install_fault_reports(), true);
  (void)installed;
  e.launch = &launch;
  e.body = &body;
  e.schedule = schedule_of_launch(e);
  e.random = e.schedule.seed;
  e.threads = launch.block.x * launch.block.y * launch.block.z;
  e.warp_count = (e.threads + kWarp - 1) / kWarp;
  if (e.threads == 0 || e.threads > kMaxThreads) fail(e, "a block has 1 to 1024 threads");
  if (e.fibers.size() < e.threads) e.fibers.resize(e.threads);
  make_arena(e, launch.shared_bytes);
  detail::block_extent = launch.block;
  detail::grid_extent = launch.grid;
  ++e.counts.launches;
  const uint64_t row = launch.grid.x;
  const uint64_t plane = row * launch.grid.y;
  for (const uint64_t block : block_order(e, plane * launch.grid.z)) {
    detail::block_index = {static_cast<unsigned>(block % row), static_cast<unsigned>(block % plane / row),
                           static_cast<unsigned>(block / plane)};
    try {
      run_block(e);
    } catch (...) {
      abandon_block(e);
      throw;
    }
    ++e.counts.blocks;
    e.counts.threads += e.threads;
  }
}

}  // namespace simt
