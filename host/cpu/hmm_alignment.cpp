// SPDX-License-Identifier: Apache-2.0
// First-order alignment. Pairs are split over threads; states lie along vectors, so that a step of the recursions is a
// small matrix times a vector, and the expected jumps of a pair are one product of two small matrices. Per step and
// pair of states: 3 FMA, and no memory but the nearest cache. Counts are whole numbers: equal bits for any number
// of threads.
#include "kernels/hmm_alignment.hpp"

#include "host/cpu/parallel.hpp"
#include "host/cpu/tasks.hpp"
#include "kernels/math/hmm.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/hmm_alignment.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/simd-inl.hpp"

#include <hwy/aligned_allocator.h>

#ifndef DGM_HOST_CPU_HMM_ALIGNMENT_SCRATCH
#define DGM_HOST_CPU_HMM_ALIGNMENT_SCRATCH
namespace dgm::kernels {
namespace {

// Of one thread, kept from pair to pair.
struct HmmScratch {
  hwy::AlignedFreeUniquePtr<float[]> memory;
  std::size_t size = 0;
  std::vector<double> doubles;
  std::vector<int64_t> own_counts;
  int64_t* counts = nullptr;

  float* floats(std::size_t count) {
    if (size < count) {
      memory = hwy::AllocateAligned<float>(count);
      size = count;
    }
    return memory.get();
  }
};

int64_t fixed_point(double value) { return static_cast<int64_t>(std::llrint(value)); }

}  // namespace
}  // namespace dgm::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::F32;
using cpu::HWY_NAMESPACE::VecF32;

// out[v..] = sum_o x[o] * matrix[o, v..] for one vector of columns.
HWY_INLINE VecF32 Combine(const float* HWY_RESTRICT matrix, const float* HWY_RESTRICT x, int count, int64_t stride) {
  const F32 d;
  VecF32 a = hn::Zero(d);
  VecF32 b = a;
  VecF32 c = a;
  VecF32 e = a;
  int o = 0;
  for (; o + 4 <= count; o += 4, matrix += 4 * stride) {
    a = hn::MulAdd(hn::Set(d, x[o]), hn::Load(d, matrix), a);
    b = hn::MulAdd(hn::Set(d, x[o + 1]), hn::Load(d, matrix + stride), b);
    c = hn::MulAdd(hn::Set(d, x[o + 2]), hn::Load(d, matrix + 2 * stride), c);
    e = hn::MulAdd(hn::Set(d, x[o + 3]), hn::Load(d, matrix + 3 * stride), e);
  }
  for (; o < count; ++o, matrix += stride) a = hn::MulAdd(hn::Set(d, x[o]), hn::Load(d, matrix), a);
  return hn::Add(hn::Add(a, b), hn::Add(c, e));
}

class Pass {
 public:
  Pass(const HmmPass& args, HmmScratch& scratch, double scale) : a_(args), scratch_(scratch), scale_(scale) {}

  void operator()(int64_t p) const {
    const HmmPair pair(a_, p);
    if (pair.states == 0 || pair.steps == 0) {
      if (a_.log_marginal != nullptr) a_.log_marginal[p] = 0;
      if (a_.null_posterior != nullptr) std::fill_n(a_.null_posterior + pair.first_step, pair.steps, 0.0f);
      return;
    }
    if (!scaled(p, pair)) in_logs(p, pair);
  }

 private:
  // False if sums in the range of floats cannot be trusted; then nothing has been written.
  bool scaled(int64_t p, const HmmPair& pair) const {
    const F32 d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    const int S = pair.states;
    const int T = pair.steps;
    const int origins = S + 1;
    const int64_t w = (origins + lanes - 1) / lanes * lanes;  // a row: states, the beginning, zeros

    float* const move = scratch_.floats(static_cast<std::size_t>((3 * origins + 4 * (T + 1) + 8) * w + 2 * T));
    float* const back = move + origins * w;            // its transpose
    float* const emission = back + origins * w;        // (T, w), later emission times beta
    float* const alpha = emission + T * w;             // (T + 1, w)
    float* const real = alpha + (T + 1) * w;           // (T, w), what came from words
    float* const null = real + T * w;                  // (w) factor of a move to NULL
    float* const stop = null + w;                      // (w)
    float* const go = stop + w;                        // (w)
    float* const beta = go + w;                        // (w)
    float* const nulls = beta + w;                     // (w) expected moves to NULL
    float* const ended = nulls + w;                    // (w)
    float* const jumps = ended + w;                    // (origins, w) expected jumps
    float* const null_emission = jumps + origins * w;  // (T)
    float* const sums = null_emission + T;             // (T)

    double log_total = load_emissions(pair, w, emission, null_emission);
    if (!load_moves(pair, w, move, null, stop, go)) return false;
    for (int i = 0; i < S; ++i) {
      float* const row = back + i * w;
      for (int o = 0; o < origins; ++o) row[o] = move[o * w + i];
      std::fill(row + origins, row + w, 0.0f);
    }

    std::fill_n(alpha, w, 0.0f);
    alpha[S] = 1;
    float smallest = 1;
    for (int t = 0; t < T; ++t) {
      const float* const before = alpha + t * w;
      float* const after = alpha + (t + 1) * w;
      const VecF32 ne = hn::Set(d, null_emission[t]);
      VecF32 sum = hn::Zero(d);
      for (int64_t v = 0; v < w; v += lanes) {
        const VecF32 r = hn::Mul(Combine(move + v, before, origins, w), hn::Load(d, emission + t * w + v));
        const VecF32 n = hn::Mul(hn::Mul(hn::Load(d, null + v), hn::Load(d, before + v)), ne);
        hn::Store(r, d, real + t * w + v);
        const VecF32 both = hn::Add(r, n);
        hn::Store(both, d, after + v);
        sum = hn::Add(sum, both);
      }
      const float c = hn::GetLane(hn::SumOfLanes(d, sum));
      if (!(c > 0 && c < INFINITY)) return false;
      sums[t] = 1 / c;
      smallest = std::min(smallest, c);
      log_total += std::log(static_cast<double>(c));
      const VecF32 inverse = hn::Set(d, sums[t]);
      for (int64_t v = 0; v < w; v += lanes) {
        hn::Store(hn::Mul(hn::Load(d, after + v), inverse), d, after + v);
        hn::Store(hn::Mul(hn::Load(d, real + t * w + v), inverse), d, real + t * w + v);
      }
    }
    float last = 0;
    for (int o = 0; o < origins; ++o) last += ended[o] = alpha[T * w + o] * stop[o];
    if (!(last > 0)) return false;
    log_total += std::log(static_cast<double>(last));
    for (int o = 0; o < w; ++o) {
      beta[o] = o < origins ? stop[o] / last : 0;
      ended[o] = o < origins ? ended[o] / last : 0;
      nulls[o] = 0;
    }

    const bool wants_nulls = a_.null_posterior != nullptr || a_.counts != nullptr;
    const VecF32 floor = hn::Set(d, kHmmFloor);
    VecF32 largest = hn::Zero(d);
    for (int64_t v = 0; v < w; v += lanes) largest = hn::Max(largest, hn::Load(d, beta + v));
    for (int t = T - 1; t >= 0; --t) {
      const float* const before = alpha + t * w;
      const VecF32 inverse = hn::Set(d, sums[t]);
      const VecF32 ne = hn::Set(d, null_emission[t] * sums[t]);
      VecF32 null_sum = hn::Zero(d);
      for (int64_t v = 0; v < w; v += lanes) {
        const VecF32 b = hn::Load(d, beta + v);
        hn::Store(hn::Mul(hn::Mul(hn::Load(d, emission + t * w + v), b), inverse), d, emission + t * w + v);
        hn::Store(hn::Mul(hn::Load(d, real + t * w + v), b), d, real + t * w + v);
        const VecF32 back_null = hn::Mul(hn::Mul(hn::Load(d, null + v), b), ne);
        hn::Store(back_null, d, beta + v);
        if (wants_nulls) {
          const VecF32 n = hn::Mul(back_null, hn::Load(d, before + v));
          hn::Store(hn::Add(hn::Load(d, nulls + v), n), d, nulls + v);
          null_sum = hn::Add(null_sum, n);
        }
      }
      for (int64_t v = 0; v < w; v += lanes) {
        const VecF32 b = hn::Max(hn::Add(Combine(back + v, emission + t * w, S, w), hn::Load(d, beta + v)), floor);
        largest = hn::Max(largest, b);
        hn::Store(b, d, beta + v);
      }
      null_emission[t] = hn::GetLane(hn::SumOfLanes(d, null_sum));
    }
    if (!(hn::GetLane(hn::MaxOfLanes(d, largest)) <= kHmmTrust * smallest)) return false;

    if (a_.log_marginal != nullptr) a_.log_marginal[p] = static_cast<float>(log_total);
    const float weight = a_.weight != nullptr ? a_.weight[p] : 1.0f;
    if (a_.posterior != nullptr) store_posteriors(pair, w, real, weight);
    if (a_.null_posterior != nullptr) {
      for (int t = 0; t < T; ++t) a_.null_posterior[pair.first_step + t] = null_emission[t] * weight;
    }
    if (a_.counts != nullptr) {
      for (int o = 0; o < origins; o += 4) expected_jumps(alpha, emission, T, o, std::min(4, origins - o), w, jumps);
      count(pair, w, move, jumps, go, nulls, ended, weight);
    }
    return true;
  }

  // Returns what was taken out of the emissions, a logarithm.
  double load_emissions(const HmmPair& pair, int64_t w, float* HWY_RESTRICT emission, float* null_emission) const {
    const int S = pair.states;
    const int T = pair.steps;
    const float* const cells = a_.emission + pair.cells;
    if (pair.state_stride == 1) {
      for (int t = 0; t < T; ++t) {
        std::memcpy(emission + t * w, cells + t * pair.step_stride, sizeof(float) * static_cast<std::size_t>(S));
      }
    } else {
      for (int s = 0; s < S; ++s) {
        for (int t = 0; t < T; ++t) emission[t * w + s] = cells[s * pair.state_stride + t];
      }
    }
    for (int t = 0; t < T; ++t) {
      std::fill(emission + t * w + S, emission + (t + 1) * w, 0.0f);
      null_emission[t] = a_.null_emission[pair.step_words[t] + 1];
    }
    if (!a_.logs) return 0;

    const F32 d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    double taken = 0;
    for (int t = 0; t < T; ++t) {
      float* const row = emission + t * w;
      float max = null_emission[t];
      for (int s = 0; s < S; ++s) max = std::max(max, row[s]);
      if (max == -INFINITY) max = 0;
      const VecF32 m = hn::Set(d, max);
      for (int64_t v = 0; v < w; v += lanes) hn::Store(ExpBelow88(d, hn::Sub(hn::Load(d, row + v), m)), d, row + v);
      std::fill(row + S, row + w, 0.0f);
      null_emission[t] = std::exp(null_emission[t] - max);
      taken += max;
    }
    return taken;
  }

  bool load_moves(const HmmPair& pair, int64_t w, float* move, float* null, float* stop, float* go) const {
    const int S = pair.states;
    const int buckets = 2 * a_.reach + 3;
    for (int64_t o = 0; o < w; ++o) null[o] = stop[o] = go[o] = 0;
    for (int o = 0; o <= S; ++o) {
      float* const row = move + o * w;
      const float* const jump = a_.jump + hmm_class(a_, pair, o) * buckets + a_.reach + 1;
      const int at = o == S ? -1 : o;  // bucket of state i: i - at
      float sum = 0;
      // The buckets of all jumps beyond the reach are equal: three stretches.
      const int near = std::clamp(at - a_.reach, 0, S);
      const int far = std::clamp(at + a_.reach + 1, 0, S);
      for (int i = 0; i < near; ++i) row[i] = jump[-a_.reach - 1];
      for (int i = near; i < far; ++i) row[i] = jump[i - at];
      for (int i = far; i < S; ++i) row[i] = jump[a_.reach + 1];
      for (int i = 0; i < S; ++i) sum += row[i];
      if (!(sum > 1e-20f && sum < INFINITY)) return false;
      stop[o] = a_.stop != nullptr ? a_.stop[hmm_distance(o, S)] : 1.0f;
      go[o] = a_.stop != nullptr ? 1.0f - stop[o] : 1.0f;
      null[o] = go[o] * a_.move[0];
      const float factor = go[o] * a_.move[1] / sum;
      for (int i = 0; i < S; ++i) row[i] *= factor;
      std::fill(row + S, row + w, 0.0f);
    }
    return true;
  }

  // jumps[o + k] = sum_t alpha[t, o + k] * x[t], before the factor of the move.
  static void expected_jumps(const float* alpha, const float* x, int steps, int o, int count, int64_t w, float* jumps) {
    const F32 d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    for (int64_t v = 0; v < w; v += lanes) {
      VecF32 a = hn::Zero(d);
      VecF32 b = a;
      VecF32 c = a;
      VecF32 e = a;
      // Past the last origin lie zeros or the next row, whose sums are not stored.
      for (int t = 0; t < steps; ++t) {
        const VecF32 xv = hn::Load(d, x + t * w + v);
        const float* const from = alpha + t * w + o;
        a = hn::MulAdd(hn::Set(d, from[0]), xv, a);
        b = hn::MulAdd(hn::Set(d, from[1]), xv, b);
        c = hn::MulAdd(hn::Set(d, from[2]), xv, c);
        e = hn::MulAdd(hn::Set(d, from[3]), xv, e);
      }
      float* const to = jumps + o * w + v;
      hn::Store(a, d, to);
      if (count > 1) hn::Store(b, d, to + w);
      if (count > 2) hn::Store(c, d, to + 2 * w);
      if (count > 3) hn::Store(e, d, to + 3 * w);
    }
  }

  void count(const HmmPair& pair, int64_t w, const float* move, float* jumps, const float* go, const float* nulls,
             const float* ended, float weight) const {
    const int S = pair.states;
    const int buckets = 2 * a_.reach + 3;
    const HmmCountsLayout layout = {a_.classes, buckets};
    int64_t* const counts = scratch_.counts;
    const float unit = static_cast<float>(kHmmUnit / scale_) * weight;
    const F32 d;
    const auto lanes = static_cast<int64_t>(hn::Lanes(d));
    int64_t to_words = 0;
    int64_t to_null = 0;
    for (int o = 0; o <= S; ++o) {
      const float* const m = move + o * w;
      float* const c = jumps + o * w;
      VecF32 sum = hn::Zero(d);
      for (int64_t v = 0; v < w; v += lanes) {
        const VecF32 q = hn::Mul(hn::Load(d, m + v), hn::Load(d, c + v));
        hn::Store(q, d, c + v);
        sum = hn::Add(sum, q);
      }
      const float total = hn::GetLane(hn::SumOfLanes(d, sum));
      const float factor = go[o] * a_.move[1];
      const float share = factor > 0 ? total / factor * unit : 0;
      const int at = o == S ? -1 : o;
      int64_t* const row = counts + hmm_class(a_, pair, o) * buckets + a_.reach + 1;
      int64_t* const expected = row + layout.expected();
      const int near = std::clamp(at - a_.reach, 0, S);
      const int far = std::clamp(at + a_.reach + 1, 0, S);
      const auto stretch = [&](int begin, int end, int bucket) {
        if (begin >= end) return;
        float jumped = 0;
        float likely = 0;
        for (int i = begin; i < end; ++i) {
          jumped += c[i];
          likely += m[i];
        }
        row[bucket] += fixed_point(jumped * unit);
        expected[bucket] += fixed_point(likely * share);
      };
      stretch(0, near, -a_.reach - 1);
      for (int i = near; i < far; ++i) {
        row[i - at] += fixed_point(c[i] * unit);
        expected[i - at] += fixed_point(m[i] * share);
      }
      stretch(far, S, a_.reach + 1);
      const int64_t words = fixed_point(total * unit);
      const int64_t null = fixed_point(nulls[o] * unit);
      to_words += words;
      to_null += null;
      if (a_.stop != nullptr) {
        counts[layout.stops() + hmm_distance(o, S)] += fixed_point(ended[o] * unit);
        counts[layout.goes() + hmm_distance(o, S)] += words + null;
      }
    }
    counts[layout.moves()] += to_null;
    counts[layout.moves() + 1] += to_words;
  }

  void store_posteriors(const HmmPair& pair, int64_t w, const float* HWY_RESTRICT real, float weight) const {
    float* const cells = a_.posterior + pair.cells;
    const int S = pair.states;
    const int T = pair.steps;
    if (pair.state_stride == 1) {
      for (int t = 0; t < T; ++t) {
        for (int s = 0; s < S; ++s) cells[t * pair.step_stride + s] = real[t * w + s] * weight;
      }
    } else {
      for (int s = 0; s < S; ++s) {
        for (int t = 0; t < T; ++t) cells[s * pair.state_stride + t] = real[t * w + s] * weight;
      }
    }
  }

  void in_logs(int64_t p, const HmmPair& pair) const {
    scratch_.doubles.resize(static_cast<std::size_t>(2 * (pair.states + 1) * (pair.steps + 2)));
    hmm_in_logs(a_, p, scratch_.doubles.data(), [&](int64_t index, double value) {
      scratch_.counts[index] += fixed_point(value * (kHmmUnit / scale_));
    });
  }

  const HmmPass& a_;
  HmmScratch& scratch_;
  double scale_;
};

void RunPass(const HmmPass& args, int64_t begin, int64_t end, double scale, HmmScratch& scratch) {
  const Pass pass(args, scratch, scale);
  for (int64_t p = begin; p < end; ++p) pass(p);
}

}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(RunPass);

namespace {

template <class Body>
void for_each_row(const HmmBlock& block, const HmmPattern& pattern, const Body& body) {
  const auto row = [&](int64_t r, const auto* cells) {
    for (uint32_t o = pattern.row_begin[r]; o < pattern.row_begin[r + 1]; ++o) {
      const std::size_t pair = pattern.occurrences[2 * o];
      const int64_t length = block.target_begin[pair + 1] - block.target_begin[pair];
      const int64_t at = block.cell_begin[pair] + pattern.occurrences[2 * o + 1] * length;
      body(pattern.row_offsets[pattern.row[r]], cells, at, length);
      cells += length;
    }
  };
  constexpr int64_t kRowsPerTask = 64;
  cpu::parallel_tasks((pattern.rows + kRowsPerTask - 1) / kRowsPerTask, [&](int64_t task, int) {
    for (int64_t r = task * kRowsPerTask; r < std::min(pattern.rows, (task + 1) * kRowsPerTask); ++r) {
      const int64_t all = pattern.row[r];
      if (pattern.row_offsets[all + 1] - pattern.row_offsets[all] > pattern.widest_narrow) {
        row(r, pattern.wide + pattern.row_cells[r]);
      } else {
        row(r, pattern.narrow + pattern.row_cells[r]);
      }
    }
  });
}

}  // namespace

void run_cpu(const HmmLookup& args) {
  for_each_row(args.block, args.pattern, [&](int64_t first, const auto* entries, int64_t at, int64_t length) {
    for (int k = 0; k < 2 && args.table[k] != nullptr; ++k) {
      const float* const row = args.table[k] + first;
      float* const cells = args.cells[k] + at;
      for (int64_t i = 0; i < length; ++i) cells[i] = row[entries[i]];
    }
  });
}

void run_cpu(const HmmScatter& args) {
  for_each_row(args.block, args.pattern, [&](int64_t first, const auto* entries, int64_t at, int64_t length) {
    float* const row = args.sums + first;
    for (int64_t i = 0; i < length; ++i) row[entries[i]] += args.cells[at + i];
  });
  for (int64_t i = 0; args.null_cells != nullptr && i < args.target_tokens; ++i) {
    args.sums[args.target_words[i]] += args.null_cells[i];
  }
}

void run_cpu(const HmmNullCounts& args) {
  for (int64_t i = 0; i < args.tokens; ++i) {
    if (args.words[i] >= 0) {
      args.sums[args.words[i]] += fixed_point(static_cast<double>(args.values[i]) * kHmmFixed);
    }
  }
}

void run_cpu(const HmmFromFixed& args) {
  for (int64_t k = 0; k < args.size; ++k) {
    args.values[k] = static_cast<float>(static_cast<double>(args.fixed[k]) / kHmmFixed);
  }
}

void run_cpu(const HmmProduct& args) {
  cpu::parallel_ranges(args.size, 1 << 14, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) args.cells[i] *= args.by[i];
  });
}

namespace {

// What a step is to hmm_independent_step, for the uniform prior; cells of a row lie side by side.
void independent_pair(const HmmIndependent& args, const HmmStates& pair, std::vector<float>& sum, double& log_total) {
  const int64_t rows = args.target_states ? pair.steps : pair.states;
  const int64_t columns = args.target_states ? pair.states : pair.steps;
  float* const null = args.null_posterior + pair.first_step;
  for (int t = 0; t < pair.steps; ++t) null[t] = args.null_emission[args.step_words[pair.first_step + t] + 1];
  sum.assign(null, null + pair.steps);
  float* const cells = args.cells + pair.cells;
  for (int64_t r = 0; r < rows; ++r) {
    const float* const row = cells + r * columns;
    if (args.target_states) {
      for (int64_t c = 0; c < columns; ++c) sum[r] += row[c];
    } else {
      for (int64_t c = 0; c < columns; ++c) sum[c] += row[c];
    }
  }
  log_total = -pair.steps * std::log(static_cast<double>(pair.states + 1));
  for (int t = 0; t < pair.steps; ++t) {
    log_total += static_cast<double>(std::log(sum[t]));
    sum[t] = sum[t] == 0.0f ? 0.0f : 1 / sum[t];
    null[t] *= sum[t];
  }
  for (int64_t r = 0; r < rows; ++r) {
    float* const row = cells + r * columns;
    if (args.target_states) {
      for (int64_t c = 0; c < columns; ++c) row[c] *= sum[r];
    } else {
      for (int64_t c = 0; c < columns; ++c) row[c] *= sum[c];
    }
  }
}

}  // namespace

void run_cpu(const HmmIndependent& args) {
  cpu::parallel_ranges(args.block.pairs, 32, [&](int64_t begin, int64_t end, int) {
    std::vector<float> sum;
    for (int64_t p = begin; p < end; ++p) {
      const HmmStates pair(args.block, args.target_states, p);
      double log_total = 0;
      double distance = 0;
      if (args.diagonal == nullptr && args.distance == nullptr && pair.states > 0) {
        independent_pair(args, pair, sum, log_total);
      } else {
        for (int t = 0; t < pair.steps; ++t) hmm_independent_step(args, pair, t, log_total, distance);
      }
      args.log_marginal[p] = static_cast<float>(log_total);
      if (args.distance != nullptr) args.distance[p] = static_cast<float>(distance);
    }
  });
}

void run_cpu(const HmmPass& args) {
  const auto pass = HWY_DYNAMIC_DISPATCH(RunPass);
  const double scale = args.count_scale != nullptr ? *args.count_scale : 1.0;
  const auto size =
      args.counts != nullptr ? static_cast<std::size_t>(HmmCountsLayout{args.classes, 2 * args.reach + 3}.size()) : 0;
  const int threads = cpu_threads();
  std::vector<HmmScratch> scratch(static_cast<std::size_t>(threads));
  constexpr int64_t kPairsPerTask = 32;
  cpu::parallel_tasks((args.block.pairs + kPairsPerTask - 1) / kPairsPerTask, [&](int64_t task, int thread) {
    HmmScratch& own = scratch[static_cast<std::size_t>(thread)];
    if (args.counts != nullptr && own.counts == nullptr) {
      if (threads > args.count_copies) own.own_counts.resize(size);
      own.counts =
          threads > args.count_copies ? own.own_counts.data() : args.counts + thread * static_cast<int64_t>(size);
    }
    pass(args, task * kPairsPerTask, std::min(args.block.pairs, (task + 1) * kPairsPerTask), scale, own);
  });
  for (const HmmScratch& own : scratch) {
    for (std::size_t i = 0; i < own.own_counts.size(); ++i) args.counts[i] += own.own_counts[i];
  }
}

void run_cpu(const HmmWeights& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* const row = args.log_jump + r * args.buckets;
    const float max = *std::max_element(row, row + args.buckets);
    for (int64_t b = 0; b < args.buckets; ++b) {
      args.jump[r * args.buckets + b] = row[b] == -INFINITY ? 0.0f : std::exp(row[b] - max);
    }
  }
  for (int i = 0; i < 2; ++i) args.move[i] = std::exp(args.log_move[i]);
}

void run_cpu(const HmmScale& args) {
  float max = 0;
  for (int64_t p = 0; p < args.pairs; ++p) max = std::max(max, std::fabs(args.weight[p]));
  *args.scale = hmm_power_of_two(max);
}

void run_cpu(const HmmGradient& args) {
  const double unit = *args.scale / kHmmUnit;
  for (int64_t i = 0; i < args.layout.expected(); ++i) {
    args.log_jump[i] =
        static_cast<float>(static_cast<double>(args.counts[i] - args.counts[args.layout.expected() + i]) * unit);
  }
  for (int i = 0; i < 2; ++i) {
    args.log_move[i] = static_cast<float>(static_cast<double>(args.counts[args.layout.moves() + i]) * unit);
  }
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
