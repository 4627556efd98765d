// SPDX-License-Identifier: Apache-2.0
// Highway 1.0.3 emulates bfloat16 products, so these are intrinsics, for the one instruction set that has them.
#include "host/cpu/bfloat16.hpp"

#include <hwy/base.h>

#if HWY_ARCH_X86_64

// GCC's header begins some results with a variable set to itself.
#if HWY_COMPILER_GCC_ACTUAL
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#if HWY_COMPILER_GCC_ACTUAL
#pragma GCC diagnostic pop
#endif

HWY_PUSH_ATTRIBUTES("avx,avx2,fma,f16c,avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")

namespace dgm::cpu::bfloat16 {

namespace {

constexpr int kRows = 12;

template <int I>
inline void run_rows(const TileProduct& p, int64_t row) {
  __m512 sum[I][2];
  HWY_UNROLL(16) for (int i = 0; i < I; ++i) sum[i][0] = sum[i][1] = _mm512_setzero_ps();
  constexpr int kPointers = (I + 2) / 3;
  const int64_t step = p.a_row;
  const float* a[kPointers];
  HWY_UNROLL(16) for (int q = 0; q < kPointers; ++q) a[q] = p.a + (row + 3 * q) * step;
  const float* b = p.b;
  for (int64_t k = 0; k < p.terms; ++k) {
    const auto b0 = reinterpret_cast<__m512bh>(_mm512_load_ps(b));
    const auto b1 = reinterpret_cast<__m512bh>(_mm512_load_ps(b + 16));
    b += kPanel;
    HWY_UNROLL(16) for (int i = 0; i < I; ++i) {
      const auto x = reinterpret_cast<__m512bh>(_mm512_set1_ps(a[i / 3][(i % 3) * step]));
      sum[i][0] = _mm512_dpbf16_ps(sum[i][0], x, b0);
      sum[i][1] = _mm512_dpbf16_ps(sum[i][1], x, b1);
    }
    HWY_UNROLL(16) for (int q = 0; q < kPointers; ++q) a[q] += p.a_term;
  }
  float* const c = p.c + row * p.c_row;
  const uint32_t columns = p.columns >= kPanel ? ~0u : (1u << p.columns) - 1;
  HWY_UNROLL(16) for (int i = 0; i < I; ++i) {
    HWY_UNROLL(16) for (int j = 0; j < 2; ++j) {
      const auto mask = static_cast<__mmask16>(columns >> (16 * j));
      float* const to = c + i * p.c_row + 16 * j;
      if (p.add) sum[i][j] = _mm512_add_ps(sum[i][j], _mm512_maskz_loadu_ps(mask, to));
      _mm512_mask_storeu_ps(to, mask, sum[i][j]);
    }
  }
}

inline __mmask16 first(int64_t count) {
  return static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1 << count) - 1);
}

inline __m512 load(const float* from, int64_t count) { return _mm512_maskz_loadu_ps(first(count), from); }

// 16 numbers, rounded, each in the low half of 32 bits.
inline __m512i rounded(__m512 x) { return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(x))); }

}  // namespace

bool available() {
  static const bool has = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  return has;
}

void run(const TileProduct& p) {
  int64_t row = 0;
  for (; row + kRows <= p.rows; row += kRows) run_rows<kRows>(p, row);
  for (; row + 4 <= p.rows; row += 4) run_rows<4>(p, row);
  if (row + 2 <= p.rows) {
    run_rows<2>(p, row);
    row += 2;
  }
  if (row < p.rows) run_rows<1>(p, row);
}

void round_row(const float* from, int64_t count, uint32_t* to) {
  for (int64_t i = 0; i < count; i += 32) {
    const __m512bh pairs = _mm512_cvtne2ps_pbh(load(from + i + 16, count - i - 16), load(from + i, count - i));
    _mm512_mask_storeu_epi32(to + i / 2, first((count - i + 1) / 2), reinterpret_cast<__m512i>(pairs));
  }
}

void round_pairs(const float* first_row, const float* second_row, int64_t count, uint32_t* to) {
  for (int64_t i = 0; i < count; i += 16) {
    __m512i pairs = rounded(load(first_row + i, count - i));
    if (second_row != nullptr) {
      pairs = _mm512_or_si512(pairs, _mm512_slli_epi32(rounded(load(second_row + i, count - i)), 16));
    }
    _mm512_mask_storeu_epi32(to + i, first(count - i), pairs);
  }
}

float dot(const float* a, const float* b, int64_t count) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 32) {
    const int64_t low = count - i;
    const int64_t high = low - 16;
    sum = _mm512_dpbf16_ps(sum, _mm512_cvtne2ps_pbh(load(a + i + 16, high), load(a + i, low)),
                           _mm512_cvtne2ps_pbh(load(b + i + 16, high), load(b + i, low)));
  }
  return _mm512_reduce_add_ps(sum);
}

float sum(const uint32_t* pairs, int64_t count) {
  __m512 low = _mm512_setzero_ps();
  __m512 high = _mm512_setzero_ps();
  for (int64_t i = 0; i < count; i += 16) {
    const __m512i both = _mm512_maskz_loadu_epi32(first(count - i), pairs + i);
    low = _mm512_add_ps(low, _mm512_castsi512_ps(_mm512_slli_epi32(both, 16)));
    high = _mm512_add_ps(high, _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(-65536))));
  }
  return _mm512_reduce_add_ps(_mm512_add_ps(low, high));
}

}  // namespace dgm::cpu::bfloat16

HWY_POP_ATTRIBUTES

#else

namespace dgm::cpu::bfloat16 {
bool available() { return false; }
void run(const TileProduct&) {}
void round_row(const float*, int64_t, uint32_t*) {}
void round_pairs(const float*, const float*, int64_t, uint32_t*) {}
float dot(const float*, const float*, int64_t) { return 0; }
float sum(const uint32_t*, int64_t) { return 0; }
}  // namespace dgm::cpu::bfloat16

#endif
