// SPDX-License-Identifier: Apache-2.0
// The product that tiled ops are made of, in registers: c[i,:] (+)= sum_k a[i,k] b[k,:] for a panel b of
// two vectors' width. Compiled once for each instruction set, like simd-inl.hpp.
#if defined(DGM_HOST_CPU_TILE_PRODUCT_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_TILE_PRODUCT_INL
#undef DGM_HOST_CPU_TILE_PRODUCT_INL
#else
#define DGM_HOST_CPU_TILE_PRODUCT_INL
#endif

#include "host/cpu/simd-inl.hpp"
#include "host/cpu/tile_product.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::cpu::HWY_NAMESPACE {

// Register tiles for 32 registers or for 16.
#if HWY_TARGET <= HWY_AVX3
constexpr int kTileProductRows = 12;
#else
constexpr int kTileProductRows = 6;
#endif

template <int I>
HWY_INLINE void TileProductRows(const TileProduct& p, int64_t row) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VecF32 sum[I][2];
  HWY_UNROLL(16) for (int i = 0; i < I; ++i) sum[i][0] = sum[i][1] = hn::Zero(d);
  // A pointer for each three rows: x86 addresses p, p + s and p + 2 s by two registers.
  constexpr int kPointers = (I + 2) / 3;
  const int64_t step = p.a_row;
  const float* a[kPointers];
  HWY_UNROLL(16) for (int q = 0; q < kPointers; ++q) a[q] = p.a + (row + 3 * q) * step;
  const float* HWY_RESTRICT b = p.b;
  for (int64_t k = 0; k < p.terms; ++k) {
    const VecF32 b0 = hn::Load(d, b);
    const VecF32 b1 = hn::Load(d, b + lanes);
    b += 2 * lanes;
    HWY_UNROLL(16) for (int i = 0; i < I; ++i) {
      const VecF32 x = hn::Set(d, a[i / 3][(i % 3) * step]);
      sum[i][0] = hn::MulAdd(x, b0, sum[i][0]);
      sum[i][1] = hn::MulAdd(x, b1, sum[i][1]);
    }
    HWY_UNROLL(16) for (int q = 0; q < kPointers; ++q) a[q] += p.a_term;
  }
  float* HWY_RESTRICT c = p.c + row * p.c_row;
  const auto columns = static_cast<std::size_t>(p.columns);
  if (p.columns == 2 * lanes) {
    HWY_UNROLL(16) for (int i = 0; i < I; ++i) {
      HWY_UNROLL(16) for (int j = 0; j < 2; ++j) {
        float* const to = c + i * p.c_row + j * lanes;
        hn::StoreU(p.add ? hn::Add(hn::LoadU(d, to), sum[i][j]) : sum[i][j], d, to);
      }
    }
    return;
  }
  HWY_UNROLL(16) for (int i = 0; i < I; ++i) {
    HWY_UNROLL(16) for (int j = 0; j < 2; ++j) {
      const std::size_t before = static_cast<std::size_t>(j) * hn::Lanes(d);
      if (columns <= before) continue;
      float* const to = c + i * p.c_row + j * lanes;
      const VecF32 old = p.add ? LoadFirst(d, to, columns - before, hn::Zero(d)) : hn::Zero(d);
      StoreFirst(d, hn::Add(old, sum[i][j]), to, columns - before);
    }
  }
}

HWY_INLINE void RunTileProduct(const TileProduct& p) {
  int64_t row = 0;
  for (; row + kTileProductRows <= p.rows; row += kTileProductRows) TileProductRows<kTileProductRows>(p, row);
  for (; row + 4 <= p.rows; row += 4) TileProductRows<4>(p, row);
  if (row + 2 <= p.rows) {
    TileProductRows<2>(p, row);
    row += 2;
  }
  if (row < p.rows) TileProductRows<1>(p, row);
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
