// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads. Exponentials of up to 4096 samples wait in a buffer until their sum is known, so that
// the weights are written once, past the caches where none could hold them. Traffic: 4 bytes a sample read and 4
// written; one exp a sample.
#include "kernels/importance_weights.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/leave_one_out.hpp"
#include "kernels/math/pareto.hpp"

#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/importance_weights.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"

#include <hwy/cache_control.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::StoreFirst;
using cpu::HWY_NAMESPACE::VecF32;

constexpr int64_t kBuffer = 4096;
constexpr int64_t kCachedElements = 1 << 22;  // 16 MiB

// body(i, lanes) for whole vectors of 0..count-1, then body(i, rest) for the last.
template <class Body>
HWY_INLINE void ForVectors(int64_t count, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(F32()));
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) body(i, lanes);
  if (i < count) body(i, count - i);
}

HWY_INLINE VecF32 LoadSome(const float* p, int64_t count, float fill) {
  const F32 d;
  if (count == static_cast<int64_t>(hn::Lanes(d))) return hn::LoadU(d, p);
  return LoadFirst(d, p, static_cast<std::size_t>(count), hn::Set(d, fill));
}

HWY_INLINE void StoreSome(VecF32 v, float* p, int64_t count) {
  const F32 d;
  if (count == static_cast<int64_t>(hn::Lanes(d))) {
    hn::StoreU(v, d, p);
  } else {
    StoreFirst(d, v, p, static_cast<std::size_t>(count));
  }
}

}  // namespace

void WeighRows(const ImportanceWeightsForward& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  HWY_ALIGN float buffer[kBuffer];
  const bool stream = args.rows * args.samples > kCachedElements && args.samples % lanes == 0;
  for (int64_t b = begin; b < end; ++b) {
    const float* const l = args.log_weights + b * args.samples;
    float* const w = args.weights + b * args.samples;
    VecF32 max = hn::Set(d, -INFINITY);
    VecF32 bad = hn::Zero(d);  // of NaN and +inf, which Max and exp may both lose
    ForVectors(args.samples, [&](int64_t i, int64_t count) HWY_ATTR {
      const VecF32 v = LoadSome(l + i, count, -INFINITY);
      bad = hn::Or(bad, hn::VecFromMask(d, hn::Not(hn::Lt(v, hn::Set(d, INFINITY)))));
      max = hn::Max(max, v);
    });
    const bool is_bad = !hn::AllFalse(d, hn::MaskFromVec(bad));
    const float largest = hn::GetLane(hn::MaxOfLanes(d, max));
    if (is_bad || largest == -INFINITY) {
      std::fill(w, w + args.samples, is_bad ? NAN : 0.0f);
      args.log_mean[b] = is_bad ? NAN : -INFINITY;
      args.ess[b] = is_bad ? NAN : 0.0f;
      continue;
    }
    const VecF32 shift = hn::Set(d, largest);
    VecF32 sum = hn::Zero(d);
    VecF32 squares = hn::Zero(d);
    float* const wait = args.samples <= kBuffer ? buffer : w;
    ForVectors(args.samples, [&](int64_t i, int64_t count) HWY_ATTR {
      const VecF32 e = ExpBelow88(d, hn::Sub(LoadSome(l + i, count, -INFINITY), shift));
      sum = hn::Add(sum, e);
      squares = hn::MulAdd(e, e, squares);
      StoreSome(e, wait + i, count);
    });
    const float total = hn::GetLane(hn::SumOfLanes(d, sum));
    const VecF32 inverse = hn::Set(d, 1.0f / total);
    ForVectors(args.samples, [&](int64_t i, int64_t count) HWY_ATTR {
      const VecF32 weight = hn::Mul(LoadSome(wait + i, count, 0.0f), inverse);
      if (stream) {
        hn::Stream(weight, d, w + i);
      } else {
        StoreSome(weight, w + i, count);
      }
    });
    args.log_mean[b] = largest + std::log(total / static_cast<float>(args.samples));
    args.ess[b] = total * total / hn::GetLane(hn::SumOfLanes(d, squares));
  }
  hwy::FlushStream();
}

void WeighGradients(const ImportanceWeightsBackward& args, int64_t begin, int64_t end) {
  const F32 d;
  for (int64_t b = begin; b < end; ++b) {
    const int64_t row = b * args.samples;
    const float* const w = args.weights + row;
    if (args.g_weights == nullptr) {
      const VecF32 g = hn::Set(d, args.g_log_mean[b]);
      ForVectors(args.samples, [&](int64_t i, int64_t count) HWY_ATTR {
        StoreSome(hn::Mul(g, LoadSome(w + i, count, 0.0f)), args.gradient + row + i, count);
      });
      continue;
    }
    const float* const g = args.g_weights + row;
    VecF32 sum = hn::Zero(d);
    ForVectors(args.samples, [&](int64_t i, int64_t count) HWY_ATTR {
      sum = hn::MulAdd(LoadSome(w + i, count, 0.0f), LoadSome(g + i, count, 0.0f), sum);
    });
    const VecF32 mean = hn::SumOfLanes(d, sum);
    ForVectors(args.samples, [&](int64_t i, int64_t count) HWY_ATTR {
      StoreSome(hn::Mul(LoadSome(w + i, count, 0.0f), hn::Sub(LoadSome(g + i, count, 0.0f), mean)),
                args.gradient + row + i, count);
    });
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(WeighRows);
HWY_EXPORT(WeighGradients);

namespace {

constexpr int64_t kGrainTerms = 1 << 13;

// l: a row of log weights, sorted here.
float pareto_shape_of(std::vector<float>& l, int64_t tail) {
  for (const float x : l) {
    if (!(x < INFINITY)) return NAN;
  }
  std::sort(l.begin(), l.end());
  const auto samples = static_cast<int64_t>(l.size());
  if (tail < ParetoShape::kFewestTail || samples <= tail) return INFINITY;
  const double largest = l.back();
  const double cutoff = std::exp(l[static_cast<std::size_t>(samples - tail - 1)] - largest);
  std::vector<double> x;
  for (int64_t i = samples - tail; i < samples; ++i) {
    x.push_back(std::exp(l[static_cast<std::size_t>(i)] - largest) - cutoff);
  }
  const double quartile = x[static_cast<std::size_t>(std::floor(static_cast<double>(tail) / 4 + 0.5)) - 1];
  if (!(quartile > 0)) return INFINITY;
  const auto mean_log = [&](double theta) {
    double sum = 0;
    for (const double value : x) sum += std::log1p(-theta * value);
    return sum / static_cast<double>(tail);
  };
  const int grid = pareto_grid(tail);
  double best = -INFINITY;
  std::vector<double> thetas, likelihoods;
  for (int j = 0; j < grid; ++j) {
    thetas.push_back(pareto_theta(j, grid, quartile, x.back()));
    likelihoods.push_back(pareto_log_likelihood(tail, thetas.back(), mean_log(thetas.back())));
    best = std::max(best, likelihoods.back());
  }
  double weight = 0;
  double theta = 0;
  for (std::size_t j = 0; j < thetas.size(); ++j) {
    const double w = std::exp(likelihoods[j] - best);
    weight += w;
    theta += w * thetas[j];
  }
  return static_cast<float>(pareto_with_prior(tail, mean_log(theta / weight)));
}

}  // namespace

void run_cpu(const ImportanceWeightsForward& args) {
  const auto weigh = HWY_DYNAMIC_DISPATCH(WeighRows);
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrainTerms / args.samples),
                       [&](int64_t begin, int64_t end, int) { weigh(args, begin, end); });
}

void run_cpu(const ImportanceWeightsBackward& args) {
  const auto gradients = HWY_DYNAMIC_DISPATCH(WeighGradients);
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrainTerms / args.samples),
                       [&](int64_t begin, int64_t end, int) { gradients(args, begin, end); });
}

void run_cpu(const LeaveOneOutGain& args) {
  const int64_t grain = std::max<int64_t>(1, kGrainTerms / args.samples);
  cpu::parallel_ranges(args.rows * args.samples, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t at = begin; at < end; ++at) {
      const int64_t row = at / args.samples * args.samples;
      args.gain[at] = leave_one_out_gain_of(args.log_weights + row, args.samples, at - row);
    }
  });
}

void run_cpu(const ParetoShape& args) {
  cpu::parallel_ranges(args.rows, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t b = begin; b < end; ++b) {
      std::vector<float> row(args.log_weights + b * args.samples, args.log_weights + (b + 1) * args.samples);
      args.shape[b] = pareto_shape_of(row, args.tail());
    }
  });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
