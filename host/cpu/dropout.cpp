// SPDX-License-Identifier: Apache-2.0
// The lanes of two vectors each draw one block of four words, for neighbouring blocks of a row and then of the
// next; the words are laid out in the order of the elements and compared with the threshold.
// Traffic: 4 bytes an element read and 4 written; about 4 vector instructions an element of a lane.
#include "kernels/dropout.hpp"

#include "host/cpu/parallel.hpp"

#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/dropout.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/philox-inl.hpp"
#include "host/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::StoreFirst;
using cpu::HWY_NAMESPACE::U32;

// Blocks begin..end-1 of all rows' blocks.
void Drop(const Dropout& args, int64_t begin, int64_t end) {
  const F32 d;
  const U32 du;
  constexpr int64_t kMostBlocks = 2 * HWY_MAX_BYTES / sizeof(uint32_t);
  const auto lanes = static_cast<int64_t>(hn::Lanes(du));
  HWY_ALIGN uint32_t block[kMostBlocks] = {};
  HWY_ALIGN uint32_t low[kMostBlocks] = {};
  HWY_ALIGN uint32_t high[kMostBlocks] = {};
  HWY_ALIGN uint32_t words[4 * kMostBlocks];
  HWY_ALIGN uint32_t in_order[4 * kMostBlocks + 4];
  const auto step = static_cast<uint32_t>(*args.draws.step);
  const auto threshold = hn::Set(du, args.threshold);
  const auto scale = hn::Set(d, args.scale);
  const int64_t blocks = (args.cols + 3) / 4;
  int64_t row = begin / blocks;
  int64_t at = begin % blocks;
  for (int64_t first = begin; first < end; first += 2 * lanes) {
    const int64_t count = std::min(2 * lanes, end - first);
    const int64_t element = row * args.cols + 4 * at;
    int64_t lengths[kMostBlocks];
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t datum = static_cast<uint64_t>(args.data != nullptr ? args.data[row] : row);
      const uint64_t subsequence = (args.draws.site << 48) | datum;
      block[i] = static_cast<uint32_t>(at);
      low[i] = static_cast<uint32_t>(subsequence);
      high[i] = static_cast<uint32_t>(subsequence >> 32);
      lengths[i] = std::min<int64_t>(4, args.cols - 4 * at);
      if (++at == blocks) at = 0, ++row;
    }
    cpu::HWY_NAMESPACE::PhiloxWordsOf(args.draws.seed, step, block, low, high, words);
    int64_t elements = 4 * count;
    const uint32_t* drawn = words;
    if (args.cols % 4 != 0) {
      // A row's last block has words that no element takes.
      elements = 0;
      for (int64_t i = 0; i < count; ++i) {
        std::memcpy(in_order + elements, words + 4 * i, 4 * sizeof(uint32_t));
        elements += lengths[i];
      }
      drawn = in_order;
    }
    const float* const x = args.x + element;
    float* const y = args.y + element;
    int64_t i = 0;
    for (; i + lanes <= elements; i += lanes) {
      const auto dropped = hn::RebindMask(d, hn::Lt(hn::LoadU(du, drawn + i), threshold));
      hn::StoreU(hn::IfThenZeroElse(dropped, hn::Mul(scale, hn::LoadU(d, x + i))), d, y + i);
    }
    for (; i < elements; ++i) y[i] = drawn[i] < args.threshold ? 0.0f : args.scale * x[i];
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Drop);

void run_cpu(const Dropout& args) {
  constexpr int64_t kGrainBlocks = 1 << 12;
  const auto drop = HWY_DYNAMIC_DISPATCH(Drop);
  cpu::parallel_ranges(args.rows * ((args.cols + 3) / 4), kGrainBlocks,
                       [&](int64_t begin, int64_t end, int) { drop(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
