// SPDX-License-Identifier: Apache-2.0
// cuRAND's device generator Philox4x32-10, for the executor: the same words in the same order, and
// the same uniforms and normals up to the accuracy of logf, sinf and cosf.
#pragma once

#include "cuda_runtime.h"

struct curandStatePhilox4_32_10_t {
  uint4 counter;  // of the four words in `words`
  uint4 words;
  uint2 key;
  unsigned next;  // 0..3: the word of `words` that is drawn next
  bool has_normal;
  float normal;
};

namespace simt::detail {

inline uint4 philox4x32_10(uint4 c, uint2 key) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * c.x;
    const uint64_t b = uint64_t{0xCD9E8D57u} * c.z;
    c = {static_cast<unsigned>(b >> 32) ^ c.y ^ key.x, static_cast<unsigned>(b),
         static_cast<unsigned>(a >> 32) ^ c.w ^ key.y, static_cast<unsigned>(a)};
    key = {key.x + 0x9E3779B9u, key.y + 0xBB67AE85u};
  }
  return c;
}

/// Adds n to the 128-bit counter.
inline void advance(curandStatePhilox4_32_10_t& s, uint64_t n) {
  const uint64_t low = (uint64_t{s.counter.y} << 32 | s.counter.x) + n;
  const uint64_t high = (uint64_t{s.counter.w} << 32 | s.counter.z) + (low < n ? 1 : 0);
  s.counter = {static_cast<unsigned>(low), static_cast<unsigned>(low >> 32), static_cast<unsigned>(high),
               static_cast<unsigned>(high >> 32)};
  s.words = philox4x32_10(s.counter, s.key);
}

// cuRAND's constants are float: 2^-32 and 2 pi 2^-32.
inline float curand_uniform_of(unsigned word) {
  return static_cast<float>(word) * 2.3283064e-10f + 2.3283064e-10f / 2.f;
}

inline float2 box_muller(unsigned a, unsigned b) {
  constexpr float kTurn = 2.3283064e-10f * 6.2831855f;
  const float angle = static_cast<float>(b) * kTurn + kTurn / 2.f;
  const float radius = sqrtf(-2.f * logf(curand_uniform_of(a)));
  return {radius * sinf(angle), radius * cosf(angle)};
}

}  // namespace simt::detail

inline void skipahead(unsigned long long n, curandStatePhilox4_32_10_t* state) {
  const unsigned word = state->next + static_cast<unsigned>(n & 3);
  state->next = word & 3;
  simt::detail::advance(*state, n / 4 + word / 4);
}

/// A subsequence is 2^66 words long.
inline void skipahead_sequence(unsigned long long n, curandStatePhilox4_32_10_t* state) {
  const uint64_t high = (uint64_t{state->counter.w} << 32 | state->counter.z) + n;
  state->counter.z = static_cast<unsigned>(high);
  state->counter.w = static_cast<unsigned>(high >> 32);
  state->words = simt::detail::philox4x32_10(state->counter, state->key);
}

inline void curand_init(unsigned long long seed, unsigned long long subsequence, unsigned long long offset,
                        curandStatePhilox4_32_10_t* state) {
  *state = {};
  state->key = {static_cast<unsigned>(seed), static_cast<unsigned>(seed >> 32)};
  skipahead_sequence(subsequence, state);
  skipahead(offset, state);
}

inline unsigned curand(curandStatePhilox4_32_10_t* state) {
  const uint4 w = state->words;
  const unsigned words[] = {w.x, w.y, w.z, w.w};
  const unsigned result = words[state->next];
  state->next = (state->next + 1) & 3;
  if (state->next == 0) simt::detail::advance(*state, 1);
  return result;
}

inline uint4 curand4(curandStatePhilox4_32_10_t* state) {
  const uint4 a = state->words;
  simt::detail::advance(*state, 1);
  const uint4 b = state->words;
  const unsigned words[] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z};
  const unsigned* const w = words + state->next;
  return {w[0], w[1], w[2], w[3]};
}

inline float curand_uniform(curandStatePhilox4_32_10_t* state) {
  return simt::detail::curand_uniform_of(curand(state));
}

inline float4 curand_uniform4(curandStatePhilox4_32_10_t* state) {
  const uint4 w = curand4(state);
  using simt::detail::curand_uniform_of;
  return {curand_uniform_of(w.x), curand_uniform_of(w.y), curand_uniform_of(w.z), curand_uniform_of(w.w)};
}

inline float2 curand_normal2(curandStatePhilox4_32_10_t* state) {
  const unsigned a = curand(state);
  const unsigned b = curand(state);
  return simt::detail::box_muller(a, b);
}

inline float4 curand_normal4(curandStatePhilox4_32_10_t* state) {
  const uint4 w = curand4(state);
  const float2 a = simt::detail::box_muller(w.x, w.y);
  const float2 b = simt::detail::box_muller(w.z, w.w);
  return {a.x, a.y, b.x, b.y};
}

inline float curand_normal(curandStatePhilox4_32_10_t* state) {
  if (!state->has_normal) {
    const float2 pair = curand_normal2(state);
    state->normal = pair.y;
    state->has_normal = true;
    return pair.x;
  }
  state->has_normal = false;
  return state->normal;
}
