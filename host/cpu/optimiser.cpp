// SPDX-License-Identifier: Apache-2.0
// Elements are split over threads; every operation is elementwise and rounds alike in vectors and
// tails, so an element's new value depends on nothing but the element. The norm is summed in double
// over chunks of 4096, each by one thread, and the chunks in order: the same bits for any number of
// threads. Traffic as in kernels/optimiser.cu.
#include "kernels/optimiser.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/update_scalars.hpp"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/optimiser.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {  // names of one file must not meet those of another: each target has one namespace

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::StoreFirst;
using cpu::HWY_NAMESPACE::VecF32;

double SquareSum(const float* x, int64_t count) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  auto sum0 = hn::Zero(d);
  auto sum1 = sum0;
  int64_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    const auto a = hn::PromoteTo(d, hn::LoadU(df, x + i));
    const auto b = hn::PromoteTo(d, hn::LoadU(df, x + i + lanes));
    sum0 = hn::MulAdd(a, a, sum0);
    sum1 = hn::MulAdd(b, b, sum1);
  }
  double sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(sum0, sum1)));
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

struct Gradient {
  explicit Gradient(const GradientArgs& args, float scale_by)
      : scale(hn::Set(F32(), scale_by)),
        high(hn::Set(F32(), args.clip_value)),
        low(hn::Set(F32(), -args.clip_value)),
        sign(hn::Set(F32(), args.maximise ? -1.0f : 1.0f)) {}
  HWY_INLINE VecF32 operator()(VecF32 g) const {
    g = hn::Mul(g, scale);
    // Comparisons that are false for NaN, so that clipping does not hide one.
    g = hn::IfThenElse(hn::Gt(g, high), high, g);
    g = hn::IfThenElse(hn::Lt(g, low), low, g);
    return hn::Mul(g, sign);
  }
  VecF32 scale, high, low, sign;
};

// Elements i, i + 1, ... before `end`, as many as a vector has or there are.
class Window {
 public:
  HWY_INLINE Window(int64_t i, int64_t end)
      : i_(i), count_(static_cast<std::size_t>(std::min(static_cast<int64_t>(hn::Lanes(F32())), end - i))) {}
  HWY_INLINE VecF32 load(const float* p) const {
    return whole() ? hn::LoadU(F32(), p + i_) : LoadFirst(F32(), p + i_, count_, hn::Zero(F32()));
  }
  HWY_INLINE void store(VecF32 v, float* p) const {
    if (whole()) {
      hn::StoreU(v, F32(), p + i_);
    } else {
      StoreFirst(F32(), v, p + i_, count_);
    }
  }

 private:
  HWY_INLINE bool whole() const { return count_ == hn::Lanes(F32()); }
  int64_t i_;
  std::size_t count_;
};

void Sgd(const SgdUpdate& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const Gradient gradient(args.gradient, args.scalars->scale);
  const VecF32 rate = hn::Set(d, args.scalars->rate);
  const VecF32 decay = hn::Set(d, args.weight_decay);
  const VecF32 momentum = hn::Set(d, args.momentum);
  for (int64_t i = begin; i < end; i += lanes) {
    const Window at(i, end);
    const VecF32 w = at.load(args.value);
    VecF32 g = hn::MulAdd(decay, w, gradient(at.load(args.gradient.grad)));
    if (args.velocity != nullptr) {
      const VecF32 v = hn::MulAdd(momentum, at.load(args.velocity), g);
      at.store(v, args.velocity);
      g = args.nesterov ? hn::MulAdd(momentum, v, g) : v;
    }
    at.store(hn::NegMulAdd(rate, g, w), args.value);
  }
}

void Adam(const AdamUpdate& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const StepScalars& scalars = *args.scalars;
  const Gradient gradient(args.gradient, scalars.scale);
  const VecF32 coupled = hn::Set(d, args.decoupled ? 0.0f : args.weight_decay);
  const VecF32 shrink = hn::Set(d, args.decoupled ? scalars.rate * args.weight_decay : 0.0f);
  const VecF32 one_minus_beta1 = hn::Set(d, args.one_minus_beta1);
  const VecF32 one_minus_beta2 = hn::Set(d, args.one_minus_beta2);
  const VecF32 step_size = hn::Set(d, scalars.step_size);
  const VecF32 root = hn::Set(d, scalars.root);
  const VecF32 epsilon = hn::Set(d, args.epsilon);
  for (int64_t i = begin; i < end; i += lanes) {
    const Window at(i, end);
    const VecF32 w = at.load(args.value);
    const VecF32 g = hn::MulAdd(coupled, w, gradient(at.load(args.gradient.grad)));
    VecF32 m = at.load(args.first);
    VecF32 v = at.load(args.second);
    // beta v + (1 - beta) g^2 with both factors rounded would converge to (1 + 1e-5) g^2.
    m = hn::MulAdd(one_minus_beta1, hn::Sub(g, m), m);
    v = hn::MulAdd(one_minus_beta2, hn::MulSub(g, g, v), v);
    at.store(m, args.first);
    at.store(v, args.second);
    const VecF32 shrunk = hn::NegMulAdd(shrink, w, w);
    const VecF32 step = hn::Div(hn::Mul(step_size, m), hn::MulAdd(hn::Sqrt(v), root, epsilon));
    at.store(hn::Sub(shrunk, step), args.value);
  }
}

}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(SquareSum);
HWY_EXPORT(Sgd);
HWY_EXPORT(Adam);

namespace {
constexpr int64_t kGrain = 1 << 14;
constexpr int64_t kCacheLine = 16;  // floats: no two threads write one line
}  // namespace

void run_cpu(const GradientNorm& args) {
  const auto square_sum = HWY_DYNAMIC_DISPATCH(SquareSum);
  const int64_t chunks = (args.size + kNormChunk - 1) / kNormChunk;
  cpu::parallel_ranges(chunks, kGrain / kNormChunk, [&](int64_t begin, int64_t end, int) {
    for (int64_t chunk = begin; chunk < end; ++chunk) {
      const int64_t at = chunk * kNormChunk;
      args.partial[chunk] = square_sum(args.grad + at, std::min(kNormChunk, args.size - at));
    }
  });
}

void run_cpu(const UpdateScalars& args) {
  double sum = 0;
  if (args.partial != nullptr) {
    for (int64_t i = 0; i < args.partials; ++i) sum += args.partial[i];
  }
  finish_update_scalars(args, sum);
}

void run_cpu(const SgdUpdate& args) {
  if (args.scalars->skip != 0) return;
  const auto sgd = HWY_DYNAMIC_DISPATCH(Sgd);
  cpu::parallel_ranges(args.size, kGrain, kCacheLine, [&](int64_t begin, int64_t end, int) { sgd(args, begin, end); });
}

void run_cpu(const AdamUpdate& args) {
  if (args.scalars->skip != 0) return;
  const auto adam = HWY_DYNAMIC_DISPATCH(Adam);
  cpu::parallel_ranges(args.size, kGrain, kCacheLine, [&](int64_t begin, int64_t end, int) { adam(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
