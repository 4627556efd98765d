// SPDX-License-Identifier: Apache-2.0
#include "kernels/activations.hpp"

#include "host/cpu/parallel.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/activations.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"
#include "kernels/math/activations-inl.hpp"
// after the functions
#include "host/cpu/map-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

void Values(const Map<Activation>& args, int64_t begin, int64_t end) { MapRange(args, begin, end); }
void Gradients(const MapGradient<Activation>& args, int64_t begin, int64_t end) { MapGradientRange(args, begin, end); }

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Values);
HWY_EXPORT(Gradients);

namespace {
constexpr int64_t kGrain = 1 << 14;
constexpr int64_t kMultiple = 16;  // ranges begin at cache lines
}  // namespace

void run_cpu(const Map<Activation>& args) {
  const auto values = HWY_DYNAMIC_DISPATCH(Values);
  cpu::parallel_ranges(args.size, kGrain, kMultiple,
                       [&](int64_t begin, int64_t end, int) { values(args, begin, end); });
}

void run_cpu(const MapGradient<Activation>& args) {
  const auto gradients = HWY_DYNAMIC_DISPATCH(Gradients);
  cpu::parallel_ranges(args.size, kGrain, kMultiple,
                       [&](int64_t begin, int64_t end, int) { gradients(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
