// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 as the CPU backend draws it; the kernels draw the same words through cuRAND
// (kernels/device/random.cuh). Also the contract that maps a draw to a counter.
//
// Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3".
#pragma once

#include "kernels/math/host_device.hpp"

#include <cmath>
#include <cstdint>

namespace dgm {

struct PhiloxWords {
  uint32_t w[4];
};

/// Ten rounds over one counter block.
DGM_HD inline PhiloxWords philox4x32_10(PhiloxWords counter, uint32_t key0, uint32_t key1) {
  constexpr uint32_t kMultiplier0 = 0xD2511F53u;
  constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;
  constexpr uint32_t kWeyl0 = 0x9E3779B9u;
  constexpr uint32_t kWeyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const uint64_t product0 = uint64_t{kMultiplier0} * counter.w[0];
    const uint64_t product1 = uint64_t{kMultiplier1} * counter.w[2];
    counter = {{static_cast<uint32_t>(product1 >> 32) ^ counter.w[1] ^ key0, static_cast<uint32_t>(product1),
                static_cast<uint32_t>(product0 >> 32) ^ counter.w[3] ^ key1, static_cast<uint32_t>(product0)}};
    key0 += kWeyl0;
    key1 += kWeyl1;
  }
  return counter;
}

/// Which block of four words a draw is. All of it is chosen by the model, none by thread or grid:
/// a CPU and any GPU draw the same words.
///
/// site   which random variable of the program (below 2^16), so that two never share words
/// datum  which datum (below 2^48)
/// step   which training step (below 2^30)
/// block  which four words of the datum's draws in this step: sample * blocks_per_sample + i
struct DrawIndex {
  uint64_t site;
  uint64_t datum;
  uint64_t step;
  uint32_t block;

  /// The pair that curand_init takes: offset / 4 is the low half of Philox's counter, subsequence
  /// the high half.
  DGM_HD uint64_t subsequence() const { return (site << 48) | datum; }
  DGM_HD uint64_t offset() const { return ((step << 32) | block) << 2; }
};

/// The four words of a draw.
DGM_HD inline PhiloxWords draw_words(uint64_t seed, const DrawIndex& index) {
  const uint64_t high = index.subsequence();
  return philox4x32_10({{index.block, static_cast<uint32_t>(index.step), static_cast<uint32_t>(high),
                         static_cast<uint32_t>(high >> 32)}},
                       static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
}

/// Uniform on (0, 1]: the same mapping as cuRAND's, 2^-32 word + 2^-33, rounded to float.
DGM_HD inline float uniform_from_word(uint32_t word) {
  constexpr float kTwoToMinus32 = 2.3283064365386963e-10f;
  return static_cast<float>(word) * kTwoToMinus32 + kTwoToMinus32 / 2.0f;
}

/// Two independent standard normals by Box and Muller, in cuRAND's order (sine first). Equal across
/// devices to the rounding of log, sqrt, sin and cos.
struct NormalPair {
  float first;
  float second;
};
DGM_HD inline NormalPair normals_from_words(uint32_t word0, uint32_t word1) {
  constexpr float kTwoPiTwoToMinus32 = 2.3283064365386963e-10f * 6.2831855f;
  const float radius = sqrtf(-2.0f * logf(uniform_from_word(word0)));
  const float angle = static_cast<float>(word1) * kTwoPiTwoToMinus32 + kTwoPiTwoToMinus32 / 2.0f;
  return {radius * sinf(angle), radius * cosf(angle)};
}

/// An index below n from two words; the bias is below n / 2^64.
DGM_HD inline int64_t index_from_words(uint32_t low, uint32_t high, int64_t n) {
  // The high 64 bits of the 128-bit product of the 64-bit word and n, by halves.
  const uint64_t word = (uint64_t{high} << 32) | low;
  const uint64_t count = static_cast<uint64_t>(n);
  const uint64_t a = (word & 0xFFFFFFFFu) * (count & 0xFFFFFFFFu);
  const uint64_t b = (word >> 32) * (count & 0xFFFFFFFFu);
  const uint64_t c = (word & 0xFFFFFFFFu) * (count >> 32);
  const uint64_t d = (word >> 32) * (count >> 32);
  const uint64_t middle = (a >> 32) + (b & 0xFFFFFFFFu) + (c & 0xFFFFFFFFu);
  return static_cast<int64_t>(d + (b >> 32) + (c >> 32) + (middle >> 32));
}

}  // namespace dgm
