// SPDX-License-Identifier: Apache-2.0
// Elementwise loops over a range, for any function over lanes.
#if defined(DGM_HOST_CPU_MAP_INL) == defined(HWY_TARGET_TOGGLE)
#ifdef DGM_HOST_CPU_MAP_INL
#undef DGM_HOST_CPU_MAP_INL
#else
#define DGM_HOST_CPU_MAP_INL
#endif

#include "host/cpu/lanes-inl.hpp"

#include <hwy/cache_control.h>

#include <algorithm>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

// to[i] = body(load) for begin <= i < end, where load(p) gives p[i]. A result that no cache could hold
// goes past the caches: it would be gone before it was read. hwy::FlushStream() is then due.
template <class Body>
HWY_INLINE void ForEach(int64_t begin, int64_t end, bool past_caches, float* HWY_RESTRICT to, const Body& body) {
  const Lanes::D d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = begin;
  const auto some = [&](int64_t count) HWY_ATTR {
    const auto load = [i, count](const float* p) HWY_ATTR {
      // One is in the domain of every function.
      return cpu::HWY_NAMESPACE::LoadFirst(Lanes::D(), p + i, static_cast<std::size_t>(count), Lanes::set(1.0f));
    };
    cpu::HWY_NAMESPACE::StoreFirst(d, body(load), to + i, static_cast<std::size_t>(count));
    i += count;
  };
  if (past_caches) {
    const auto beyond = static_cast<int64_t>(reinterpret_cast<uintptr_t>(to + i) / sizeof(float)) % lanes;
    if (beyond > 0) some(std::min(lanes - beyond, end - i));
    for (; i + lanes <= end; i += lanes) {
      const auto load = [i](const float* p) HWY_ATTR { return hn::LoadU(Lanes::D(), p + i); };
      hn::Stream(body(load), d, to + i);
    }
  } else {
    for (; i + lanes <= end; i += lanes) {
      const auto load = [i](const float* p) HWY_ATTR { return hn::LoadU(Lanes::D(), p + i); };
      hn::StoreU(body(load), d, to + i);
    }
  }
  if (i < end) some(end - i);
}

constexpr int64_t kCachedElements = 1 << 22;  // 16 MiB

template <class Function>
void MapRange(const Map<Function>& args, int64_t begin, int64_t end) {
  const Lanes::V a = Lanes::set(args.constants.a);
  const Lanes::V b = Lanes::set(args.constants.b);
  visit(args.function, [&](auto function) HWY_ATTR {
    using F = decltype(function);
    ForEach(begin, end, args.size > kCachedElements, args.y,
            [&](const auto& load) HWY_ATTR { return F::template value<Lanes>(load(args.x), a, b); });
  });
  hwy::FlushStream();
}

template <class Function>
void MapGradientRange(const MapGradient<Function>& args, int64_t begin, int64_t end) {
  const Lanes::V a = Lanes::set(args.constants.a);
  const Lanes::V b = Lanes::set(args.constants.b);
  visit(args.function, [&](auto function) HWY_ATTR {
    using F = decltype(function);
    ForEach(begin, end, args.size > kCachedElements, args.dx, [&](const auto& load) HWY_ATTR {
      const Lanes::V g = load(args.g);
      if constexpr (F::kKeeps == Keeps::kNothing) return F::template gradient<Lanes>(g, g, a, b);
      return F::template gradient<Lanes>(load(args.kept), g, a, b);
    });
  });
  hwy::FlushStream();
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
