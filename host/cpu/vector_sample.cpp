// SPDX-License-Identifier: Apache-2.0
// The lanes of two vectors each draw one block of four words, for neighbouring blocks of a datum and then of the
// next, and the words become noise in the order of the coordinates. Parameters are gathered block by block.
// Traffic: 4 bytes written a coordinate; about 30 vector instructions for four coordinates of a lane.
#include "kernels/vector_sample.hpp"

#include "host/cpu/parallel.hpp"

#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/vector_sample.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/noise-inl.hpp"
#include "kernels/math/activations-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {

using cpu::HWY_NAMESPACE::U32;
using cpu::HWY_NAMESPACE::VecU32;
using V = Lanes::V;

// noise[i] from words[i]; count is a multiple of twice the lanes.
HWY_INLINE void NoiseOf(Noise kind, const uint32_t* words, int64_t count, float* noise) {
  const Lanes::D d;
  const U32 du;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  if (kind == Noise::kGaussian) {
    NormalsOf(words, count, noise);
    return;
  }
  for (int64_t i = 0; i < count; i += lanes) {
    const VecU32 word = hn::LoadU(du, words + i);
    const V u = Uniform(word);
    V result = u;
    if (kind == Noise::kGumbel) {
      const V rest = Uniform(hn::Not(word));
      const V exponential = Lanes::if_less(rest, Lanes::set(kNearOne), Lanes::log1p(Lanes::neg(rest)), Lanes::log(u));
      result = Lanes::neg(Lanes::log(Lanes::neg(exponential)));
    }
    hn::StoreU(result, d, noise + i);
  }
}

HWY_INLINE V Drawn(Noise kind, V location, V log_scale, V noise) {
  switch (kind) {
    case Noise::kGaussian:
      return hn::MulAdd(Lanes::exp(log_scale), noise, location);
    case Noise::kGumbel:
      return location + noise;
    default: {
      const V bit = Lanes::if_less_equal(noise, sigmoid<Lanes>(location), Lanes::set(1.0f), Lanes::set(0.0f));
      return hn::IfThenElse(hn::IsNaN(location), location, bit);
    }
  }
}

}  // namespace

// Blocks begin..end-1 of all rows' blocks.
void SampleVectors(const VectorSample& args, int64_t begin, int64_t end) {
  const Lanes::D d;
  constexpr int64_t kMostBlocks = 2 * HWY_MAX_BYTES / sizeof(uint32_t);
  const auto lanes = static_cast<int64_t>(hn::Lanes(U32()));
  HWY_ALIGN uint32_t block[kMostBlocks] = {};
  HWY_ALIGN uint32_t low[kMostBlocks] = {};
  HWY_ALIGN uint32_t high[kMostBlocks] = {};
  HWY_ALIGN uint32_t words[4 * kMostBlocks];
  HWY_ALIGN float noise[4 * kMostBlocks];
  HWY_ALIGN float location[4 * kMostBlocks] = {};
  HWY_ALIGN float log_scale[4 * kMostBlocks] = {};
  const auto step = static_cast<uint32_t>(*args.draws.step);
  const int64_t per_sample = args.blocks_per_sample();
  const int64_t per_row = per_sample * args.samples;
  int64_t row = begin / per_row;
  int64_t at = begin % per_row;
  int64_t quad = at % per_sample;  // of the sample that `at` is in
  for (int64_t first = begin; first < end; first += 2 * lanes) {
    const int64_t count = std::min(2 * lanes, end - first);
    const int64_t first_quad = quad;
    float* z = args.z + (row * args.samples + at / per_sample) * args.dims;
    for (int64_t i = 0; i < count; ++i) {
      const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[row] : row);
      const uint64_t subsequence = (args.draws.site << 48) | datum;
      block[i] = static_cast<uint32_t>(at);
      low[i] = static_cast<uint32_t>(subsequence);
      high[i] = static_cast<uint32_t>(subsequence >> 32);
      const int64_t column = 4 * quad;
      CopyBlock(args.location + row * args.dims + column, args.dims - column, location + 4 * i);
      if (args.log_scale != nullptr) {
        CopyBlock(args.log_scale + row * args.dims + column, args.dims - column, log_scale + 4 * i);
      }
      if (++quad == per_sample) quad = 0;
      if (++at == per_row) at = 0, ++row;
    }
    cpu::HWY_NAMESPACE::PhiloxWordsOf(args.draws.seed, step, block, low, high, words);
    NoiseOf(args.noise, words, 8 * lanes, noise);
    for (int64_t i = 0; i < 4 * count; i += lanes) {
      hn::Store(Drawn(args.noise, hn::Load(d, location + i), hn::Load(d, log_scale + i), hn::Load(d, noise + i)), d,
                noise + i);
    }
    int64_t to_quad = first_quad;
    for (int64_t i = 0; i < count; ++i) {
      CopyBlock(noise + 4 * i, args.dims - 4 * to_quad, z + 4 * to_quad);
      // The samples lie one after the other, and so do the rows.
      if (++to_quad == per_sample) to_quad = 0, z += args.dims;
    }
  }
}

// Rows begin..end-1. Summed over groups of 64 samples and then over the groups, so that rounding stays small.
void SampleGradients(const VectorSampleGradient& args, int64_t begin, int64_t end) {
  const Lanes::D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  constexpr int64_t kGroup = 64;
  const V zero = Lanes::set(0.0f);
  for (int64_t b = begin; b < end; ++b) {
    for (int64_t at = 0; at < args.dims; at += lanes) {
      const auto count = static_cast<std::size_t>(std::min(lanes, args.dims - at));
      const auto load = [&](const float* p) HWY_ATTR { return cpu::HWY_NAMESPACE::LoadFirst(d, p, count, zero); };
      const V location = args.d_log_scale != nullptr ? load(args.location + b * args.dims + at) : zero;
      V d_location = zero;
      V d_log_scale = zero;
      for (int64_t first = 0; first < args.samples; first += kGroup) {
        V location_group = zero;
        V scale_group = zero;
        for (int64_t s = first; s < std::min(args.samples, first + kGroup); ++s) {
          const int64_t offset = (b * args.samples + s) * args.dims + at;
          const V g = load(args.g + offset);
          location_group = location_group + g;
          if (args.d_log_scale != nullptr) scale_group = scale_group + g * (load(args.z + offset) - location);
        }
        d_location = d_location + location_group;
        d_log_scale = d_log_scale + scale_group;
      }
      const auto store = [&](V v, float* p) HWY_ATTR {
        if (p != nullptr) cpu::HWY_NAMESPACE::StoreFirst(d, v, p + b * args.dims + at, count);
      };
      store(d_location, args.d_location);
      store(d_log_scale, args.d_log_scale);
    }
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(SampleVectors);
HWY_EXPORT(SampleGradients);

void run_cpu(const VectorSample& args) {
  constexpr int64_t kGrainBlocks = 1 << 10;
  const auto sample = HWY_DYNAMIC_DISPATCH(SampleVectors);
  cpu::parallel_ranges(args.rows * args.samples * args.blocks_per_sample(), kGrainBlocks,
                       [&](int64_t begin, int64_t end, int) { sample(args, begin, end); });
}

void run_cpu(const VectorSampleGradient& args) {
  constexpr int64_t kGrainTerms = 1 << 13;
  const auto gradients = HWY_DYNAMIC_DISPATCH(SampleGradients);
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrainTerms / std::max<int64_t>(1, args.samples * args.dims)),
                       [&](int64_t begin, int64_t end, int) { gradients(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
