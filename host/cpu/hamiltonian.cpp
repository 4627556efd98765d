// SPDX-License-Identifier: Apache-2.0
// Chains are split over threads. Blocks of draws are flat over chains, as many at once as two vectors have lanes;
// coordinates of a chain are a vector at a time. Traffic: as kernels/hamiltonian.cu states it; next to the model's log
// density and gradient none of it is felt.
#include "kernels/hamiltonian.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <cmath>
#include <cstring>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/hamiltonian.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/noise-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {

using cpu::HWY_NAMESPACE::ForVectors;
using cpu::HWY_NAMESPACE::LoadSome;
using cpu::HWY_NAMESPACE::StoreSome;
using cpu::HWY_NAMESPACE::U32;
using V = Lanes::V;

HWY_INLINE float KineticEnergy(const float* momentum, const float* gradient, float half, int64_t dims) {
  const Lanes::D d;
  V squares = Lanes::set(0.0f);
  ForVectors(dims, [&](int64_t i, int64_t count) HWY_ATTR {
    const V p = hn::MulAdd(Lanes::set(half), LoadSome(gradient + i, count, 0.0f), LoadSome(momentum + i, count, 0.0f));
    squares = hn::MulAdd(p, p, squares);
  });
  return 0.5f * hn::GetLane(hn::SumOfLanes(d, squares));
}

}  // namespace

// Momenta and steps of chains begin..end-1.
void DrawMomenta(const TrajectoryStart& args, int64_t begin, int64_t end) {
  constexpr int64_t kMostBlocks = 2 * HWY_MAX_BYTES / sizeof(uint32_t);
  const auto at_once = 2 * static_cast<int64_t>(hn::Lanes(U32()));
  HWY_ALIGN uint32_t block[kMostBlocks] = {};
  HWY_ALIGN uint32_t low[kMostBlocks] = {};
  HWY_ALIGN uint32_t high[kMostBlocks] = {};
  HWY_ALIGN uint32_t words[4 * kMostBlocks];
  HWY_ALIGN float normals[4 * kMostBlocks];
  const ChainDraws& of = args.chains;
  const auto step = static_cast<uint32_t>(*of.draws.step);
  const int64_t per_chain = of.blocks_per_chain();
  const int64_t last = end * per_chain;
  for (int64_t first = begin * per_chain; first < last; first += at_once) {
    const int64_t count = std::min(at_once, last - first);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t row = (first + i) / (per_chain * of.chains);
      const auto datum = static_cast<uint64_t>(of.data != nullptr ? of.data[row] : row);
      const uint64_t subsequence = (of.draws.site << 48) | datum;
      block[i] = of.first_block + static_cast<uint32_t>((first + i) % (per_chain * of.chains));
      low[i] = static_cast<uint32_t>(subsequence);
      high[i] = static_cast<uint32_t>(subsequence >> 32);
    }
    cpu::HWY_NAMESPACE::PhiloxWordsOf(of.draws.seed, step, block, low, high, words);
    NormalsOf(words, 4 * at_once, normals);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t chain = (first + i) / per_chain;
      const int64_t column = 4 * ((first + i) % per_chain);
      if (column < 4 * of.momentum_blocks()) {
        CopyBlock(normals + 4 * i, of.dims - column, args.momentum + chain * of.dims + column);
      } else {
        const StepSize& size = args.steps[chain / of.chains];
        const float u = uniform_from_word(words[4 * i + 1]);
        args.step[chain] = args.first_step * std::exp(args.averaged ? size.log_average : size.log_step) *
                           (1.0f + args.jitter * (2.0f * u - 1.0f));
      }
    }
  }
}

void FirstDrift(const TrajectoryStart& args, int64_t begin, int64_t end) {
  const int64_t dims = args.chains.dims;
  for (int64_t chain = begin; chain < end; ++chain) {
    const int64_t first = chain * dims;
    const float step = args.step[chain];
    args.kinetic[chain] = KineticEnergy(args.momentum + first, args.momentum + first, 0.0f, dims);
    ForVectors(dims, [&](int64_t i, int64_t count) HWY_ATTR {
      const V p = hn::MulAdd(Lanes::set(0.5f * step), LoadSome(args.gradient + first + i, count, 0.0f),
                             LoadSome(args.momentum + first + i, count, 0.0f));
      StoreSome(p, args.momentum + first + i, count);
      StoreSome(hn::MulAdd(Lanes::set(step), p, LoadSome(args.z + first + i, count, 0.0f)), args.moved + first + i,
                count);
    });
  }
}

void KickAndDrift(const Leapfrog& args, int64_t begin, int64_t end) {
  for (int64_t chain = begin; chain < end; ++chain) {
    const int64_t first = chain * args.dims;
    const V step = Lanes::set(args.step[chain]);
    ForVectors(args.dims, [&](int64_t i, int64_t count) HWY_ATTR {
      const V p = hn::MulAdd(step, LoadSome(args.gradient + first + i, count, 0.0f),
                             LoadSome(args.momentum + first + i, count, 0.0f));
      StoreSome(p, args.momentum + first + i, count);
      StoreSome(hn::MulAdd(step, p, LoadSome(args.moved + first + i, count, 0.0f)), args.moved + first + i, count);
    });
  }
}

// Data begin..end-1.
void EndTrajectories(const TrajectoryEnd& args, int64_t begin, int64_t end) {
  const ChainDraws& of = args.chains;
  for (int64_t row = begin; row < end; ++row) {
    const auto datum = static_cast<uint64_t>(of.data != nullptr ? of.data[row] : row);
    double sum = 0;
    for (int64_t chain = 0; chain < of.chains; ++chain) {
      const int64_t at = row * of.chains + chain;
      const int64_t first = at * of.dims;
      const float kinetic =
          KineticEnergy(args.momentum + first, args.moved_gradient + first, 0.5f * args.step[at], of.dims);
      const float p = acceptance_of(args.log_density[at], args.kinetic[at], args.moved_log_density[at], kinetic);
      args.acceptance[at] = p;
      sum += static_cast<double>(p);
      const auto block = static_cast<uint32_t>(chain * of.blocks_per_chain() + of.momentum_blocks());
      const PhiloxWords words = draw_words(
          of.draws.seed, {of.draws.site, datum, static_cast<uint64_t>(*of.draws.step), of.first_block + block});
      if (p > 0.0f && uniform_from_word(words.w[0]) <= p) {
        const auto bytes = sizeof(float) * static_cast<std::size_t>(of.dims);
        std::memcpy(args.z + first, args.moved + first, bytes);
        std::memcpy(args.gradient + first, args.moved_gradient + first, bytes);
        args.log_density[at] = args.moved_log_density[at];
      }
    }
    if (args.steps != nullptr && of.chains > 0) {
      args.steps[row] = adapted(args.steps[row], static_cast<float>(sum / static_cast<double>(of.chains)), args.target);
    }
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(DrawMomenta);
HWY_EXPORT(FirstDrift);
HWY_EXPORT(KickAndDrift);
HWY_EXPORT(EndTrajectories);

namespace {
constexpr int64_t kGrain = 1 << 12;  // coordinates that are worth a thread
}

void run_cpu(const TrajectoryStart& args) {
  const auto momenta = HWY_DYNAMIC_DISPATCH(DrawMomenta);
  const auto drift = HWY_DYNAMIC_DISPATCH(FirstDrift);
  const ChainDraws& of = args.chains;
  cpu::parallel_ranges(of.rows * of.chains, std::max<int64_t>(1, kGrain / (4 * of.blocks_per_chain())),
                       [&](int64_t begin, int64_t end, int) {
                         momenta(args, begin, end);
                         drift(args, begin, end);
                       });
}

void run_cpu(const Leapfrog& args) {
  const auto kick = HWY_DYNAMIC_DISPATCH(KickAndDrift);
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrain / std::max<int64_t>(1, args.dims)),
                       [&](int64_t begin, int64_t end, int) { kick(args, begin, end); });
}

void run_cpu(const TrajectoryEnd& args) {
  const auto finish = HWY_DYNAMIC_DISPATCH(EndTrajectories);
  const int64_t each = std::max<int64_t>(1, args.chains.chains * args.chains.dims);
  cpu::parallel_ranges(args.chains.rows, std::max<int64_t>(1, kGrain / each),
                       [&](int64_t begin, int64_t end, int) { finish(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
