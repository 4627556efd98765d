// SPDX-License-Identifier: Apache-2.0
// Categorical distributions over a large vocabulary on the CPU.
//
// Algorithm  rows go in blocks, words in tiles of kWords. A tile of logits is a register-tiled product with
//            lanes over rows, so that a row's maximum and sum of exponentials stay in its lane. The backward
//            pass makes of it, in place, the tile of dlogit, and multiplies that with the tile's weights (for
//            dhidden) and with the block's hidden states (for dweight).
// Threads    forward, over chunks of words; backward, all on one tile at a time: while logits of tile t are
//            computed, shared out by rows, tile t - 1 is multiplied, shared out by columns of H. One barrier a tile.
// Arithmetic 2 B V H operations forward, 6 backward, and an exponential a logit in each.
// Traffic    weights are read once a block of rows, dweight is read and written likewise.
// Scratch    the block's hidden states twice, two tiles of dlogit; a panel of a tile a thread. No B x V.
// Order      fixed by the sizes alone, not by the threads: sums over words run in a tile, then over tiles, in
//            float; the normaliser's over chunks of tiles in double; sums over rows in a block, then over blocks.
#include "kernels/linear_categorical.hpp"

#include "host/cpu/bfloat16.hpp"
#include "host/cpu/parallel.hpp"
#include "host/cpu/tile_product.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/linear_categorical.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"
#include "host/cpu/tile_product-inl.hpp"

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {  // names of one file must not meet those of another: each target has one namespace

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::VecF32;

int64_t Panel() { return 2 * static_cast<int64_t>(hn::Lanes(F32())); }

void Multiply(const cpu::TileProduct& product) { cpu::HWY_NAMESPACE::RunTileProduct(product); }

float Dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, int64_t count) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VecF32 sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) sum = hn::MulAdd(hn::LoadU(d, a + i), hn::LoadU(d, b + i), sum);
  float result = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) result = std::fma(a[i], b[i], result);
  return result;
}

float Sum(const float* HWY_RESTRICT x, int64_t count) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  VecF32 sum = hn::Zero(d);
  int64_t i = 0;
  for (; i + lanes <= count; i += lanes) sum = hn::Add(sum, hn::LoadU(d, x + i));
  float result = hn::GetLane(hn::SumOfLanes(d, sum));
  for (; i < count; ++i) result += x[i];
  return result;
}

/// Takes logits (words, panel) without their bias into each row's running maximum and sum of exp(logit - max).
void UpdatePeaks(float* HWY_RESTRICT logits, int64_t words, const float* bias, float* HWY_RESTRICT max,
                 float* HWY_RESTRICT sum) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const int64_t panel = 2 * lanes;
  const VecF32 old0 = hn::Load(d, max);
  const VecF32 old1 = hn::Load(d, max + lanes);
  VecF32 max0 = old0;
  VecF32 max1 = old1;
  for (int64_t v = 0; v < words; ++v) {
    float* const s = logits + v * panel;
    VecF32 s0 = hn::Load(d, s);
    VecF32 s1 = hn::Load(d, s + lanes);
    if (bias != nullptr) {
      const VecF32 c = hn::Set(d, bias[v]);
      s0 = hn::Add(s0, c);
      s1 = hn::Add(s1, c);
      hn::Store(s0, d, s);
      hn::Store(s1, d, s + lanes);
    }
    max0 = hn::Max(max0, s0);
    max1 = hn::Max(max1, s1);
  }
  VecF32 sum0 = hn::Zero(d);
  VecF32 sum1 = hn::Zero(d);
  for (int64_t v = 0; v < words; ++v) {
    const float* const s = logits + v * panel;
    sum0 = hn::Add(sum0, ExpBelow88(d, hn::Sub(hn::Load(d, s), max0)));
    sum1 = hn::Add(sum1, ExpBelow88(d, hn::Sub(hn::Load(d, s + lanes), max1)));
  }
  hn::Store(hn::MulAdd(hn::Load(d, sum), ExpBelow88(d, hn::Sub(old0, max0)), sum0), d, sum);
  hn::Store(hn::MulAdd(hn::Load(d, sum + lanes), ExpBelow88(d, hn::Sub(old1, max1)), sum1), d, sum + lanes);
  hn::Store(max0, d, max);
  hn::Store(max1, d, max + lanes);
}

/// Logits (words, panel) without their bias, `stride` apart, to scale * exp(logit - log_normaliser).
void Probabilities(float* HWY_RESTRICT logits, int64_t stride, int64_t words, const float* bias,
                   const float* HWY_RESTRICT log_normaliser, const float* HWY_RESTRICT scale) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  const VecF32 z0 = hn::Load(d, log_normaliser);
  const VecF32 z1 = hn::Load(d, log_normaliser + lanes);
  const VecF32 scale0 = hn::Load(d, scale);
  const VecF32 scale1 = hn::Load(d, scale + lanes);
  for (int64_t v = 0; v < words; ++v) {
    float* const s = logits + v * stride;
    const VecF32 c = hn::Set(d, bias != nullptr ? bias[v] : 0.0f);
    const VecF32 p0 = ExpBelow88(d, hn::Sub(hn::Add(hn::Load(d, s), c), z0));
    const VecF32 p1 = ExpBelow88(d, hn::Sub(hn::Add(hn::Load(d, s + lanes), c), z1));
    hn::Store(hn::Mul(scale0, p0), d, s);
    hn::Store(hn::Mul(scale1, p1), d, s + lanes);
  }
}

}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(Panel);
HWY_EXPORT(Multiply);
HWY_EXPORT(Dot);
HWY_EXPORT(Sum);
HWY_EXPORT(UpdatePeaks);
HWY_EXPORT(Probabilities);

namespace {

constexpr int64_t kWords = 96;             // of a tile: a multiple of 12 and of 6, the rows of register tiles
constexpr int64_t kPart = 24;              // words that a thread computes logits of at a time
constexpr int64_t kColumnRows = 48;        // rows of dhidden or dweight that a thread computes at a time
constexpr int64_t kBlockFloats = 1 << 16;  // of a block's hidden states: 256 KiB
constexpr int64_t kMostBlockRows = 256;
constexpr int64_t kChunkTiles = 11;  // tiles of a chunk, at least
constexpr int64_t kMostChunks = 64;
constexpr int64_t kAlignment = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

/// Uninitialised floats, aligned for vectors.
class Scratch {
 public:
  explicit Scratch(int64_t floats)
      : data_(static_cast<float*>(::operator new (
            static_cast<std::size_t>(std::max<int64_t>(floats, 1)) * sizeof(float), std::align_val_t{kAlignment}))) {}
  ~Scratch() { ::operator delete (data_, std::align_val_t{kAlignment}); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  float* data_;
};

/// How the products are computed. Pairs of bfloat16 numbers take a float's place: the same strides serve both,
/// and sums have half the terms.
struct Form {
  bool pairs;
  int64_t panel;
  void (*multiply)(const cpu::TileProduct&);

  explicit Form(bool bfloat16) : pairs(bfloat16 && cpu::bfloat16::available()) {
    panel = HWY_DYNAMIC_DISPATCH(Panel)();
    multiply = HWY_DYNAMIC_DISPATCH(Multiply);
    // Fewer lanes than AVX-512's (a debugging aid of Highway's): no pairs.
    pairs = pairs && panel == cpu::bfloat16::kPanel;
    if (pairs) multiply = &cpu::bfloat16::run;
  }
  /// Terms of a sum over count numbers.
  int64_t terms(int64_t count) const { return pairs ? (count + 1) / 2 : count; }
  float dot(const float* a, const float* b, int64_t count) const {
    return pairs ? cpu::bfloat16::dot(a, b, count) : HWY_DYNAMIC_DISPATCH(Dot)(a, b, count);
  }
  float sum(const float* x, int64_t count) const {
    return pairs ? cpu::bfloat16::sum(reinterpret_cast<const uint32_t*>(x), terms(count))
                 : HWY_DYNAMIC_DISPATCH(Sum)(x, count);
  }
};

uint32_t* as_pairs(float* data) { return reinterpret_cast<uint32_t*>(data); }

/// A block of rows and their hidden states, as the products read them.
struct Block {
  int64_t first;
  int64_t rows;
  int64_t panels;
};

int64_t block_rows(const LinearCategorical& model, int64_t panel) {
  const int64_t fit = kBlockFloats / std::max<int64_t>(model.width, 1) / panel * panel;
  const int64_t most = round_up(kMostBlockRows, panel);
  return std::min(std::clamp(fit, panel, most), round_up(model.rows, panel));
}

/// Rows of panel p of a block, transposed: (terms of H, panel).
void pack_transposed(const LinearCategorical& model, const Form& form, const Block& block, int64_t p, float* to) {
  const int64_t panel = form.panel;
  const int64_t width = model.width;
  const int64_t first = block.first + p * panel;
  const int64_t rows = std::min(panel, block.rows - p * panel);
  const int64_t terms = form.terms(width);
  if (rows < panel) std::fill(to, to + terms * panel, 0.0f);
  if (form.pairs) {
    // A row's pairs, rounded a vector at a time, then spread.
    uint32_t pairs[64];
    for (int64_t l = 0; l < rows; ++l) {
      const float* const from = model.hidden + (first + l) * width;
      for (int64_t k = 0; k < width; k += 128) {
        const int64_t count = std::min<int64_t>(128, width - k);
        cpu::bfloat16::round_row(from + k, count, pairs);
        for (int64_t i = 0; i < (count + 1) / 2; ++i)
          std::memcpy(to + (k / 2 + i) * panel + l, &pairs[i], sizeof(float));
      }
    }
    return;
  }
  for (int64_t l = 0; l < rows; ++l) {
    const float* const from = model.hidden + (first + l) * width;
    for (int64_t k = 0; k < width; ++k) to[k * panel + l] = from[k];
  }
}

/// Columns of strip s of a matrix's rows: (terms of rows, panel).
void pack_strip(const float* from, int64_t rows, int64_t width, const Form& form, int64_t s, float* to) {
  const int64_t panel = form.panel;
  const int64_t columns = std::min(panel, width - s * panel);
  from += s * panel;
  const int64_t terms = form.terms(rows);
  if (columns < panel) std::fill(to, to + terms * panel, 0.0f);
  for (int64_t t = 0; t < terms; ++t, to += panel) {
    if (form.pairs) {
      const float* const row = from + 2 * t * width;
      cpu::bfloat16::round_pairs(row, 2 * t + 1 < rows ? row + width : nullptr, columns, as_pairs(to));
    } else {
      std::copy(from + t * width, from + t * width + columns, to);
    }
  }
}

/// The left factor of logits: the weights themselves, or pairs of them in `room`.
struct Weights {
  const float* data;
  int64_t stride;
};

Weights weights_of_tile(const LinearCategorical& model, const Form& form, int64_t first, int64_t words, float* room) {
  const float* const from = model.weight + first * model.width;
  if (!form.pairs) return {from, model.width};
  const int64_t terms = form.terms(model.width);
  for (int64_t v = 0; v < words; ++v) {
    cpu::bfloat16::round_row(from + v * model.width, model.width, as_pairs(room + v * terms));
  }
  return {room, terms};
}

int64_t weights_room(const LinearCategorical& model, const Form& form) {
  return form.pairs ? round_up(kWords * form.terms(model.width), 16) : 0;
}

const float* bias_of(const LinearCategorical& model, int64_t first) {
  return model.bias != nullptr ? model.bias + first : nullptr;
}

/// Row b's entries are begin(b) .. begin(b + 1) - 1.
int64_t begin_of(const LinearCategorical& model, int64_t b) { return model.offsets != nullptr ? model.offsets[b] : b; }

/// The row that an entry belongs to.
int64_t row_of(const LinearCategorical& model, int64_t e) {
  if (model.offsets == nullptr) return e;
  return std::upper_bound(model.offsets, model.offsets + model.rows + 1, e) - model.offsets - 1;
}

template <class Body>
void for_each_thread(int threads, const Body& body) {
  if (threads == 1) {
    body(0, 1);
    return;
  }
#pragma omp parallel num_threads(threads)
  body(omp_get_thread_num(), omp_get_num_threads());
}

/// Waits for the other threads of for_each_thread.
void wait_for_others(int count) {
  // A thread alone may be one of a team of the caller's.
  if (count == 1) return;
#pragma omp barrier
}

int threads_for(const LinearCategorical& model) {
  if (omp_in_parallel()) return 1;
  const int64_t work = model.rows * model.words * std::max<int64_t>(model.width, 1) / (1 << 18) + 1;
  return static_cast<int>(std::min<int64_t>(work, cpu_threads()));
}

// ---------------------------------------------------------------- forward

/// Partial sums of a chunk of words, for the rows of a block: max (rows), sum (rows).
struct Peaks {
  float* data;
  int64_t rows;
  float* max(int64_t chunk) const { return data + chunk * 2 * rows; }
  float* sum(int64_t chunk) const { return max(chunk) + rows; }
};

void peaks_of_chunk(const LinearCategorical& model, const Form& form, const Block& block, const float* transposed,
                    int64_t begin, int64_t end, float* room, float* max, float* sum) {
  const int64_t terms = form.terms(model.width);
  float* const logits = room;
  float* const rounded = room + kWords * form.panel;
  std::fill(max, max + block.panels * form.panel, std::numeric_limits<float>::lowest());
  std::fill(sum, sum + block.panels * form.panel, 0.0f);
  for (int64_t first = begin; first < end; first += kWords) {
    const int64_t words = std::min(kWords, end - first);
    const Weights weights = weights_of_tile(model, form, first, words, rounded);
    for (int64_t p = 0; p < block.panels; ++p) {
      form.multiply({weights.data, weights.stride, 1, transposed + p * terms * form.panel, words, terms, logits,
                     form.panel, form.panel, false});
      HWY_DYNAMIC_DISPATCH(UpdatePeaks)
      (logits, words, bias_of(model, first), max + p * form.panel, sum + p * form.panel);
    }
  }
}

float log_normaliser_of(const Peaks& peaks, int64_t chunks, int64_t row) {
  float max = std::numeric_limits<float>::lowest();
  for (int64_t c = 0; c < chunks; ++c) max = std::max(max, peaks.max(c)[row]);
  double sum = 0;
  for (int64_t c = 0; c < chunks; ++c) {
    const double scale = std::exp(static_cast<double>(peaks.max(c)[row]) - static_cast<double>(max));
    sum += static_cast<double>(peaks.sum(c)[row]) * scale;
  }
  return static_cast<float>(static_cast<double>(max) + std::log(sum));
}

}  // namespace

void run_cpu(const LinearCategoricalForward& args) {
  const LinearCategorical& model = args.model;
  const Form form(model.bfloat16);
  const int64_t terms = form.terms(model.width);
  const int64_t most_rows = block_rows(model, form.panel);
  const int64_t tiles = ceil_div(model.words, kWords);
  const int64_t chunk_words = std::max(kChunkTiles, ceil_div(tiles, kMostChunks)) * kWords;
  const int64_t chunks = ceil_div(model.words, chunk_words);
  const int threads = threads_for(model);

  const Scratch transposed(most_rows * terms);
  const Scratch partial(chunks * 2 * most_rows);
  const int64_t room_floats = round_up(kWords * form.panel + weights_room(model, form), 16);
  const Scratch rooms(threads * room_floats);

  for (int64_t first = 0; first < model.rows; first += most_rows) {
    const int64_t rows = std::min(most_rows, model.rows - first);
    const Block block = {first, rows, ceil_div(rows, form.panel)};
    const Peaks peaks = {partial.data(), block.panels * form.panel};
    int64_t next = 0;
    for_each_thread(threads, [&](int thread, int count) {
      for (int64_t p = thread; p < block.panels; p += count) {
        pack_transposed(model, form, block, p, transposed.data() + p * terms * form.panel);
      }
      wait_for_others(count);
      float* const room = rooms.data() + thread * room_floats;
      while (true) {
        int64_t chunk = 0;
#pragma omp atomic capture
        chunk = next++;
        if (chunk >= chunks) break;
        peaks_of_chunk(model, form, block, transposed.data(), chunk * chunk_words,
                       std::min(model.words, (chunk + 1) * chunk_words), room, peaks.max(chunk), peaks.sum(chunk));
      }
    });
    for (int64_t b = 0; b < rows; ++b) args.log_normaliser[first + b] = log_normaliser_of(peaks, chunks, b);
  }

  cpu::parallel_ranges(model.entries, (1 << 14) / (model.width + 1) + 1, [&](int64_t begin, int64_t end, int) {
    int64_t row = row_of(model, begin);
    for (int64_t e = begin; e < end; ++e) {
      while (begin_of(model, row + 1) <= e) ++row;
      const int64_t label = model.labels[e];
      if (label < 0 || label >= model.words) {
        args.y[e] = std::numeric_limits<float>::quiet_NaN();
        continue;
      }
      float logit = form.dot(model.hidden + row * model.width, model.weight + label * model.width, model.width);
      if (model.bias != nullptr) logit += model.bias[label];
      // -inf less -inf would be NaN; and rounding must not take a probability above 1.
      const float y =
          logit == -INFINITY && args.log_normaliser[row] == -INFINITY ? logit : logit - args.log_normaliser[row];
      args.y[e] = model.words == 1 && y > -INFINITY ? 0.0f : y > 0.0f ? 0.0f : y;
    }
  });
}

// ---------------------------------------------------------------- backward

namespace {

/// An entry's share of dlogit, within a tile of words and a block of rows.
struct Place {
  int32_t row;
  int32_t word;
  float g;
};

/// A tile of dlogit. As floats: (words, stride), lanes over rows. As pairs: along rows, (words, stride of half
/// the rows), for sums over rows; and along words, (words / 2, stride), for sums over words.
struct Tile {
  float* by_word;
  float* by_row;
};

class Backward {
 public:
  explicit Backward(const LinearCategoricalBackward& args)
      : args_(args),
        model_(args.model),
        form_(model_.bfloat16),
        most_rows_(block_rows(model_, form_.panel)),
        tiles_(ceil_div(model_.words, kWords)),
        strips_(ceil_div(model_.width, form_.panel)),
        // No power of two, which would share cache sets.
        word_stride_(form_.terms(most_rows_) + 16),
        row_stride_(most_rows_ + 16),
        threads_(threads_for(model_)),
        transposed_(most_rows_ * form_.terms(model_.width)),
        hidden_strips_(args.d_weight != nullptr ? strips_ * form_.panel * form_.terms(most_rows_) : 0),
        tile_floats_(kWords * word_stride_ + (form_.pairs ? kWords / 2 * row_stride_ : 0)),
        tile_memory_(2 * tile_floats_),
        room_floats_(kPart * form_.panel + round_up(std::max(weights_room(model_, form_), kWords * form_.panel), 16)),
        rooms_(threads_ * room_floats_),
        rows_(2 * most_rows_) {}

  void run() {
    if (args_.d_hidden != nullptr) {
      std::fill(args_.d_hidden, args_.d_hidden + model_.rows * model_.width, 0.0f);
    }
    for (int64_t first = 0; first < model_.rows; first += most_rows_) {
      block_ = {first, std::min(most_rows_, model_.rows - first), 0};
      block_.panels = ceil_div(block_.rows, form_.panel);
      prepare_rows();
      for_each_thread(threads_, [&](int thread, int count) { run_block(thread, count); });
    }
  }

 private:
  /// What each row's probabilities are measured by and multiplied with, and the block's entries by tile.
  void prepare_rows() {
    float* const log_normaliser = rows_.data();
    float* const scale = log_normaliser + most_rows_;
    places_of_tile_.assign(static_cast<std::size_t>(tiles_) + 1, 0);
    for (int64_t b = 0; b < block_.panels * form_.panel; ++b) {
      double sum = 0;
      const bool real = b < block_.rows;
      if (real) {
        for (int64_t e = begin_of(model_, block_.first + b); e < begin_of(model_, block_.first + b + 1); ++e) {
          if (!counts(e)) continue;
          sum += static_cast<double>(args_.g[e]);
          ++places_of_tile_[static_cast<std::size_t>(model_.labels[e] / kWords) + 1];
        }
      }
      const float z = real ? args_.log_normaliser[block_.first + b] : -INFINITY;
      // All words excluded, or no row: exp(-inf - inf) is 0.
      log_normaliser[b] = z == -INFINITY ? INFINITY : z;
      scale[b] = z == -INFINITY ? 0.0f : -static_cast<float>(sum);
    }
    for (std::size_t t = 1; t < places_of_tile_.size(); ++t) places_of_tile_[t] += places_of_tile_[t - 1];
    places_.resize(static_cast<std::size_t>(places_of_tile_.back()));
    next_.assign(places_of_tile_.begin(), places_of_tile_.end() - 1);
    for (int64_t b = 0; b < block_.rows; ++b) {
      for (int64_t e = begin_of(model_, block_.first + b); e < begin_of(model_, block_.first + b + 1); ++e) {
        if (!counts(e)) continue;
        const int32_t tile = static_cast<int32_t>(model_.labels[e] / kWords);
        places_[static_cast<std::size_t>(next_[static_cast<std::size_t>(tile)]++)] = {
            static_cast<int32_t>(b), static_cast<int32_t>(model_.labels[e] % kWords), args_.g[e]};
      }
    }
  }

  bool counts(int64_t e) const {
    return args_.y[e] != -INFINITY && model_.labels[e] >= 0 && model_.labels[e] < model_.words;
  }

  void run_block(int thread, int count) {
    float* const room = rooms_.data() + thread * room_floats_;
    const int64_t terms = form_.terms(model_.width);
    for (int64_t p = thread; p < block_.panels; p += count) {
      pack_transposed(model_, form_, block_, p, transposed_.data() + p * terms * form_.panel);
    }
    if (args_.d_weight != nullptr) {
      for (int64_t s = thread; s < strips_; s += count) {
        pack_strip(model_.hidden + block_.first * model_.width, block_.rows, model_.width, form_, s, hidden_strip(s));
      }
    }
    for (int64_t t = 0; t <= tiles_; ++t) {
      wait_for_others(count);
      if (t < tiles_) compute_tile(t, thread, count, room);
      if (t > 0) multiply_tile(t - 1, thread, count, room);
    }
  }

  int64_t words_of(int64_t t) const { return std::min(kWords, model_.words - t * kWords); }
  float* hidden_strip(int64_t s) const { return hidden_strips_.data() + s * form_.panel * form_.terms(most_rows_); }
  Tile tile(int64_t t) const {
    float* const data = tile_memory_.data() + t % 2 * tile_floats_;
    return {data, form_.pairs ? data + kWords * word_stride_ : data};
  }

  /// The thread's share of a tile of dlogit: parts of words of panels of rows.
  void compute_tile(int64_t t, int thread, int count, float* room) const {
    const int64_t words = words_of(t);
    const int64_t parts = ceil_div(words, kPart);
    const int64_t items = block_.panels * parts;
    const int64_t begin = items * thread / count;
    const int64_t end = items * (thread + 1) / count;
    if (begin == end) return;
    const int64_t terms = form_.terms(model_.width);
    float* const buffer = room;
    const Weights weights = weights_of_tile(model_, form_, t * kWords, words, room + kPart * form_.panel);
    for (int64_t item = begin; item < end; ++item) {
      const int64_t p = item / parts;
      const int64_t word = item % parts * kPart;
      const int64_t part_words = std::min(kPart, words - word);
      const int64_t at = p * form_.panel;
      float* const to = form_.pairs ? buffer : tile(t).by_word + word * word_stride_ + at;
      const int64_t stride = form_.pairs ? form_.panel : word_stride_;
      form_.multiply({weights.data + word * weights.stride, weights.stride, 1,
                      transposed_.data() + p * terms * form_.panel, part_words, terms, to, stride, form_.panel, false});
      HWY_DYNAMIC_DISPATCH(Probabilities)
      (to, stride, part_words, bias_of(model_, t * kWords + word), rows_.data() + at, rows_.data() + most_rows_ + at);
      for (int64_t i = places_of_tile_[static_cast<std::size_t>(t)];
           i < places_of_tile_[static_cast<std::size_t>(t) + 1]; ++i) {
        const Place& place = places_[static_cast<std::size_t>(i)];
        if (place.row < at || place.row >= at + form_.panel || place.word < word || place.word >= word + part_words) {
          continue;
        }
        to[(place.word - word) * stride + place.row - at] += place.g;
      }
      if (form_.pairs) round_part(t, p, word, part_words, buffer);
    }
  }

  void round_part(int64_t t, int64_t p, int64_t word, int64_t words, const float* part) const {
    const Tile to = tile(t);
    const int64_t panel = form_.panel;
    for (int64_t v = 0; v < words; ++v) {
      cpu::bfloat16::round_row(part + v * panel, panel,
                               as_pairs(to.by_word + (word + v) * word_stride_ + p * panel / 2));
    }
    for (int64_t v = 0; v < words; v += 2) {
      cpu::bfloat16::round_pairs(part + v * panel, v + 1 < words ? part + (v + 1) * panel : nullptr, panel,
                                 as_pairs(to.by_row + (word + v) / 2 * row_stride_ + p * panel));
    }
  }

  /// The thread's share of what a tile adds to the gradients.
  void multiply_tile(int64_t t, int thread, int count, float* room) const {
    const int64_t words = words_of(t);
    const Tile from = tile(t);
    if (args_.d_weight != nullptr) {
      const int64_t parts = ceil_div(words, kColumnRows);
      for_items(strips_ * parts, thread, count, [&](int64_t item) {
        const int64_t s = item / parts;
        const int64_t word = item % parts * kColumnRows;
        float* const to = args_.d_weight + (t * kWords + word) * model_.width + s * form_.panel;
        form_.multiply({from.by_word + word * word_stride_, word_stride_, 1, hidden_strip(s),
                        std::min(kColumnRows, words - word), form_.terms(block_.rows), to, model_.width, columns_of(s),
                        block_.first > 0});
      });
    }
    if (args_.d_hidden != nullptr) {
      const int64_t parts = ceil_div(block_.rows, kColumnRows);
      int64_t packed = -1;
      for_items(strips_ * parts, thread, count, [&](int64_t item) {
        const int64_t s = item / parts;
        const int64_t row = item % parts * kColumnRows;
        float* const strip = room + kPart * form_.panel;
        if (packed != s) pack_strip(model_.weight + t * kWords * model_.width, words, model_.width, form_, s, strip);
        packed = s;
        float* const to = args_.d_hidden + (block_.first + row) * model_.width + s * form_.panel;
        form_.multiply({from.by_row + row, 1, form_.pairs ? row_stride_ : word_stride_, strip,
                        std::min(kColumnRows, block_.rows - row), form_.terms(words), to, model_.width, columns_of(s),
                        true});
      });
    }
    if (args_.d_bias != nullptr) {
      for_items(words, thread, count, [&](int64_t v) {
        const float sum = form_.sum(from.by_word + v * word_stride_, block_.rows);
        float& to = args_.d_bias[t * kWords + v];
        to = block_.first > 0 ? to + sum : sum;
      });
    }
  }

  int64_t columns_of(int64_t s) const { return std::min(form_.panel, model_.width - s * form_.panel); }

  template <class Body>
  static void for_items(int64_t items, int thread, int count, const Body& body) {
    for (int64_t i = items * thread / count; i < items * (thread + 1) / count; ++i) body(i);
  }

  const LinearCategoricalBackward& args_;
  const LinearCategorical& model_;
  const Form form_;
  const int64_t most_rows_;
  const int64_t tiles_;
  const int64_t strips_;
  const int64_t word_stride_;
  const int64_t row_stride_;
  const int threads_;
  const Scratch transposed_;
  const Scratch hidden_strips_;
  const int64_t tile_floats_;
  const Scratch tile_memory_;
  const int64_t room_floats_;
  const Scratch rooms_;
  const Scratch rows_;  // log normaliser, then scale, of the block's rows
  Block block_ = {};
  std::vector<int64_t> places_of_tile_;
  std::vector<int64_t> next_;
  std::vector<Place> places_;
};

}  // namespace

void run_cpu(const LinearCategoricalBackward& args) { Backward(args).run(); }

}  // namespace dgm::kernels
#endif  // HWY_ONCE
