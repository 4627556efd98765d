// SPDX-License-Identifier: Apache-2.0
// A random permutation of 0..n-1 that is computed one entry at a time and stored nowhere.
//
// Source: Black & Rogaway 2002, "Ciphers with arbitrary finite domains": a generalised Feistel
// network on a x b >= n, and cycle walking for what lies beyond n.
#pragma once

#include "kernels/math/philox.hpp"

namespace dgm::kernels {

/// Entry `at` of the permutation that `words` keys. words(half, round) gives PhiloxWords; equal
/// arguments must give equal words.
template <class Words>
DGM_HD inline int64_t permuted(int64_t at, int64_t n, const Words& words) {
  // The least even a with a * a >= n. Were a odd, and b too, every round would be an even
  // permutation, and half of all permutations out of reach.
  int64_t a = static_cast<int64_t>(sqrt(static_cast<double>(n)));
  a = a < 2 ? 2 : a + a % 2;
  while (a * a < n) a += 2;
  const int64_t b = (n + a - 1) / a;
  // Enough for all permutations of a few elements to be equally likely to within what 200,000
  // epochs can tell, and for the pairs of many.
  const uint32_t rounds = n < 4096 ? 20 : 8;
  do {
    int64_t left = at / b;
    int64_t right = at % b;
    for (uint32_t round = 0; round < rounds; ++round) {
      const bool turn = round % 2 == 0;
      const PhiloxWords w = words(static_cast<uint64_t>(turn ? right : left), round);
      if (turn) {
        left += index_from_words(w.w[0], w.w[1], a);
        left -= left >= a ? a : 0;
      } else {
        right += index_from_words(w.w[0], w.w[1], b);
        right -= right >= b ? b : 0;
      }
    }
    at = left * b + right;
  } while (at >= n);
  return at;
}

}  // namespace dgm::kernels
