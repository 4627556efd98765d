// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10 on vectors: as many blocks at once as a vector has lanes, the same words as
// kernels/math/philox.hpp.
#if defined(DGM_HOST_CPU_PHILOX_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_PHILOX_INL
#undef DGM_HOST_CPU_PHILOX_INL
#else
#define DGM_HOST_CPU_PHILOX_INL
#endif

#include <hwy/highway.h>

#include <cstddef>
#include <cstdint>

HWY_BEFORE_NAMESPACE();
namespace dgm::cpu::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

using U32 = hn::ScalableTag<uint32_t>;
using VecU32 = hn::Vec<U32>;

// High and low halves of a * b, lane by lane.
HWY_INLINE VecU32 MulHighLow(VecU32 a, VecU32 b, VecU32& low) {
  const U32 d;
#if HWY_TARGET == HWY_SCALAR
  const uint64_t product = uint64_t{hn::GetLane(a)} * hn::GetLane(b);
  low = hn::Set(d, static_cast<uint32_t>(product));
  return hn::Set(d, static_cast<uint32_t>(product >> 32));
#else
  const hn::RepartitionToWide<U32> dw;
  const auto even = hn::MulEven(a, b);
  const auto odd = hn::MulEven(hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(dw, a))),
                               hn::BitCast(d, hn::ShiftRight<32>(hn::BitCast(dw, b))));
  low = hn::OddEven(hn::BitCast(d, hn::ShiftLeft<32>(odd)), hn::BitCast(d, even));
  return hn::OddEven(hn::BitCast(d, odd), hn::BitCast(d, hn::ShiftRight<32>(even)));
#endif
}

/// words[4 i + j] is word j of the block with counter (block[i], step, low[i], high[i]), for i below twice
/// the lanes of U32. All pointers aligned to a vector.
HWY_INLINE void PhiloxWordsOf(uint64_t seed, uint32_t step, const uint32_t* HWY_RESTRICT block,
                              const uint32_t* HWY_RESTRICT low, const uint32_t* HWY_RESTRICT high,
                              uint32_t* HWY_RESTRICT words) {
  const U32 d;
  const std::size_t lanes = hn::Lanes(d);
  const VecU32 multiplier0 = hn::Set(d, 0xD2511F53u);
  const VecU32 multiplier1 = hn::Set(d, 0xCD9E8D57u);
  auto key0 = static_cast<uint32_t>(seed);
  auto key1 = static_cast<uint32_t>(seed >> 32);
  // Two vectors at once: a round waits for the products of the one before.
  VecU32 a0 = hn::Load(d, block), b0 = hn::Load(d, block + lanes);
  VecU32 a1 = hn::Set(d, step), b1 = a1;
  VecU32 a2 = hn::Load(d, low), b2 = hn::Load(d, low + lanes);
  VecU32 a3 = hn::Load(d, high), b3 = hn::Load(d, high + lanes);
  for (int round = 0; round < 10; ++round) {
    const VecU32 k0 = hn::Set(d, key0);
    const VecU32 k1 = hn::Set(d, key1);
    VecU32 a_low0, a_low1, b_low0, b_low1;
    const VecU32 a_high0 = MulHighLow(multiplier0, a0, a_low0);
    const VecU32 b_high0 = MulHighLow(multiplier0, b0, b_low0);
    const VecU32 a_high1 = MulHighLow(multiplier1, a2, a_low1);
    const VecU32 b_high1 = MulHighLow(multiplier1, b2, b_low1);
    a0 = hn::Xor(hn::Xor(a_high1, a1), k0), b0 = hn::Xor(hn::Xor(b_high1, b1), k0);
    a2 = hn::Xor(hn::Xor(a_high0, a3), k1), b2 = hn::Xor(hn::Xor(b_high0, b3), k1);
    a1 = a_low1, b1 = b_low1;
    a3 = a_low0, b3 = b_low0;
    key0 += 0x9E3779B9u;
    key1 += 0xBB67AE85u;
  }
  hn::StoreInterleaved4(a0, a1, a2, a3, d, words);
  hn::StoreInterleaved4(b0, b1, b2, b3, d, words + 4 * lanes);
}

}  // namespace dgm::cpu::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
