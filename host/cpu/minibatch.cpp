// SPDX-License-Identifier: Apache-2.0
#include "kernels/minibatch.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/permutation.hpp"

#include <algorithm>

namespace dgm::kernels {

namespace {

constexpr int64_t kGrainEntries = 1 << 11;   // some 50 ns each
constexpr int64_t kGrainElements = 1 << 14;  // copied

template <class T>
void gather(const GatherRows<T>& args) {
  const int64_t grain = std::max<int64_t>(1, kGrainElements / std::max<int64_t>(args.cols, 1));
  cpu::parallel_ranges(args.count, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t from = args.indices[i];
      T* const to = args.y + i * args.cols;
      if (from >= 0 && from < args.rows) {
        std::copy_n(args.x + from * args.cols, args.cols, to);
      } else {
        std::fill_n(to, args.cols, args.missing);
      }
    }
  });
}

}  // namespace

void run_cpu(const DrawMinibatch& args) {
  const int64_t step = *args.draws.step;
  cpu::parallel_ranges(args.batch, kGrainEntries, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      int64_t index = i;
      double weight = 1;
      if (args.kind == BatchKind::replacement) {
        const PhiloxWords words =
            draw_words(args.draws.seed, {args.draws.site, static_cast<uint64_t>(i), static_cast<uint64_t>(step), 0});
        index = index_from_words(words.w[0], words.w[1], args.data);
        weight = static_cast<double>(args.data) / static_cast<double>(args.batch);
      } else if (args.kind != BatchKind::all) {
        const BatchEntry entry = batch_entry(args, step, i);
        index = permuted(entry.position, args.data, [&](uint64_t half, uint32_t round) {
          return draw_words(args.draws.seed, {args.draws.site, half, entry.epoch, round});
        });
        weight = entry.weight;
      }
      args.indices[i] = index;
      args.weights[i] = static_cast<float>(weight);
    }
  });
}

void run_cpu(const GatherRows<float>& args) { gather(args); }
void run_cpu(const GatherRows<int32_t>& args) { gather(args); }

// On one thread: two threads may not write one row, even if they write the same.
void run_cpu(const ScatterRows& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    const int64_t to = args.indices[i];
    if (to >= 0 && to < args.rows) std::copy_n(args.x + i * args.cols, args.cols, args.y + to * args.cols);
  }
}

void run_cpu(const RecordStep& args) {
  const int64_t slot = *args.step % args.capacity;
  args.ring[2 * slot] = *args.loss;
  args.ring[2 * slot + 1] = *args.norm;
  *args.step += 1;
}

}  // namespace dgm::kernels
