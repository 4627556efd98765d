// SPDX-License-Identifier: Apache-2.0
// Rows, or for gradients data, are split over threads; a vector of dimensions at a time. Gradients of shared
// arguments are summed over groups of 64 samples and then over the groups: rounding grows with the root of
// their number. Traffic: every argument is read once and every gradient written once.
#include "kernels/densities.hpp"

#include "host/cpu/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/densities.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"
#include "kernels/math/densities-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {

using V = Lanes::V;

// Lanes past the last dimension get 1, which every term takes without a NaN that would be slow.
template <int kCount>
HWY_INLINE void LoadArguments(const DensityInput& in, int64_t b, int64_t s, int64_t first, std::size_t count, V* u) {
  for (int i = 0; i < kCount; ++i) {
    const DensityArgument& argument = in.arguments[i];
    const float* const p = argument.data + b * argument.batch_stride + s * argument.sample_stride + first;
    u[i] = count == hn::Lanes(Lanes::D()) ? hn::LoadU(Lanes::D(), p)
                                          : cpu::HWY_NAMESPACE::LoadFirst(Lanes::D(), p, count, Lanes::set(1.0f));
  }
}

template <class F>
void SumRows(const DensitySum& args, int64_t begin, int64_t end) {
  const Lanes::D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t row = begin; row < end; ++row) {
    const int64_t b = row / args.in.samples;
    const int64_t s = row % args.in.samples;
    V sum = Lanes::set(0.0f);
    V u[kMostDensityArguments];
    int64_t at = 0;
    for (; at + lanes <= args.in.dims; at += lanes) {
      LoadArguments<F::kArguments>(args.in, b, s, at, static_cast<std::size_t>(lanes), u);
      sum = sum + F::template value<Lanes>(u);
    }
    if (at < args.in.dims) {
      const auto count = static_cast<std::size_t>(args.in.dims - at);
      LoadArguments<F::kArguments>(args.in, b, s, at, count, u);
      sum = sum + hn::IfThenElseZero(hn::FirstN(d, count), F::template value<Lanes>(u));
    }
    args.y[row] = hn::GetLane(hn::SumOfLanes(d, sum));
  }
}

template <class F, int I>
void GradientOfArgument(const DensityGradient& args, int64_t begin, int64_t end) {
  float* const gradient = args.gradients[I];
  if (gradient == nullptr) return;
  constexpr int64_t kGroup = 64;
  const Lanes::D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t samples = args.in.samples;
  const int64_t dims = args.in.dims;
  const bool shared = args.in.arguments[I].sample_stride == 0;
  for (int64_t b = begin; b < end; ++b) {
    for (int64_t at = 0; at < dims; at += lanes) {
      const auto count = static_cast<std::size_t>(std::min(lanes, dims - at));
      V total = Lanes::set(0.0f);
      for (int64_t first = 0; first < samples; first += kGroup) {
        V group = Lanes::set(0.0f);
        for (int64_t s = first; s < std::min(samples, first + kGroup); ++s) {
          const float g = args.g[b * samples + s];
          V term = Lanes::set(0.0f);
          if (g != 0.0f) {
            V u[kMostDensityArguments];
            LoadArguments<F::kArguments>(args.in, b, s, at, count, u);
            term = Lanes::set(g) * F::template slope<Lanes, I>(u);
          }
          if (!shared) cpu::HWY_NAMESPACE::StoreFirst(d, term, gradient + (b * samples + s) * dims + at, count);
          group = group + term;
        }
        total = total + group;
      }
      if (shared) cpu::HWY_NAMESPACE::StoreFirst(d, total, gradient + b * dims + at, count);
    }
  }
}

}  // namespace

void SumDensities(const DensitySum& args, int64_t begin, int64_t end) {
  visit(args.in.function, [&](auto function) { SumRows<decltype(function)>(args, begin, end); });
}

void DensityGradients(const DensityGradient& args, int64_t begin, int64_t end) {
  visit(args.in.function, [&](auto function) {
    using F = decltype(function);
    GradientOfArgument<F, 0>(args, begin, end);
    if constexpr (F::kArguments > 1) GradientOfArgument<F, 1>(args, begin, end);
    if constexpr (F::kArguments > 2) GradientOfArgument<F, 2>(args, begin, end);
    if constexpr (F::kArguments > 3) GradientOfArgument<F, 3>(args, begin, end);
  });
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(SumDensities);
HWY_EXPORT(DensityGradients);

namespace {
constexpr int64_t kGrainTerms = 1 << 12;
}  // namespace

void run_cpu(const DensitySum& args) {
  const auto sums = HWY_DYNAMIC_DISPATCH(SumDensities);
  cpu::parallel_ranges(args.in.batch * args.in.samples,
                       std::max<int64_t>(1, kGrainTerms / std::max<int64_t>(1, args.in.dims)),
                       [&](int64_t begin, int64_t end, int) { sums(args, begin, end); });
}

void run_cpu(const DensityGradient& args) {
  const auto gradients = HWY_DYNAMIC_DISPATCH(DensityGradients);
  const int64_t terms = std::max<int64_t>(1, args.in.samples * args.in.dims);
  cpu::parallel_ranges(args.in.batch, std::max<int64_t>(1, kGrainTerms / terms),
                       [&](int64_t begin, int64_t end, int) { gradients(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
