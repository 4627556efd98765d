// SPDX-License-Identifier: Apache-2.0
// Blocks of rows, worked on by any thread and added up in their order.
#pragma once

#include "host/cpu/parallel.hpp"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>

namespace dgm::kernels::diagonal {

/// Lets blocks be worked on by any thread at once and finished in their order.
class InOrder {
 public:
  int64_t claim() { return next_.fetch_add(1, std::memory_order_relaxed); }
  /// Waits until all blocks before this one are finished.
  void wait_for_turn(int64_t block) const {
    for (int spins = 0; finished_.load(std::memory_order_acquire) != block; ++spins) {
      if (spins > 1000) std::this_thread::yield();
    }
  }
  void finish(int64_t block) { finished_.store(block + 1, std::memory_order_release); }

 private:
  std::atomic<int64_t> next_{0};
  std::atomic<int64_t> finished_{0};
};

/// Rows of a block: enough that adding its sums to the result costs little, few enough that small batches
/// have blocks for several threads. A multiple of the tile; must not depend on the number of threads.
int64_t block_rows(int64_t rows, int64_t tile) { return std::clamp<int64_t>(rows / 8, 240, 2016) / tile * tile; }

/// Visits all rows, tile by tile, block by block: tile_body(first row, rows, thread) in any order,
/// block_body(first row, rows, thread) in order and one at a time.
template <class TileBody, class BlockBody>
void visit(int64_t rows, int64_t tile_rows, int threads, const TileBody& tile_body, const BlockBody& block_body) {
  const int64_t size = block_rows(rows, tile_rows);
  const int64_t blocks = (rows + size - 1) / size;
  InOrder order;
  cpu::parallel_ranges(std::min<int64_t>(threads, blocks), 1, [&](int64_t, int64_t, int thread) {
    for (int64_t block = order.claim(); block < blocks; block = order.claim()) {
      const int64_t begin = block * size;
      const int64_t end = std::min(rows, begin + size);
      for (int64_t n = begin; n < end; n += tile_rows) tile_body(n, std::min(tile_rows, end - n), thread);
      order.wait_for_turn(block);
      block_body(begin, end - begin, thread);
      order.finish(block);
    }
  });
}

}  // namespace dgm::kernels::diagonal
