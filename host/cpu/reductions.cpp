// SPDX-License-Identifier: Apache-2.0
// Sums over an axis, in double. A chunk of rows (inner = 1) is summed with four vectors of partial
// sums; a chunk of columns (inner > 1) row by row into a tile of accumulators that stays in the
// first-level cache, narrow rows several at a time. Chunks go to threads; their sums are added in
// order. A row's maximum is looked for again to tell where it is. Traffic: 4 bytes an element read (8 with a
// factor); the gradient writes 4.
#include "kernels/reductions.hpp"

#include "host/cpu/parallel.hpp"

#include <algorithm>
#include <cmath>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/reductions.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {  // names of one file must not meet those of another: each target has one namespace

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::F32;
using F64 = hn::ScalableTag<double>;
using HalfF32 = hn::Rebind<float, F64>;

namespace {

constexpr int64_t kTile = 2048;  // columns whose accumulators are 16 KiB

// sum x[i] (* factor[i]).
template <bool kFactor>
double SumOf(const float* HWY_RESTRICT x, const float* HWY_RESTRICT factor, int64_t count) {
  constexpr int64_t kFew = 16;
  if (count <= kFew) {
    // Adding up a vector's lanes would cost more than the terms.
    double even = 0;
    double odd = 0;
    int64_t i = 0;
    for (; i + 1 < count; i += 2) {
      even += kFactor ? double{x[i]} * double{factor[i]} : double{x[i]};
      odd += kFactor ? double{x[i + 1]} * double{factor[i + 1]} : double{x[i + 1]};
    }
    if (i < count) even += kFactor ? double{x[i]} * double{factor[i]} : double{x[i]};
    return even + odd;
  }
  const F64 d;
  const HalfF32 df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto term = [&](int64_t i) HWY_ATTR {
    const auto v = hn::PromoteTo(d, hn::LoadU(df, x + i));
    if constexpr (kFactor) return hn::Mul(v, hn::PromoteTo(d, hn::LoadU(df, factor + i)));
    return v;
  };
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= count; i += 4 * lanes) {
    s0 = hn::Add(s0, term(i)), s1 = hn::Add(s1, term(i + lanes));
    s2 = hn::Add(s2, term(i + 2 * lanes)), s3 = hn::Add(s3, term(i + 3 * lanes));
  }
  for (; i + lanes <= count; i += lanes) s0 = hn::Add(s0, term(i));
  double sum = 0;
  if (count >= lanes) sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < count; ++i) sum += kFactor ? double{x[i]} * double{factor[i]} : double{x[i]};
  return sum;
}

// acc[i] += x[i] (* factor[i]) for i < width.
template <bool kFactor>
HWY_INLINE void AddRow(const float* HWY_RESTRICT x, const float* HWY_RESTRICT factor, int64_t width,
                       double* HWY_RESTRICT acc) {
  const F64 d;
  const HalfF32 df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    auto v = hn::PromoteTo(d, hn::LoadU(df, x + i));
    if constexpr (kFactor) v = hn::Mul(v, hn::PromoteTo(d, hn::LoadU(df, factor + i)));
    hn::Store(hn::Add(hn::Load(d, acc + i), v), d, acc + i);
  }
  for (; i < width; ++i) acc[i] += kFactor ? double{x[i]} * double{factor[i]} : double{x[i]};
}

// The same for four rows.
template <bool kFactor>
HWY_INLINE void Add4Rows(const float* HWY_RESTRICT x, const float* HWY_RESTRICT factor, int64_t stride, int64_t width,
                         double* HWY_RESTRICT acc) {
  const F64 d;
  const HalfF32 df;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto term = [&](int64_t at) HWY_ATTR {
    const auto v = hn::PromoteTo(d, hn::LoadU(df, x + at));
    if constexpr (kFactor) return hn::Mul(v, hn::PromoteTo(d, hn::LoadU(df, factor + at)));
    return v;
  };
  int64_t i = 0;
  for (; i + lanes <= width; i += lanes) {
    const auto v = hn::Add(hn::Add(term(i), term(i + stride)), hn::Add(term(i + 2 * stride), term(i + 3 * stride)));
    hn::Store(hn::Add(hn::Load(d, acc + i), v), d, acc + i);
  }
  for (; i < width; ++i) {
    for (int64_t at = i; at < i + 4 * stride; at += stride) {
      acc[i] += kFactor ? double{x[at]} * double{factor[at]} : double{x[at]};
    }
  }
}

// acc[i] = sum over rows of x[row * stride + i], i < width <= kTile.
template <bool kFactor>
void SumRows(const float* x, const float* factor, int64_t rows, int64_t width, int64_t stride, double* acc) {
  constexpr int64_t kWide = 64;
  std::fill(acc, acc + width, 0.0);
  int64_t row = 0;
  if (width == stride && width < kWide && rows > 1) {
    // Whole rows lie one after the other: take enough of them at once to fill vectors.
    const int64_t group = std::min(kWide / width * 2, rows);
    std::fill(acc + width, acc + group * width, 0.0);
    for (; row + group <= rows; row += group) {
      AddRow<kFactor>(x + row * width, kFactor ? factor + row * width : nullptr, group * width, acc);
    }
    for (int64_t j = 1; j < group; ++j) {
      for (int64_t i = 0; i < width; ++i) acc[i] += acc[j * width + i];
    }
  }
  // Four rows at once: four streams for the prefetcher, and a quarter of the traffic on the accumulators.
  for (; row + 4 <= rows; row += 4)
    Add4Rows<kFactor>(x + row * stride, kFactor ? factor + row * stride : nullptr, stride, width, acc);
  for (; row < rows; ++row) AddRow<kFactor>(x + row * stride, kFactor ? factor + row * stride : nullptr, width, acc);
}

template <bool kFactor>
void Tasks(const SumAxis& args, int64_t begin, int64_t end) {
  HWY_ALIGN double acc[kTile];
  const int64_t chunks = args.chunks();
  if (args.inner == 1 && chunks == 1) {
    // A task is a row, which may be too short for the divisions below.
    for (int64_t o = begin; o < end; ++o) {
      const int64_t at = o * args.count;
      const double sum = SumOf<kFactor>(args.x + at, kFactor ? args.factor + at : nullptr, args.count);
      args.y[o] = static_cast<float>(args.scale * sum);
    }
    return;
  }
  const int64_t tiles = (args.inner + kTile - 1) / kTile;
  for (int64_t task = begin; task < end; ++task) {
    const int64_t tile = task % tiles;
    const int64_t chunk = task / tiles % chunks;
    const int64_t o = task / tiles / chunks;
    const int64_t first = SumAxis::chunk_begin(chunk, chunks, args.count);
    const int64_t last = SumAxis::chunk_begin(chunk + 1, chunks, args.count);
    const int64_t column = tile * kTile;
    const int64_t width = std::min(kTile, args.inner - column);
    const int64_t at = (o * args.count + first) * args.inner + column;
    const float* const factor = kFactor ? args.factor + at : nullptr;
    if (args.inner == 1) {
      acc[0] = SumOf<kFactor>(args.x + at, factor, last - first);
    } else {
      SumRows<kFactor>(args.x + at, factor, last - first, width, args.inner, acc);
    }
    if (chunks == 1) {
      float* const y = args.y + o * args.inner + column;
      for (int64_t i = 0; i < width; ++i) y[i] = static_cast<float>(args.scale * acc[i]);
    } else {
      std::copy(acc, acc + width, args.partial + (o * chunks + chunk) * args.inner + column);
    }
  }
}

}  // namespace

void SumTasks(const SumAxis& args, int64_t begin, int64_t end) {
  if (args.factor != nullptr) {
    Tasks<true>(args, begin, end);
  } else {
    Tasks<false>(args, begin, end);
  }
}

void Maxima(const RowMax& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = begin; r < end; ++r) {
    const float* const x = args.x + r * args.cols;
    float max = -INFINITY;
    bool nan = false;
    int64_t c = 0;
    if (args.cols >= lanes) {
      auto most = hn::Set(d, -INFINITY);
      auto odd = hn::IsNaN(most);
      for (; c + lanes <= args.cols; c += lanes) {
        const auto v = hn::LoadU(d, x + c);
        most = hn::IfThenElse(hn::Gt(v, most), v, most);
        odd = hn::Or(odd, hn::IsNaN(v));
      }
      max = hn::GetLane(hn::MaxOfLanes(d, most));
      nan = !hn::AllFalse(d, odd);
    }
    for (; c < args.cols; ++c) {
      if (x[c] > max) max = x[c];
      nan = nan || x[c] != x[c];
    }
    const float* const at =
        nan ? std::find_if(x, x + args.cols, [](float v) { return v != v; }) : std::find(x, x + args.cols, max);
    args.y[r] = *at;
    args.index[r] = static_cast<int32_t>(at - x);
  }
}

void Spread(const SpreadAxis& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto scale = hn::Set(d, args.scale);
  // A task is one entry of the summed axis; with inner = 1 it is one element, so whole rows are filled.
  if (args.inner == 1) {
    for (int64_t at = begin; at < end;) {
      const int64_t o = at / args.count;
      const int64_t stop = std::min(end, (o + 1) * args.count);
      std::fill(args.dx + at, args.dx + stop, args.scale * args.g[o]);
      at = stop;
    }
    return;
  }
  for (int64_t at = begin; at < end; ++at) {
    const float* const g = args.g + at / args.count * args.inner;
    float* const dx = args.dx + at * args.inner;
    int64_t i = 0;
    for (; i + lanes <= args.inner; i += lanes) hn::StoreU(hn::Mul(scale, hn::LoadU(d, g + i)), d, dx + i);
    for (; i < args.inner; ++i) dx[i] = args.scale * g[i];
  }
}

}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Maxima);
HWY_EXPORT(SumTasks);
HWY_EXPORT(Spread);

namespace {
constexpr int64_t kGrain = 1 << 15;  // elements
}

void run_cpu(const SumAxis& args) {
  constexpr int64_t kTileColumns = 2048;
  const int64_t chunks = args.chunks();
  const int64_t tasks = args.outer * chunks * ((args.inner + kTileColumns - 1) / kTileColumns);
  if (tasks == 0) return;
  const int64_t elements = args.count * args.outer * args.inner / tasks + 1;
  const auto sum_tasks = HWY_DYNAMIC_DISPATCH(SumTasks);
  cpu::parallel_ranges(tasks, std::max<int64_t>(1, kGrain / elements),
                       [&](int64_t begin, int64_t end, int) { sum_tasks(args, begin, end); });
  if (chunks == 1) return;
  cpu::parallel_ranges(args.outer * args.inner, kGrain / chunks + 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t at = begin; at < end; ++at) {
      const double* const partial = args.partial + at / args.inner * chunks * args.inner + at % args.inner;
      double sum = 0;
      for (int64_t c = 0; c < chunks; ++c) sum += partial[c * args.inner];
      args.y[at] = static_cast<float>(args.scale * sum);
    }
  });
}

void run_cpu(const RowMax& args) {
  const auto maxima = HWY_DYNAMIC_DISPATCH(Maxima);
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrain / args.cols),
                       [&](int64_t begin, int64_t end, int) { maxima(args, begin, end); });
}

void run_cpu(const SpreadAxis& args) {
  const auto spread = HWY_DYNAMIC_DISPATCH(Spread);
  cpu::parallel_ranges(args.outer * args.count, std::max<int64_t>(1, kGrain / std::max<int64_t>(args.inner, 1)),
                       [&](int64_t begin, int64_t end, int) { spread(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
