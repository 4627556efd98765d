// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 from the paper's description, sharing nothing with the library.
#pragma once

#include <array>
#include <cstdint>

namespace dgm::test {

/// One block of four words: counter (block, step, subsequence), key the seed.
inline std::array<uint32_t, 4> philox(uint64_t seed, uint64_t subsequence, uint64_t step, uint32_t block) {
  std::array<uint32_t, 4> c = {block, static_cast<uint32_t>(step), static_cast<uint32_t>(subsequence),
                               static_cast<uint32_t>(subsequence >> 32)};
  auto k0 = static_cast<uint32_t>(seed);
  auto k1 = static_cast<uint32_t>(seed >> 32);
  for (int i = 0; i < 10; ++i) {
    const uint64_t p0 = 0xD2511F53ull * c[0];
    const uint64_t p1 = 0xCD9E8D57ull * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

}  // namespace dgm::test
