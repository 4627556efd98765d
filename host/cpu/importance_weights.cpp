// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads; eight of up to 512 samples are taken at once, so that what there is once a row costs a
// vector for all. Exponentials of up to 4096 samples wait in a buffer until their sum is known, and the weights are
// written once, past the caches where none could hold them. Traffic: 4 bytes a sample read and 4 written; one exp a
// sample.
#include "kernels/importance_weights.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/leave_one_out.hpp"
#include "kernels/math/pareto.hpp"

#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/importance_weights.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"
#include "host/cpu/reduce_rows-inl.hpp"
#include "host/cpu/simd-inl.hpp"

#include <hwy/cache_control.h>

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::ForVectors;
using cpu::HWY_NAMESPACE::kReducedRows;
using cpu::HWY_NAMESPACE::Larger;
using cpu::HWY_NAMESPACE::LoadSome;
using cpu::HWY_NAMESPACE::Plus;
using cpu::HWY_NAMESPACE::ReduceRows;
using cpu::HWY_NAMESPACE::StoreFirst;
using cpu::HWY_NAMESPACE::StoreSome;
using cpu::HWY_NAMESPACE::VecF32;

constexpr int64_t kBuffer = 4096;
constexpr int64_t kShortRow = kBuffer / kReducedRows;
constexpr int64_t kCachedElements = 1 << 22;  // 16 MiB

// Whether what is written is best sent past the caches: they could not hold it, and it fills whole lines.
HWY_INLINE bool PastCaches(int64_t rows, int64_t samples) {
  return rows * samples > kCachedElements && samples % static_cast<int64_t>(hn::Lanes(F32())) == 0;
}

// Rows b..b+count-1, count <= 8, of at most kShortRow samples; missing rows are the last one again, so that a row's
// bits do not depend on how many there are. No branch: NaN and +inf make the sum NaN, a row of -inf has the sum 0.
HWY_INLINE void WeighEight(const ImportanceWeightsForward& args, int64_t b, int64_t count, bool past_caches,
                           float* buffer) {
  const F32 d;
  const auto row = [&](int p)
                       HWY_ATTR { return args.log_weights + (b + std::min<int64_t>(p, count - 1)) * args.samples; };
  VecF32 fold[kReducedRows];
  for (int p = 0; p < kReducedRows; ++p) {
    const float* const l = row(p);
    VecF32 max = hn::Set(d, -INFINITY);
    ForVectors(args.samples, [&](int64_t i, int64_t n) HWY_ATTR { max = hn::Max(max, LoadSome(l + i, n, -INFINITY)); });
    fold[p] = max;
  }
  HWY_ALIGN float largest[HWY_MAX_BYTES / sizeof(float) + kReducedRows] = {};
  ReduceRows(fold, Larger(), largest);
  VecF32 fold_squares[kReducedRows];
  for (int p = 0; p < kReducedRows; ++p) {
    const float* const l = row(p);
    float* const e_of = buffer + p * args.samples;
    const VecF32 shift = hn::Set(d, largest[p] == -INFINITY ? 0.0f : largest[p]);
    VecF32 sum = hn::Zero(d);
    VecF32 squares = hn::Zero(d);
    ForVectors(args.samples, [&](int64_t i, int64_t n) HWY_ATTR {
      const VecF32 e = ExpBelow88(d, hn::Sub(LoadSome(l + i, n, -INFINITY), shift));
      sum = hn::Add(sum, e);
      squares = hn::MulAdd(e, e, squares);
      StoreSome(e, e_of + i, n);
    });
    fold[p] = sum;
    fold_squares[p] = squares;
  }
  HWY_ALIGN float sums[HWY_MAX_BYTES / sizeof(float) + kReducedRows] = {};
  HWY_ALIGN float squares[HWY_MAX_BYTES / sizeof(float) + kReducedRows] = {};
  HWY_ALIGN float inverse[HWY_MAX_BYTES / sizeof(float) + kReducedRows];
  ReduceRows(fold, Plus(), sums);
  ReduceRows(fold_squares, Plus(), squares);
  const VecF32 scale = hn::Set(d, 1.0f / static_cast<float>(args.samples));
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t i = 0; i < count; i += lanes) {
    const VecF32 sum = hn::LoadU(d, sums + i);
    const auto none = hn::Eq(sum, hn::Zero(d));
    const auto some = static_cast<std::size_t>(std::min(lanes, count - i));
    hn::StoreU(hn::IfThenZeroElse(none, hn::Div(hn::Set(d, 1.0f), sum)), d, inverse + i);
    const VecF32 ess = hn::IfThenZeroElse(none, hn::Div(hn::Mul(sum, sum), hn::LoadU(d, squares + i)));
    StoreFirst(d, hn::Add(hn::LoadU(d, largest + i), Lanes::log(hn::Mul(sum, scale))), args.log_mean + b + i, some);
    StoreFirst(d, ess, args.ess + b + i, some);
  }
  for (int p = 0; p < count; ++p) {
    const VecF32 factor = hn::Set(d, inverse[p]);
    const float* const e_of = buffer + p * args.samples;
    float* const w = args.weights + (b + p) * args.samples;
    ForVectors(args.samples, [&](int64_t i, int64_t n) HWY_ATTR {
      const VecF32 weight = hn::Mul(LoadSome(e_of + i, n, 0.0f), factor);
      if (past_caches) {
        hn::Stream(weight, d, w + i);
      } else {
        StoreSome(weight, w + i, n);
      }
    });
  }
}

}  // namespace

void WeighRows(const ImportanceWeightsForward& args, int64_t begin, int64_t end) {
  const F32 d;
  HWY_ALIGN float buffer[kBuffer];
  const bool stream = PastCaches(args.rows, args.samples);
  if (args.samples <= kShortRow) {
    for (int64_t b = begin; b < end; b += kReducedRows) {
      WeighEight(args, b, std::min<int64_t>(kReducedRows, end - b), stream, buffer);
    }
    hwy::FlushStream();
    return;
  }
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
  const bool stream = PastCaches(args.rows, args.samples);
  const auto store = [&](VecF32 v, float* p, int64_t count) HWY_ATTR {
    if (stream) {
      hn::Stream(v, d, p);
    } else {
      StoreSome(v, p, count);
    }
  };
  for (int64_t b = begin; b < end; ++b) {
    const int64_t row = b * args.samples;
    const float* const w = args.weights + row;
    if (args.g_weights == nullptr) {
      const VecF32 g = hn::Set(d, args.g_log_mean[b]);
      ForVectors(args.samples, [&](int64_t i, int64_t count) HWY_ATTR {
        store(hn::Mul(g, LoadSome(w + i, count, 0.0f)), args.gradient + row + i, count);
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
      store(hn::Mul(LoadSome(w + i, count, 0.0f), hn::Sub(LoadSome(g + i, count, 0.0f), mean)), args.gradient + row + i,
            count);
    });
  }
  hwy::FlushStream();
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
