// SPDX-License-Identifier: Apache-2.0
// Broadcast operands are walked row by row of the result, a row being its last axis after axes that
// can be one have been made one; an operand either runs along a row or stays. A narrow row that
// repeats for every other (a bias of 3) is first written out several times.
#include "kernels/elementwise.hpp"

#include "host/cpu/parallel.hpp"

#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/elementwise.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"
#include "kernels/math/elementwise-inl.hpp"
// after the functions
#include "host/cpu/map-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

void Values(const Map<Unary>& args, int64_t begin, int64_t end) { MapRange(args, begin, end); }
void Gradients(const MapGradient<Unary>& args, int64_t begin, int64_t end) { MapGradientRange(args, begin, end); }

constexpr int64_t kNarrowRow = 32;
constexpr int64_t kColumnBlock = 1024;

template <class F>
void BinaryRange(const MapBinary& args, int64_t begin, int64_t end) {
  const int last = args.axes - 1;
  const int64_t width = args.extents[last];
  const bool a_runs = args.a_strides[last] != 0;
  const bool b_runs = args.b_strides[last] != 0;
  const bool past_caches = args.size > kCachedElements;
  if (args.axes == 2 && width <= kNarrowRow && begin % width == 0 && end % width == 0 &&
      ((a_runs && args.a_strides[0] == width && !b_runs) || (b_runs && args.b_strides[0] == width && !a_runs))) {
    // One number for each narrow row: written out for some rows at a time.
    HWY_ALIGN float column[kColumnBlock];
    const float* const numbers = a_runs ? args.b : args.a;
    const int64_t number_stride = a_runs ? args.b_strides[0] : args.a_strides[0];
    const int64_t rows = kColumnBlock / width;
    for (int64_t row = begin / width; row * width < end; row += rows) {
      const int64_t count = std::min(rows * width, end - row * width);
      for (int64_t i = 0; i * width < count; ++i) {
        const float number = numbers[(row + i) * number_stride];
        for (int64_t c = 0; c < width; ++c) column[i * width + c] = number;
      }
      const float* const full = (a_runs ? args.a : args.b) + row * width;
      ForEach(0, count, past_caches, args.y + row * width, [&](const auto& load) HWY_ATTR {
        return a_runs ? F::template value<Lanes>(load(full), load(column))
                      : F::template value<Lanes>(load(column), load(full));
      });
    }
    hwy::FlushStream();
    return;
  }
  // Where row begin / width is.
  int64_t at[MapBinary::kMostAxes] = {};
  int64_t rest = begin / width;
  for (int axis = last - 1; axis >= 0; --axis) {
    at[axis] = rest % args.extents[axis];
    rest /= args.extents[axis];
  }
  for (int64_t row = begin / width; row * width < end; ++row) {
    const float* a = args.a;
    const float* b = args.b;
    for (int axis = 0; axis < last; ++axis) {
      a += at[axis] * args.a_strides[axis];
      b += at[axis] * args.b_strides[axis];
    }
    const int64_t first = std::max<int64_t>(begin - row * width, 0);
    const int64_t stop = std::min(end - row * width, width);
    float* const y = args.y + row * width;
    if (a_runs && b_runs) {
      ForEach(first, stop, past_caches, y,
              [&](const auto& load) HWY_ATTR { return F::template value<Lanes>(load(a), load(b)); });
    } else if (a_runs) {
      const Lanes::V fixed = Lanes::set(*b);
      ForEach(first, stop, past_caches, y,
              [&](const auto& load) HWY_ATTR { return F::template value<Lanes>(load(a), fixed); });
    } else if (b_runs) {
      const Lanes::V fixed = Lanes::set(*a);
      ForEach(first, stop, past_caches, y,
              [&](const auto& load) HWY_ATTR { return F::template value<Lanes>(fixed, load(b)); });
    } else {
      const Lanes::V fixed = F::template value<Lanes>(Lanes::set(*a), Lanes::set(*b));
      ForEach(first, stop, past_caches, y, [&](const auto&) HWY_ATTR { return fixed; });
    }
    for (int axis = last - 1; axis >= 0 && ++at[axis] == args.extents[axis]; --axis) at[axis] = 0;
  }
  hwy::FlushStream();
}

void Binaries(const MapBinary& args, int64_t begin, int64_t end) {
  visit(args.function, [&](auto function) HWY_ATTR { BinaryRange<decltype(function)>(args, begin, end); });
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Values);
HWY_EXPORT(Gradients);
HWY_EXPORT(Binaries);

namespace {

constexpr int64_t kGrain = 1 << 15;
constexpr int64_t kMultiple = 16;  // ranges begin at cache lines

void run_range(const MapBinary& args) {
  const auto binaries = HWY_DYNAMIC_DISPATCH(Binaries);
  // Narrow rows are kept whole.
  const int64_t width = args.extents[args.axes - 1];
  cpu::parallel_ranges(args.size, kGrain, width <= 32 ? width * kMultiple : kMultiple,
                       [&](int64_t begin, int64_t end, int) { binaries(args, begin, end); });
}

}  // namespace

void run_cpu(const Map<Unary>& args) {
  const auto values = HWY_DYNAMIC_DISPATCH(Values);
  cpu::parallel_ranges(args.size, kGrain, kMultiple,
                       [&](int64_t begin, int64_t end, int) { values(args, begin, end); });
}

void run_cpu(const MapGradient<Unary>& args) {
  const auto gradients = HWY_DYNAMIC_DISPATCH(Gradients);
  cpu::parallel_ranges(args.size, kGrain, kMultiple,
                       [&](int64_t begin, int64_t end, int) { gradients(args, begin, end); });
}

void run_cpu(const MapBinary& args) {
  constexpr int64_t kNarrow = 256;
  constexpr int64_t kWide = 1024;
  if (args.size == 0) return;
  const int64_t width = args.axes == 2 ? args.extents[1] : 0;
  const bool a_repeats = args.a_strides[0] == 0;
  if (args.axes != 2 || width >= kNarrow || args.extents[0] * width < 4 * kWide ||
      a_repeats == (args.b_strides[0] == 0) || args.a_strides[1] == 0 || args.b_strides[1] == 0) {
    run_range(args);
    return;
  }
  const int64_t times = kWide / width;
  const float* const row = a_repeats ? args.a : args.b;
  std::vector<float> rows;
  rows.reserve(static_cast<std::size_t>(times * width));
  for (int64_t i = 0; i < times; ++i) rows.insert(rows.end(), row, row + width);
  MapBinary wide = args;
  (a_repeats ? wide.a : wide.b) = rows.data();
  wide.extents[0] = args.extents[0] / times;
  wide.extents[1] = times * width;
  wide.size = wide.extents[0] * wide.extents[1];
  (a_repeats ? wide.b_strides : wide.a_strides)[0] = times * width;
  run_range(wide);
  MapBinary left = args;
  left.extents[0] = args.extents[0] % times;
  left.size = left.extents[0] * width;
  left.y += wide.size;
  (a_repeats ? left.b : left.a) += wide.size;
  run_range(left);
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
