// SPDX-License-Identifier: Apache-2.0
// From Philox's words to uniform and normal numbers, a vector at a time.
#if defined(DGM_HOST_CPU_NOISE_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_NOISE_INL
#undef DGM_HOST_CPU_NOISE_INL
#else
#define DGM_HOST_CPU_NOISE_INL
#endif

#include "host/cpu/lanes-inl.hpp"
#include "host/cpu/philox-inl.hpp"

#include <hwy/contrib/math/math-inl.h>

#include <cstring>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

// float(word), rounded once: each half is exact.
HWY_INLINE Lanes::V ToFloat(cpu::HWY_NAMESPACE::VecU32 word) {
  const Lanes::D d;
  const hn::RebindToSigned<cpu::HWY_NAMESPACE::U32> di;
  const Lanes::V high = hn::ConvertTo(d, hn::BitCast(di, hn::ShiftRight<16>(word)));
  const Lanes::V low = hn::ConvertTo(d, hn::BitCast(di, hn::And(word, hn::Set(cpu::HWY_NAMESPACE::U32(), 0xFFFFu))));
  return hn::MulAdd(high, Lanes::set(65536.0f), low);
}

// As uniform_from_word.
HWY_INLINE Lanes::V Uniform(cpu::HWY_NAMESPACE::VecU32 word) {
  constexpr float kTwoToMinus32 = 2.3283064365386963e-10f;
  return hn::Add(hn::Mul(ToFloat(word), Lanes::set(kTwoToMinus32)), Lanes::set(kTwoToMinus32 / 2.0f));
}

/// Copies count <= 4 numbers, of which there are mostly four: a call for so few would cost more than their draws.
HWY_INLINE void CopyBlock(const float* from, int64_t count, float* to) {
  if (count >= 4) {
    std::memcpy(to, from, 4 * sizeof(float));
    return;
  }
  for (int64_t j = 0; j < count; ++j) to[j] = from[j];
}

/// noise[i] from words[i], pair by pair, as normals_from_words; count is a multiple of twice the lanes.
HWY_INLINE void NormalsOf(const uint32_t* words, int64_t count, float* noise) {
  const Lanes::D d;
  const cpu::HWY_NAMESPACE::U32 du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr float kTwoPiTwoToMinus32 = 2.3283064365386963e-10f * 6.2831855f;
  for (int64_t i = 0; i < count; i += 2 * lanes) {
    cpu::HWY_NAMESPACE::VecU32 first, second;
    hn::LoadInterleaved2(du, words + i, first, second);
    const Lanes::V radius = Lanes::sqrt(Lanes::set(-2.0f) * Lanes::log(Uniform(first)));
    const Lanes::V angle =
        hn::Add(hn::Mul(ToFloat(second), Lanes::set(kTwoPiTwoToMinus32)), Lanes::set(kTwoPiTwoToMinus32 / 2.0f));
    hn::StoreInterleaved2(radius * hn::Sin(d, angle), radius * hn::Cos(d, angle), d, noise + i);
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
