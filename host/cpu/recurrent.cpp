// SPDX-License-Identifier: Apache-2.0
// Sequences do not depend on each other: a task takes a block of ranks through all steps, so that there is nothing to
// wait for between steps and the block's products and states stay in its cache. The weight is laid out once, in the
// panels that the register tiles of tile_product-inl.hpp read. Blocks are cut by the batch and the threads; a row's
// sums do not depend on the block that it is in.
#include "kernels/recurrent.hpp"

#include "host/cpu/parallel.hpp"
#include "host/cpu/tasks.hpp"

#include <hwy/aligned_allocator.h>

#include <algorithm>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/recurrent.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"
#include "host/cpu/tile_product-inl.hpp"
#include "kernels/math/recurrent-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using V = Lanes::V;

int64_t PanelWidth() { return 2 * static_cast<int64_t>(hn::Lanes(Lanes::D())); }

// Panel `panel` of a (terms, columns) matrix whose entry (k, j) is at from[k * term + j * column].
void Pack(const float* HWY_RESTRICT from, int64_t terms, int64_t columns, int64_t term, int64_t column, int64_t panel,
          float* HWY_RESTRICT packed) {
  const int64_t width = PanelWidth();
  const int64_t count = std::min(width, columns - panel * width);
  float* to = packed + panel * terms * width;
  for (int64_t k = 0; k < terms; ++k, to += width) {
    const float* const row = from + k * term + panel * width * column;
    for (int64_t j = 0; j < count; ++j) to[j] = row[j * column];
    std::fill(to + count, to + width, 0.0f);
  }
}

// c (rows, columns) (+)= a (rows, terms) times the packed matrix.
void Product(const float* a, int64_t terms, const float* packed, int64_t rows, int64_t columns, float* c, bool add) {
  const int64_t width = PanelWidth();
  for (int64_t first = 0; first < columns; first += width) {
    cpu::HWY_NAMESPACE::RunTileProduct(
        {a, terms, 1, packed + first * terms, rows, terms, c + first, columns, std::min(width, columns - first), add});
  }
}

// body(at) for vectors at j = 0, lanes, ... of n elements; at.load(p) and at.store(v, p) are of p[j], ...
struct Whole {
  int64_t j;
  HWY_INLINE V load(const float* p) const { return hn::LoadU(Lanes::D(), p + j); }
  HWY_INLINE void store(V v, float* p) const { hn::StoreU(v, Lanes::D(), p + j); }
};
struct Rest {
  int64_t j;
  std::size_t count;
  HWY_INLINE V load(const float* p) const {
    return cpu::HWY_NAMESPACE::LoadFirst(Lanes::D(), p + j, count, Lanes::set(0.0f));
  }
  HWY_INLINE void store(V v, float* p) const { cpu::HWY_NAMESPACE::StoreFirst(Lanes::D(), v, p + j, count); }
};
template <class Body>
HWY_INLINE void ForLanes(int64_t n, const Body& body) {
  const auto lanes = static_cast<int64_t>(hn::Lanes(Lanes::D()));
  int64_t j = 0;
  for (; j + lanes <= n; j += lanes) body(Whole{j});
  if (j < n) body(Rest{j, static_cast<std::size_t>(n - j)});
}

// What goes into the parts of a row but the product: at most three rows to be added.
struct InputRow {
  const float* input;    // null: none
  const float* context;  // null: none
  const float* product;  // null: none

  template <class At>
  HWY_INLINE V operator()(const At& at, int64_t offset) const {
    V sum = Lanes::set(0.0f);
    if (context != nullptr) sum = at.load(context + offset);
    if (input != nullptr) sum = sum + at.load(input + offset);
    if (product != nullptr) sum = sum + at.load(product + offset);
    return sum;
  }
};

// Ranks first..last-1 through all steps; products (last - first, parts * hidden) is scratch.
void Forward(const Recurrence& args, const float* packed, int64_t first, int64_t last, float* products) {
  const int64_t H = args.hidden;
  const int64_t width = parts_of(args.cell) * H;
  for (int64_t t = 0; t < args.steps; ++t) {
    const int64_t begin = args.step_begin[t];
    const int64_t count = std::min(last, args.step_begin[t + 1] - begin) - first;
    if (count <= 0) return;
    const float* before = args.h0 != nullptr ? args.h0 + first * H : nullptr;
    if (t > 0) before = args.h + (args.step_begin[t - 1] + first) * H;
    if (before != nullptr) Product(before, H, packed, count, width, products, false);
    for (int64_t r = 0; r < count; ++r) {
      const int64_t rank = first + r;
      const int64_t row = begin + rank;
      const int64_t from = args.rows != nullptr ? args.rows[row] : row;
      const InputRow input = {from >= 0 && from < args.inputs ? args.input + from * width : nullptr,
                              args.context != nullptr ? args.context + rank * width : nullptr,
                              args.cell == Cell::lstm && before != nullptr ? products + r * width : nullptr};
      float* const h = args.h + row * H;
      float* const gates = args.gates != nullptr ? args.gates + row * 4 * H : nullptr;
      if (args.cell == Cell::lstm) {
        float* const state = args.c + rank * H;
        float* const cells = args.cells != nullptr ? args.cells + row * H : nullptr;
        ForLanes(H, [&](const auto& at) HWY_ATTR {
          V i = input(at, 0);
          V f = input(at, H);
          V g = input(at, 2 * H);
          V o = input(at, 3 * H);
          V c = at.load(state);
          at.store(lstm_step<Lanes>(i, f, g, o, c), h);
          at.store(c, state);
          if (gates == nullptr) return;
          at.store(i, gates);
          at.store(f, gates + H);
          at.store(g, gates + 2 * H);
          at.store(o, gates + 3 * H);
          at.store(c, cells);
        });
      } else {
        const float* const product = before != nullptr ? products + r * width : nullptr;
        const float* const h_before = before != nullptr ? before + r * H : nullptr;
        ForLanes(H, [&](const auto& at) HWY_ATTR {
          V p[3];
          for (int part = 0; part < 3; ++part) {
            p[part] = at.load(args.bias + part * H);
            if (product != nullptr) p[part] = p[part] + at.load(product + part * H);
          }
          V z_r = input(at, 0) + p[0];
          V z = input(at, H) + p[1];
          V n = input(at, 2 * H);
          const V last_h = h_before != nullptr ? at.load(h_before) : Lanes::set(0.0f);
          at.store(gru_step<Lanes>(z_r, z, n, p[2], last_h), h);
          if (gates == nullptr) return;
          at.store(z_r, gates);
          at.store(z, gates + H);
          at.store(n, gates + 2 * H);
          at.store(p[2], gates + 3 * H);
        });
      }
    }
  }
}

void Backward(const RecurrenceGradient& args, const float* packed, int64_t first, int64_t last) {
  const int64_t H = args.hidden;
  const int64_t width = parts_of(args.cell) * H;
  for (int64_t t = args.steps - 1; t >= 0; --t) {
    const int64_t begin = args.step_begin[t];
    const int64_t count = std::min(last, args.step_begin[t + 1] - begin) - first;
    if (count <= 0) continue;
    const int64_t before = t > 0 ? args.step_begin[t - 1] : 0;
    // The states of the step before by rank; null: zeros.
    const float* const states = t > 0 ? args.h + before * H : args.h0;
    for (int64_t r = 0; r < count; ++r) {
      const int64_t rank = first + r;
      const int64_t row = begin + rank;
      const float* const gates = args.gates + row * 4 * H;
      const float* const g = args.g + row * H;
      float* const d_h = args.d_h + rank * H;
      float* const d_input = args.d_input + row * width;
      float* const previous = args.previous + row * H;
      const auto before_of = [&](const float* of, const auto& at)
                                 HWY_ATTR { return of != nullptr ? at.load(of + rank * H) : Lanes::set(0.0f); };
      if (args.cell == Cell::lstm) {
        const float* const cells = args.cells + row * H;
        const float* const cells_before = t > 0 ? args.cells + before * H : args.c0;
        float* const d_c = args.d_c + rank * H;
        ForLanes(H, [&](const auto& at) HWY_ATTR {
          V i = at.load(gates);
          V f = at.load(gates + H);
          V c_in = at.load(gates + 2 * H);
          V o = at.load(gates + 3 * H);
          V dc = at.load(d_c);
          lstm_step_gradient<Lanes>(i, f, c_in, o, before_of(cells_before, at), at.load(cells),
                                    at.load(g) + at.load(d_h), dc);
          at.store(dc, d_c);
          at.store(i, d_input);
          at.store(f, d_input + H);
          at.store(c_in, d_input + 2 * H);
          at.store(o, d_input + 3 * H);
          at.store(before_of(states, at), previous);
        });
      } else {
        float* const d_product = args.d_product + row * width;
        ForLanes(H, [&](const auto& at) HWY_ATTR {
          V z_r = at.load(gates);
          V z = at.load(gates + H);
          V n = at.load(gates + 2 * H);
          V p = at.load(gates + 3 * H);
          const V h_before = before_of(states, at);
          at.store(gru_step_gradient<Lanes>(z_r, z, n, p, h_before, at.load(g) + at.load(d_h)), d_h);
          at.store(z_r, d_input);
          at.store(z, d_input + H);
          at.store(n, d_input + 2 * H);
          at.store(z_r, d_product);
          at.store(z, d_product + H);
          at.store(p, d_product + 2 * H);
          at.store(h_before, previous);
        });
      }
    }
    const bool lstm = args.cell == Cell::lstm;
    Product((lstm ? args.d_input : args.d_product) + (begin + first) * width, width, packed, count, H,
            args.d_h + first * H, !lstm);
  }
}

}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(PanelWidth);
HWY_EXPORT(Pack);
HWY_EXPORT(Forward);
HWY_EXPORT(Backward);

namespace {

using Floats = hwy::AlignedFreeUniquePtr<float[]>;

// A (terms, columns) matrix in panels.
Floats packed(const float* from, int64_t terms, int64_t columns, int64_t term, int64_t column) {
  const int64_t width = HWY_DYNAMIC_DISPATCH(PanelWidth)();
  const int64_t panels = (columns + width - 1) / width;
  auto to = hwy::AllocateAligned<float>(static_cast<std::size_t>(panels * terms * width));
  const auto pack = HWY_DYNAMIC_DISPATCH(Pack);
  constexpr int64_t kGrain = 1 << 15;
  cpu::parallel_ranges(panels, kGrain / (terms * width) + 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t panel = begin; panel < end; ++panel) pack(from, terms, columns, term, column, panel, to.get());
  });
  return to;
}

// body(first, last) for blocks of ranks: small enough that what a block works on stays in cache, and no fewer than
// there are threads. A multiple of the register tiles' rows where that is possible.
template <class Body>
void for_each_block(int64_t batch, int64_t width, const Body& body) {
  constexpr int64_t kTileRows = 12;
  constexpr int64_t kCachedFloats = 1 << 15;
  const int64_t cached = std::max<int64_t>(1, kCachedFloats / width / kTileRows) * kTileRows;
  const int64_t share = (batch + cpu_threads() - 1) / cpu_threads();
  const int64_t block = std::min(cached, share);
  const int64_t blocks = (batch + block - 1) / block;
  cpu::parallel_tasks(blocks, [&](int64_t task, int) { body(batch * task / blocks, batch * (task + 1) / blocks); });
}

}  // namespace

void run_cpu(const Recurrence& args) {
  const int64_t width = parts_of(args.cell) * args.hidden;
  const Floats weight = packed(args.weight, args.hidden, width, 1, args.hidden);
  const auto forward = HWY_DYNAMIC_DISPATCH(Forward);
  for_each_block(args.batch, width, [&](int64_t first, int64_t last) {
    const auto products = hwy::AllocateAligned<float>(static_cast<std::size_t>((last - first) * width));
    forward(args, weight.get(), first, last, products.get());
  });
}

void run_cpu(const RecurrenceGradient& args) {
  const int64_t width = parts_of(args.cell) * args.hidden;
  const Floats weight = packed(args.weight, width, args.hidden, args.hidden, 1);
  const auto backward = HWY_DYNAMIC_DISPATCH(Backward);
  for_each_block(args.batch, width, [&](int64_t first, int64_t last) { backward(args, weight.get(), first, last); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
