// SPDX-License-Identifier: Apache-2.0
// The sums over source words, row by row of the table within blocks of pairs: a row of the table stays in the
// nearest cache while all of its cells are read, and the sums of a block's target words in the one behind.
//
// Forward    threads take blocks. A cell is a 2-byte index, a gather from the row and an addition to
//            neighbouring sums; the order of a word's sum is that of the rows.
// Counts     threads take rows (Cooccurrence::tasks), so no two write one entry: a cell is a 2-byte index and
//            an addition at that place of the row. Rows of many cells are divided by blocks, and their parts
//            added in order.
// Traffic    an EM iteration with the uniform prior reads 4 bytes a cell and 8 an occurrence, reads and writes
//            8 a target word and 12 an entry.
// Order      fixed, for any number of threads.
#include "kernels/sparse_alignment.hpp"

#include <dgm/data/cooccurrence.hpp>

#include "host/cpu/parallel.hpp"
#include "host/cpu/tasks.hpp"
#include "kernels/math/diagonal_prior.hpp"
#include "kernels/math/digamma.hpp"
#include "kernels/math/log_sum.hpp"
#include "kernels/math/philox.hpp"

#include <cmath>
#include <memory>
#include <vector>

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "host/cpu/sparse_alignment.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include "host/cpu/lanes-inl.hpp"

#ifndef DGM_HOST_CPU_SPARSE_ALIGNMENT_ONCE
#define DGM_HOST_CPU_SPARSE_ALIGNMENT_ONCE
namespace dgm::kernels {
namespace {

using Block = Cooccurrence::Block;

// What a block's forward pass leaves beside its sums.
struct BlockTotals {
  double log_marginal = 0;
  double null_count = 0;
  double distance = 0;
};

// Sums of a block's target words; each padded.
struct BlockSums {
  std::vector<float> sum, max, distance;
};

// What the backward pass reads of a word: the log marginal that its terms are held against, and its g.
struct WordFactors {
  std::vector<float> log_sum, g;
};

// Rows of a block that a task has, as indices into block.rows, and the first row and entry of the task.
struct RowRange {
  std::size_t begin, end;
  int64_t first_row, first_entry;
};

// Pairs of a block.
struct PairRange {
  uint32_t begin, end;
  bool holds(uint32_t pair) const { return begin <= pair && pair < end; }
};
inline PairRange all_pairs(const Block& block) { return {0, static_cast<uint32_t>(block.pairs())}; }

// Sums over the cells of a task's rows. Cells are added in floats, which stay in the nearest cache, and these to
// doubles before a row's additions are so many that equal terms would drift.
struct RowSums {
  std::vector<double> total;
  std::vector<float> recent;
  std::vector<uint32_t> pending;  // cells in `recent`, by row
  std::vector<float> terms;       // of successive cells

  void begin(int64_t rows, int64_t entries) {
    total.assign(static_cast<std::size_t>(entries), 0.0);
    recent.assign(static_cast<std::size_t>(entries), 0.0f);
    pending.assign(static_cast<std::size_t>(rows), 0);
  }
  static std::size_t most_pending(int64_t entries) {
    return static_cast<std::size_t>(std::max<int64_t>(1024, 2 * entries));
  }
};

// The prior of an occurrence: exp(log_factor[i] - tension |place[i] - at|), i over the target sentence.
struct OccurrencePrior {
  const float* log_factor;
  const float* place;
  float at;
  float tension;
};

inline OccurrencePrior occurrence_prior(const AlignmentText& text, const Block& block,
                                        const Cooccurrence::Occurrence& occurrence) {
  const Cooccurrence& pattern = *text.pattern;
  const int64_t pair = block.first_pair + occurrence.pair;
  const Cooccurrence::Lengths& lengths = pattern.lengths()[pattern.pair_lengths()[pair]];
  const int64_t first = lengths.first_position;
  return {text.prior.log_factor + first, text.prior.place + first,
          static_cast<float>(occurrence.position + 1) / static_cast<float>(lengths.source), text.prior.parameters[1]};
}

// The largest float rather than infinity keeps -inf - (-inf) from being NaN where a word has no sum.
inline float finite(float log_marginal) { return log_marginal == -INFINITY ? 3e38f : log_marginal; }

}  // namespace
}  // namespace dgm::kernels
#endif

HWY_BEFORE_NAMESPACE();
namespace dgm::kernels::HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using F32 = cpu::HWY_NAMESPACE::F32;
using Vec = cpu::HWY_NAMESPACE::VecF32;
using cpu::HWY_NAMESPACE::ExpBelow88;
using cpu::HWY_NAMESPACE::LoadFirst;
using cpu::HWY_NAMESPACE::StoreFirst;
using Indices = hn::RebindToSigned<F32>;

HWY_INLINE auto LoadCells(const uint16_t* cells) {
  return hn::PromoteTo(Indices(), hn::LoadU(hn::Rebind<uint16_t, F32>(), cells));
}
HWY_INLINE auto LoadCells(const uint32_t* cells) {
  return hn::LoadU(Indices(), reinterpret_cast<const int32_t*>(cells));
}

// Cooccurrence::for_each_occurrence, compiled for this target: code for another cannot be inlined.
template <class Cell, class Body>
HWY_INLINE void Visit(const Block& block, std::size_t index, const Cell* HWY_RESTRICT cells, const Body& body) {
  cells += block.cell_begin[index];
  const uint32_t* const target_begin = block.target_begin.data();
  const Cooccurrence::Occurrence* o = block.occurrences.data() + block.row_begin[index];
  const Cooccurrence::Occurrence* const end = block.occurrences.data() + block.row_begin[index + 1];
  for (; o != end; ++o) {
    const uint32_t first = target_begin[o->pair];
    const std::size_t size = target_begin[o->pair + 1] - first;
    body(*o, cells, first, size);
    cells += size;
  }
}
template <class Body>
HWY_INLINE void ForOccurrences(const Cooccurrence& pattern, const Block& block, std::size_t index, const Body& body) {
  if (pattern.is_wide(block.rows[index])) {
    Visit(block, index, block.wide.get(), body);
  } else {
    Visit(block, index, block.narrow.get(), body);
  }
}

// The same for the occurrences in some pairs.
template <class Body>
HWY_INLINE void ForOccurrences(const Cooccurrence& pattern, const Block& block, PairRange pairs, std::size_t index,
                               const Body& body) {
  ForOccurrences(pattern, block, index, [&](const auto& o, const auto* cells, uint32_t first, std::size_t size) {
    if (pairs.holds(o.pair)) body(o, cells, first, size);
  });
}

// row[cells[i]] for i < count, 0 in the other lanes. Reads cells, not entries, past the last.
template <class Cell>
HWY_INLINE Vec GatherCells(const float* HWY_RESTRICT row, const Cell* HWY_RESTRICT cells, std::size_t count) {
  const F32 d;
#if HWY_TARGET <= HWY_AVX3
  // An unmasked gather reads for all lanes, and sentences mostly fill half a vector.
  const auto mask = hn::FirstN(d, count);
  return Vec{_mm512_mask_i32gather_ps(_mm512_setzero_ps(), mask.raw, LoadCells(cells).raw, row, sizeof(float))};
#else
  const auto indices = hn::IfThenElseZero(hn::FirstN(Indices(), count), LoadCells(cells));
  return hn::IfThenElseZero(hn::FirstN(d, count), hn::GatherIndex(d, row, indices));
#endif
}

// Calls body(i, count, values) for the row's entries of cells i .. i + count - 1; lanes past the count are 0. Whole
// vectors are not told apart: where a sentence is about as long as a vector, that branch is a coin toss.
template <class Cell, class Body>
HWY_INLINE void ForCells(const float* HWY_RESTRICT row, const Cell* HWY_RESTRICT cells, std::size_t size,
                         const Body& body) {
  const std::size_t lanes = hn::Lanes(F32());
  for (std::size_t i = 0; i < size; i += lanes) {
    const std::size_t count = std::min(lanes, size - i);
    body(i, count, GatherCells(row, cells + i, count));
  }
}

HWY_INLINE Vec LogPrior(const OccurrencePrior& prior, std::size_t i, Vec* distance) {
  const F32 d;
  *distance = hn::Abs(hn::Sub(hn::LoadU(d, prior.place + i), hn::Set(d, prior.at)));
  return hn::NegMulAdd(hn::Set(d, prior.tension), *distance, hn::LoadU(d, prior.log_factor + i));
}

template <class V, class Body>
HWY_INLINE void Update(V* HWY_RESTRICT at, std::size_t count, const Body& body) {
  const F32 d;
  if (count == hn::Lanes(d)) {
    hn::StoreU(body(hn::LoadU(d, at)), d, at);
  } else {
    StoreFirst(d, body(LoadFirst(d, at, count, hn::Zero(d))), at, count);
  }
}

// NULL's cells are the target words themselves; they come last in memory, so the loop reads none past the end.
template <class Body>
HWY_INLINE void ForNull(const Block& block, PairRange pairs, const Body& body) {
  const std::size_t size = block.target_begin[pairs.end];
  const std::size_t lanes = hn::Lanes(F32());
  const auto* const words = reinterpret_cast<const uint32_t*>(block.target_words.data());
  std::size_t i = block.target_begin[pairs.begin];
  for (; i + lanes <= size; i += lanes) body(i, lanes, words + i);
  if (i < size) body(i, size - i, words + i);
}

HWY_INLINE Vec GatherFirst(const float* row, const uint32_t* words, std::size_t count) {
  const F32 d;
  if (count == hn::Lanes(d)) return hn::GatherIndex(d, row, LoadCells(words));
  HWY_ALIGN int32_t indices[hn::MaxLanes(F32())] = {};
  for (std::size_t i = 0; i < count; ++i) indices[i] = static_cast<int32_t>(words[i]);
  return hn::IfThenElseZero(hn::FirstN(d, count), hn::GatherIndex(d, row, hn::Load(Indices(), indices)));
}

// sums.sum[i] = sum_j prior(i, j) table[entry(i, j)], without the uniform prior's factor; sums.distance[i] the
// same with |place[i] - at| in each term.
void LinearSums(const AlignmentText& text, const Block& block, PairRange pairs, const float* table, BlockSums& sums) {
  const F32 d;
  const Cooccurrence& pattern = *text.pattern;
  const bool diagonal = text.prior.parameters != nullptr;
  const auto tokens = static_cast<std::size_t>(block.target_tokens());
  sums.sum.resize(tokens + kPadding);
  float* const sum = sums.sum.data();
  const Vec null_prior = hn::Set(d, diagonal ? text.prior.parameters[0] : 1.0f);
  ForNull(block, pairs, [&](std::size_t i, std::size_t count, const uint32_t* words) {
    hn::StoreU(hn::Mul(null_prior, GatherFirst(table, words, count)), d, sum + i);
  });
  if (!diagonal) {
    for (std::size_t r = 0; r < block.rows.size(); ++r) {
      const float* const row = table + pattern.row_offsets()[block.rows[r]];
      ForOccurrences(pattern, block, pairs, r, [&](const auto&, const auto* cells, uint32_t first, std::size_t size) {
        float* const at = sum + first;
        // Lanes past the sentence add 0 to the next one's sums, or to the padding.
        ForCells(row, cells, size,
                 [&](std::size_t i, std::size_t, Vec t) { hn::StoreU(hn::Add(hn::LoadU(d, at + i), t), d, at + i); });
      });
    }
    return;
  }
  sums.distance.assign(tokens + kPadding, 0.0f);
  float* const distances = sums.distance.data();
  for (std::size_t r = 0; r < block.rows.size(); ++r) {
    const float* const row = table + pattern.row_offsets()[block.rows[r]];
    ForOccurrences(pattern, block, pairs, r, [&](const auto& o, const auto* cells, uint32_t first, std::size_t size) {
      const OccurrencePrior prior = occurrence_prior(text, block, o);
      float* const at = sum + first;
      float* const distance_at = distances + first;
      ForCells(row, cells, size, [&](std::size_t i, std::size_t count, Vec t) {
        Vec distance;
        const Vec p = hn::Mul(t, ExpBelow88(d, LogPrior(prior, i, &distance)));
        Update(at + i, count, [&](Vec v) { return hn::Add(v, p); });
        Update(distance_at + i, count, [&](Vec v) { return hn::MulAdd(p, distance, v); });
      });
    });
  }
}

// Sums in double of count floats, in one fixed order.
HWY_INLINE double Total(const float* values, std::size_t size) {
  double sum[4] = {};
  std::size_t i = 0;
  for (; i + 4 <= size; i += 4) {
    for (std::size_t k = 0; k < 4; ++k) sum[k] += static_cast<double>(values[i + k]);
  }
  for (; i < size; ++i) sum[0] += static_cast<double>(values[i]);
  return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

// Writes the log marginals of a block's pairs from those of its words, which lack the uniform prior's factor.
double PairLogMarginals(const AlignmentText& text, const Block& block, const float* log_sums,
                        float* pair_log_marginal) {
  double total = 0;
  for (std::size_t p = 0; p < static_cast<std::size_t>(block.pairs()); ++p) {
    double value = Total(log_sums + block.target_begin[p], block.target_length(p));
    if (text.prior.parameters == nullptr) {
      value -= block.target_length(p) * std::log(static_cast<double>(block.source_length(p)) + 1);
    }
    if (pair_log_marginal != nullptr)
      pair_log_marginal[block.first_pair + static_cast<int64_t>(p)] = static_cast<float>(value);
    total += value;
  }
  return total;
}

// weights = 1 / sum, 0 where there is no sum.
void Weights(const Block& block, PairRange pairs, const BlockSums& sums, float* weights) {
  const F32 d;
  const std::size_t tokens = block.target_begin[pairs.end];
  const std::size_t lanes = hn::Lanes(d);
  for (std::size_t i = block.target_begin[pairs.begin]; i < tokens; i += lanes) {
    const Vec sum = hn::LoadU(d, sums.sum.data() + i);
    const Vec weight = hn::IfThenZeroElse(hn::Eq(sum, hn::Zero(d)), hn::Div(hn::Set(d, 1.0f), sum));
    StoreFirst(d, weight, weights + i, std::min(lanes, tokens - i));
  }
}

void CountsForward(const SparseAlignmentCounts& args, const Block& block, BlockSums& sums, BlockTotals& totals) {
  const F32 d;
  LinearSums(args.text, block, all_pairs(block), args.table, sums);
  float* const weights = args.weights + block.first_target;
  Weights(block, all_pairs(block), sums, weights);
  const auto tokens = static_cast<std::size_t>(block.target_tokens());
  totals = {};
  if (args.text.prior.parameters != nullptr) {
    for (std::size_t i = 0; i < tokens; ++i) {
      totals.distance += static_cast<double>(sums.distance[i] * weights[i]);
    }
  }
  const float null_prior = args.text.prior.parameters == nullptr ? 1.0f : args.text.prior.parameters[0];
  for (std::size_t i = 0; i < tokens; ++i) {
    totals.null_count += static_cast<double>(args.table[block.target_words[i]] * null_prior * weights[i]);
  }
  for (std::size_t i = 0; i < tokens; i += hn::Lanes(d)) {
    hn::StoreU(Lanes::log(hn::LoadU(d, sums.sum.data() + i)), d, sums.sum.data() + i);
  }
  totals.log_marginal = PairLogMarginals(args.text, block, sums.sum.data(), args.pair_log_marginal);
}

// One row of a RowSums.
class RowAdder {
 public:
  RowAdder(RowSums& sums, const std::vector<int64_t>& offsets, int64_t row, const RowRange& range)
      : recent_(sums.recent.data() + (offsets[row] - range.first_entry)),
        total_(sums.total.data() + (offsets[row] - range.first_entry)),
        entries_(static_cast<std::size_t>(offsets[row + 1] - offsets[row])),
        pending_(sums.pending[row - range.first_row]),
        most_(RowSums::most_pending(offsets[row + 1] - offsets[row])) {}
  HWY_INLINE float* recent() const { return recent_; }
  HWY_INLINE void added(std::size_t cells) {
    pending_ += static_cast<uint32_t>(cells);
    if (pending_ >= most_) [[unlikely]]
      flush();
  }

 private:
  void flush() {
    for (std::size_t i = 0; i < entries_; ++i) {
      total_[i] += static_cast<double>(recent_[i]);
      recent_[i] = 0.0f;
    }
    pending_ = 0;
  }
  float* recent_;
  double* total_;
  std::size_t entries_;
  uint32_t& pending_;
  std::size_t most_;
};

// Adds terms[i] to sums[cells[i]], one after the other.
template <class Cell>
HWY_INLINE void AddTerms(const Cell* HWY_RESTRICT cells, const float* HWY_RESTRICT terms, std::size_t size,
                         float* HWY_RESTRICT sums) {
  constexpr std::size_t kUnrolled = 4;
  std::size_t i = 0;
  for (; i + kUnrolled <= size; i += kUnrolled) {
    for (std::size_t k = 0; k < kUnrolled; ++k) sums[cells[i + k]] += terms[i + k];
  }
  for (; i < size; ++i) sums[cells[i]] += terms[i];
}

// The weights of rows[index], copied by vectors into one line for many occurrences: a loop that ended with each
// sentence would cost a mispredicted branch for each.
template <class Cell>
void AddRowWeights(const Block& block, std::size_t index, const Cell* cells, const float* block_weights,
                   RowAdder& adder, std::vector<float>& terms) {
  constexpr std::size_t kCells = 1024;
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  if (terms.empty()) terms.resize(2 * kCells);
  const Cell* begin = cells + block.cell_begin[index];
  std::size_t filled = 0;
  const auto add = [&] {
    AddTerms(begin, terms.data(), filled, adder.recent());
    adder.added(filled);
    begin += filled;
    filled = 0;
  };
  Visit(block, index, cells, [&](const auto&, const Cell*, uint32_t first, std::size_t size) {
    if (filled + size + lanes > terms.size()) [[unlikely]]
      terms.resize(filled + size + lanes);
    for (std::size_t i = 0; i < size; i += lanes) {
      hn::StoreU(hn::LoadU(d, block_weights + first + i), d, terms.data() + filled + i);
    }
    filled += size;
    if (filled >= kCells) add();
  });
  add();
}

// Adds the weights of the cells of rows[begin] .. rows[end - 1] in a block to their entries.
void AddWeights(const SparseAlignmentCounts& args, const Block& block, RowRange range, RowSums& sums) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  const Cooccurrence& pattern = *args.text.pattern;
  const float* const block_weights = args.weights + block.first_target;
  const bool diagonal = args.text.prior.parameters != nullptr;
  for (std::size_t r = range.begin; r < range.end; ++r) {
    RowAdder adder(sums, pattern.row_offsets(), block.rows[r], range);
    if (!diagonal) {
      if (pattern.is_wide(block.rows[r])) {
        AddRowWeights(block, r, block.wide.get(), block_weights, adder, sums.terms);
      } else {
        AddRowWeights(block, r, block.narrow.get(), block_weights, adder, sums.terms);
      }
      continue;
    }
    float* const counts = adder.recent();
    ForOccurrences(pattern, block, r, [&](const auto& o, const auto* cells, uint32_t first, std::size_t size) {
      const float* const weights = block_weights + first;
      const OccurrencePrior prior = occurrence_prior(args.text, block, o);
      HWY_ALIGN float products[hn::MaxLanes(F32())];
      for (std::size_t i = 0; i < size; i += lanes) {
        Vec distance;
        const Vec p = ExpBelow88(d, LogPrior(prior, i, &distance));
        hn::Store(hn::Mul(p, hn::LoadU(d, weights + i)), d, products);
        const std::size_t count = std::min(lanes, size - i);
        for (std::size_t k = 0; k < count; ++k) counts[cells[i + k]] += products[k];
      }
      adder.added(size);
    });
  }
}

// The posteriors of pairs of a block, by row; the first cell is the first pair's.
void BlockPosteriors(const SparseAlignmentPosteriors& args, const Block& block, PairRange pairs, BlockSums& sums,
                     int64_t first_cell) {
  const F32 d;
  LinearSums(args.text, block, pairs, args.table, sums);
  Weights(block, pairs, sums, sums.sum.data());
  const float* const weights = sums.sum.data();
  const Cooccurrence& pattern = *args.text.pattern;
  std::vector<int64_t> begin(static_cast<std::size_t>(block.pairs()));
  for (uint32_t p = pairs.begin; p < pairs.end; ++p) {
    begin[p] = first_cell;
    first_cell += int64_t{block.source_length(p)} * block.target_length(p);
  }
  const bool diagonal = args.text.prior.parameters != nullptr;
  HWY_ALIGN float values[hn::MaxLanes(F32())];
  for (std::size_t r = 0; r < block.rows.size(); ++r) {
    const float* const row = args.table + pattern.row_offsets()[block.rows[r]];
    ForOccurrences(pattern, block, pairs, r, [&](const auto& o, const auto* cells, uint32_t first, std::size_t size) {
      const auto source = static_cast<std::size_t>(block.source_length(o.pair));
      float* const to = args.posteriors + begin[o.pair] + o.position;
      const float* const w = weights + first;
      const OccurrencePrior prior = diagonal ? occurrence_prior(args.text, block, o) : OccurrencePrior{};
      ForCells(row, cells, size, [&](std::size_t i, std::size_t count, Vec t) {
        if (diagonal) {
          Vec distance;
          t = hn::Mul(t, ExpBelow88(d, LogPrior(prior, i, &distance)));
        }
        hn::Store(hn::Mul(t, LoadFirst(d, w + i, count, hn::Zero(d))), d, values);
        for (std::size_t k = 0; k < count; ++k) to[(i + k) * source] = values[k];
      });
    });
  }
}

// ---- in log space --------------------------------------------------------------------------------------------

// The terms log prior + log table of a row's cells, by occurrence.
template <class Body>
HWY_INLINE void ForTerms(const AlignmentText& text, const Block& block, std::size_t index, const float* log_table,
                         const Body& body) {
  const Cooccurrence& pattern = *text.pattern;
  const float* const row = log_table + pattern.row_offsets()[block.rows[index]];
  const bool diagonal = text.prior.parameters != nullptr;
  ForOccurrences(pattern, block, index, [&](const auto& o, const auto* cells, uint32_t first, std::size_t size) {
    const OccurrencePrior prior = diagonal ? occurrence_prior(text, block, o) : OccurrencePrior{};
    ForCells(row, cells, size, [&](std::size_t i, std::size_t count, Vec term) {
      Vec distance = hn::Zero(F32());
      if (diagonal) term = hn::Add(term, LogPrior(prior, i, &distance));
      body(first + i, count, term, distance, cells + i);
    });
  });
}

void LogSums(const SparseAlignmentForward& args, const Block& block, BlockSums& sums) {
  const F32 d;
  const auto tokens = static_cast<std::size_t>(block.target_tokens());
  sums.max.resize(tokens + kPadding);
  sums.sum.resize(tokens + kPadding);
  float* const max = sums.max.data();
  float* const sum = sums.sum.data();
  const AlignmentPrior& prior = args.text.prior;
  const Vec null_prior = hn::Set(d, prior.parameters == nullptr ? 0.0f : std::log(prior.parameters[0]));
  const auto null_term = [&](const uint32_t* words, std::size_t count) {
    return hn::Add(null_prior, GatherFirst(args.log_table, words, count));
  };
  ForNull(block, all_pairs(block), [&](std::size_t i, std::size_t count, const uint32_t* words) {
    hn::StoreU(null_term(words, count), d, max + i);
  });
  for (std::size_t r = 0; r < block.rows.size(); ++r) {
    ForTerms(args.text, block, r, args.log_table, [&](std::size_t i, std::size_t count, Vec term, Vec, const auto*) {
      Update(max + i, count, [&](Vec v) { return hn::Max(v, term); });
    });
  }
  // Nothing but -inf, +inf or NaN: terms are taken as they are.
  for (std::size_t i = 0; i < tokens; ++i) {
    if (!(std::abs(max[i]) < INFINITY)) max[i] = 0.0f;
  }
  ForNull(block, all_pairs(block), [&](std::size_t i, std::size_t count, const uint32_t* words) {
    hn::StoreU(Lanes::exp(hn::Sub(null_term(words, count), hn::LoadU(d, max + i))), d, sum + i);
  });
  for (std::size_t r = 0; r < block.rows.size(); ++r) {
    ForTerms(args.text, block, r, args.log_table, [&](std::size_t i, std::size_t count, Vec term, Vec, const auto*) {
      const Vec e = Lanes::exp(hn::Sub(term, LoadFirst(d, max + i, count, hn::Zero(d))));
      Update(sum + i, count, [&](Vec v) { return hn::Add(v, e); });
    });
  }
  for (std::size_t i = 0; i < tokens; i += hn::Lanes(d)) {
    hn::StoreU(hn::Add(hn::LoadU(d, max + i), Lanes::log(hn::LoadU(d, sum + i))), d, sum + i);
  }
}

void BlockForward(const SparseAlignmentForward& args, const Block& block, BlockSums& sums) {
  LogSums(args, block, sums);
  float* const tokens = args.token_log_marginal + block.first_target;
  if (args.pair_log_marginal != nullptr) PairLogMarginals(args.text, block, sums.sum.data(), args.pair_log_marginal);
  for (std::size_t p = 0; p < static_cast<std::size_t>(block.pairs()); ++p) {
    const float uniform =
        args.text.prior.parameters == nullptr ? std::log(static_cast<float>(block.source_length(p) + 1)) : 0.0f;
    for (uint32_t i = block.target_begin[p]; i < block.target_begin[p + 1]; ++i) tokens[i] = sums.sum[i] - uniform;
  }
}

void FillFactors(const SparseAlignmentBackward& args, const Block& block, WordFactors& factors) {
  const auto tokens = static_cast<std::size_t>(block.target_tokens());
  factors.log_sum.resize(tokens + kPadding);
  factors.g.resize(tokens + kPadding);
  for (std::size_t p = 0; p < static_cast<std::size_t>(block.pairs()); ++p) {
    const float uniform =
        args.text.prior.parameters == nullptr ? std::log(static_cast<float>(block.source_length(p) + 1)) : 0.0f;
    for (uint32_t i = block.target_begin[p]; i < block.target_begin[p + 1]; ++i) {
      factors.log_sum[i] = finite(args.token_log_marginal[block.first_target + i] + uniform);
      const float g = args.pair_g ? args.g[block.first_pair + static_cast<int64_t>(p)] : args.g[block.first_target + i];
      factors.g[i] = args.token_log_marginal[block.first_target + i] == -INFINITY ? 0.0f : g;
    }
  }
}

// Adds g times the posteriors of the cells of rows[begin] .. rows[end - 1] to their entries; returns the sum of these
// times their distance.
double AddGradients(const SparseAlignmentBackward& args, const Block& block, const WordFactors& factors, RowRange range,
                    RowSums& sums) {
  const F32 d;
  HWY_ALIGN float products[hn::MaxLanes(F32())];
  double distance_sum = 0;
  for (std::size_t r = range.begin; r < range.end; ++r) {
    RowAdder adder(sums, args.text.pattern->row_offsets(), block.rows[r], range);
    float* const d_row = adder.recent();
    ForTerms(args.text, block, r, args.log_table,
             [&](std::size_t i, std::size_t count, Vec term, Vec distance, const auto* cells) {
               const Vec p = Lanes::exp(hn::Sub(term, hn::LoadU(d, factors.log_sum.data() + i)));
               const Vec product = hn::Mul(p, hn::LoadU(d, factors.g.data() + i));
               hn::Store(product, d, products);
               for (std::size_t k = 0; k < count; ++k) d_row[cells[k]] += products[k];
               adder.added(count);
               if (args.d_prior != nullptr) {
                 hn::Store(hn::Mul(product, distance), d, products);
                 for (std::size_t k = 0; k < count; ++k) distance_sum += static_cast<double>(products[k]);
               }
             });
  }
  return distance_sum;
}

// ---- rows ----------------------------------------------------------------------------------------------------

// digamma(x) - of x > 0, as kernels/math/digamma.hpp; absolute error 2e-6 max(1, 1/x).
HWY_INLINE Vec Digamma(Vec x) {
  const F32 d;
  const Vec one = hn::Set(d, 1.0f);
  // 1/x apart: it is what a small x leaves.
  Vec below = hn::Div(one, x);
  x = hn::Add(x, one);
  const auto small = hn::Lt(x, hn::Set(d, 6.0f));
  Vec sum = hn::Zero(d);
  for (int k = 0; k < 5; ++k) sum = hn::Add(sum, hn::Div(one, hn::Add(x, hn::Set(d, static_cast<float>(k)))));
  below = hn::Add(below, hn::IfThenElseZero(small, sum));
  x = hn::IfThenElse(small, hn::Add(x, hn::Set(d, 5.0f)), x);
  const Vec inverse = hn::Div(one, x);
  const Vec y = hn::Mul(inverse, inverse);
  Vec p = hn::NegMulAdd(y, hn::Set(d, 1.0f / 252), hn::Set(d, 1.0f / 120));
  p = hn::NegMulAdd(y, p, hn::Set(d, 1.0f / 12));
  Vec result = hn::NegMulAdd(hn::Set(d, 0.5f), inverse, Lanes::log(x));
  result = hn::NegMulAdd(y, p, result);
  return hn::Sub(result, below);
}

void NormaliseRange(const NormaliseRows& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t row = begin; row < end; ++row) {
    const int64_t first = args.row_offsets[row];
    const int64_t size = args.row_offsets[row + 1] - first;
    const float* const counts = args.counts + first;
    float* const table = args.table + first;
    const double total = Total(counts, static_cast<std::size_t>(size));
    if (total == 0) {
      std::fill(table, table + size, 0.0f);
    } else if (args.alpha == 0) {
      const float factor = static_cast<float>(1 / total);
      for (int64_t i = 0; i < size; ++i) table[i] = counts[i] * factor;
    } else {
      const Vec alpha = hn::Set(d, args.alpha);
      const Vec log_total =
          hn::Set(d, static_cast<float>(digamma(total + static_cast<double>(args.alpha) * static_cast<double>(size))));
      for (int64_t i = 0; i < size; i += lanes) {
        const auto count = static_cast<std::size_t>(std::min(lanes, size - i));
        const Vec c = hn::Add(alpha, LoadFirst(d, counts + i, count, hn::Zero(d)));
        StoreFirst(d, Lanes::exp(hn::Sub(Digamma(c), log_total)), table + i, count);
      }
    }
  }
}

void LogSoftmaxRange(const LogSoftmaxRows& args, int64_t begin, int64_t end) {
  for (int64_t row = begin; row < end; ++row) {
    LogSum total;
    for (int64_t e = args.row_offsets[row]; e < args.row_offsets[row + 1]; ++e) total = add(total, args.x[e]);
    const float log_sum = total.log();
    for (int64_t e = args.row_offsets[row]; e < args.row_offsets[row + 1]; ++e) {
      args.y[e] = log_sum == -INFINITY ? -INFINITY : args.x[e] - log_sum;
    }
  }
}

void LogSoftmaxGradientRange(const LogSoftmaxRowsGradient& args, int64_t begin, int64_t end) {
  const F32 d;
  const auto lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t row = begin; row < end; ++row) {
    const int64_t first = args.row_offsets[row];
    const int64_t last = args.row_offsets[row + 1];
    double total = 0;
    for (int64_t e = first; e < last; ++e) {
      if (args.y[e] != -INFINITY) total += static_cast<double>(args.g[e]);
    }
    const Vec sum = hn::Set(d, static_cast<float>(total));
    for (int64_t e = first; e < last; e += lanes) {
      const auto count = static_cast<std::size_t>(std::min(lanes, last - e));
      const Vec y = LoadFirst(d, args.y + e, count, hn::Zero(d));
      const Vec g = LoadFirst(d, args.g + e, count, hn::Zero(d));
      const auto none = hn::Eq(y, hn::Set(d, -std::numeric_limits<float>::infinity()));
      StoreFirst(d, hn::IfThenZeroElse(none, hn::NegMulAdd(Lanes::exp(y), sum, g)), args.dx + e, count);
    }
  }
}

}  // namespace
}  // namespace dgm::kernels::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace dgm::kernels {

HWY_EXPORT(CountsForward);
HWY_EXPORT(AddWeights);
HWY_EXPORT(BlockPosteriors);
HWY_EXPORT(BlockForward);
HWY_EXPORT(FillFactors);
HWY_EXPORT(AddGradients);
HWY_EXPORT(NormaliseRange);
HWY_EXPORT(LogSoftmaxRange);
HWY_EXPORT(LogSoftmaxGradientRange);

namespace {

int64_t block_count(const AlignmentText& text) { return static_cast<int64_t>(text.pattern->blocks().size()); }

RowRange rows_of(const Block& block, const Cooccurrence::Task& task, int64_t first_entry) {
  const auto begin = std::lower_bound(block.rows.begin(), block.rows.end(), task.row_begin);
  const auto end = std::lower_bound(begin, block.rows.end(), task.row_end);
  return {static_cast<std::size_t>(begin - block.rows.begin()), static_cast<std::size_t>(end - block.rows.begin()),
          task.row_begin, first_entry};
}

// Sums by rows: add_rows(task, block, rows, sums) for all rows and blocks, add_null(task, block, sums) for NULL's; then
// finish(first entry, sums, entries). One thread adds up a row, or each part of one.
template <class AddNull, class AddRows, class Finish>
void sum_by_rows(const Cooccurrence& pattern, const AddNull& add_null, const AddRows& add_rows, const Finish& finish) {
  const auto& tasks = pattern.tasks();
  const auto& offsets = pattern.row_offsets();
  std::vector<std::vector<double>> parts(static_cast<std::size_t>(pattern.task_parts()));
  std::vector<RowSums> of_thread(static_cast<std::size_t>(cpu_threads()));
  cpu::parallel_tasks(static_cast<int64_t>(tasks.size()), [&](int64_t t, int thread) {
    const Cooccurrence::Task& task = tasks[t];
    const int64_t first = offsets[task.row_begin];
    RowSums& sums = of_thread[thread];
    sums.begin(task.row_end - task.row_begin, offsets[task.row_end] - first);
    for (int32_t b = task.block_begin; b < task.block_end; ++b) {
      const Block& block = pattern.blocks()[b];
      if (task.row_begin == 0) {
        add_null(t, b, sums.total.data());
      } else {
        add_rows(t, b, rows_of(block, task, first), sums);
      }
    }
    for (std::size_t i = 0; i < sums.total.size(); ++i) sums.total[i] += static_cast<double>(sums.recent[i]);
    if (task.part < 0) {
      finish(first, sums.total.data(), static_cast<int64_t>(sums.total.size()));
    } else {
      parts[task.part] = sums.total;
    }
  });
  // The parts of a divided row, in order; entries are independent.
  for (std::size_t t = 0; t < tasks.size();) {
    if (tasks[t].part < 0) {
      ++t;
      continue;
    }
    std::size_t end = t + 1;
    while (end < tasks.size() && tasks[end].part >= 0 && tasks[end].row_begin == tasks[t].row_begin) ++end;
    const int64_t first = offsets[tasks[t].row_begin];
    cpu::parallel_ranges(offsets[tasks[t].row_end] - first, 1 << 14, [&](int64_t begin, int64_t stop, int) {
      double* const sums = parts[tasks[t].part].data();
      for (std::size_t other = t + 1; other < end; ++other) {
        const double* const more = parts[tasks[other].part].data();
        for (int64_t i = begin; i < stop; ++i) sums[i] += more[i];
      }
      finish(first + begin, sums + begin, stop - begin);
    });
    t = end;
  }
}

}  // namespace

void run_cpu(const SparseAlignmentPrior& args) {
  const AlignmentPrior& prior = args.text.prior;
  const double p0 = static_cast<double>(prior.parameters[0]);
  const double tension = static_cast<double>(prior.parameters[1]);
  const auto& lengths = args.text.pattern->lengths();
  cpu::parallel_ranges(static_cast<int64_t>(lengths.size()), 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t l = begin; l < end; ++l) {
      const Cooccurrence::Lengths& of = lengths[l];
      for (int64_t i = 1; i <= of.target; ++i) {
        const int64_t at = of.first_position + i - 1;
        const DiagonalSum sum = of.source > 0 ? diagonal_sum(i, of.target, of.source, tension) : DiagonalSum{1, 0};
        prior.log_factor[at] = static_cast<float>(std::log((1 - p0) / sum.sum));
        prior.distance[at] = static_cast<float>(sum.distance);
        prior.place[at] = static_cast<float>(i) / static_cast<float>(of.target);
      }
    }
  });
  for (int64_t i = 0; i < kPadding; ++i) {
    prior.log_factor[args.text.pattern->positions() + i] = 0.0f;
    prior.place[args.text.pattern->positions() + i] = 0.0f;
  }
}

void run_cpu(const SparseAlignmentCounts& args) {
  const auto forward = HWY_DYNAMIC_DISPATCH(CountsForward);
  const auto add_weights = HWY_DYNAMIC_DISPATCH(AddWeights);
  const Cooccurrence& pattern = *args.text.pattern;
  std::vector<BlockSums> sums(static_cast<std::size_t>(cpu_threads()));
  std::vector<BlockTotals> totals(pattern.blocks().size());
  cpu::parallel_tasks(block_count(args.text),
                      [&](int64_t b, int thread) { forward(args, pattern.blocks()[b], sums[thread], totals[b]); });
  for (const BlockTotals& block : totals) {
    args.totals[0] += block.log_marginal;
    args.totals[1] += block.null_count;
    args.totals[2] += block.distance;
  }
  const float null_prior = args.text.prior.parameters == nullptr ? 1.0f : args.text.prior.parameters[0];
  sum_by_rows(
      pattern,
      [&](int64_t, int32_t b, double* sum) {
        const Block& block = pattern.blocks()[b];
        const float* const weights = args.weights + block.first_target;
        for (std::size_t i = 0; i < block.target_words.size(); ++i)
          sum[block.target_words[i]] += static_cast<double>(null_prior * weights[i]);
      },
      [&](int64_t, int32_t b, RowRange rows, RowSums& sum) { add_weights(args, pattern.blocks()[b], rows, sum); },
      [&](int64_t first, const double* sum, int64_t size) {
        for (int64_t i = 0; i < size; ++i) args.counts[first + i] += static_cast<float>(sum[i]) * args.table[first + i];
      });
}

void run_cpu(const SparseAlignmentPosteriors& args) {
  const auto posteriors = HWY_DYNAMIC_DISPATCH(BlockPosteriors);
  const Cooccurrence& pattern = *args.text.pattern;
  struct Task {
    const Block* block;
    PairRange pairs;
    int64_t first_cell;
  };
  // Every row of a block is looked at for each of its tasks, so few of them.
  constexpr int64_t kCellsPerTask = 1 << 17;
  std::vector<Task> tasks;
  int64_t cells = 0;
  for (const Block& block : pattern.blocks()) {
    const auto first = static_cast<uint32_t>(std::clamp(args.first_pair - block.first_pair, int64_t{0}, block.pairs()));
    const auto last = static_cast<uint32_t>(std::clamp(args.last_pair - block.first_pair, int64_t{0}, block.pairs()));
    for (uint32_t p = first; p < last; ++p) {
      if (p == first || cells - tasks.back().first_cell >= kCellsPerTask) tasks.push_back({&block, {p, p}, cells});
      tasks.back().pairs.end = p + 1;
      cells += int64_t{block.source_length(p)} * block.target_length(p);
    }
  }
  std::vector<BlockSums> sums(static_cast<std::size_t>(cpu_threads()));
  cpu::parallel_tasks(static_cast<int64_t>(tasks.size()), [&](int64_t t, int thread) {
    posteriors(args, *tasks[t].block, tasks[t].pairs, sums[thread], tasks[t].first_cell);
  });
}

void run_cpu(const SparseAlignmentForward& args) {
  const auto forward = HWY_DYNAMIC_DISPATCH(BlockForward);
  std::vector<BlockSums> sums(static_cast<std::size_t>(cpu_threads()));
  cpu::parallel_tasks(block_count(args.text),
                      [&](int64_t b, int thread) { forward(args, args.text.pattern->blocks()[b], sums[thread]); });
}

void run_cpu(const SparseAlignmentBackward& args) {
  const auto fill = HWY_DYNAMIC_DISPATCH(FillFactors);
  const auto add_gradients = HWY_DYNAMIC_DISPATCH(AddGradients);
  const Cooccurrence& pattern = *args.text.pattern;
  const AlignmentPrior& prior = args.text.prior;
  std::vector<WordFactors> factors(pattern.blocks().size());
  cpu::parallel_tasks(block_count(args.text), [&](int64_t b, int) { fill(args, pattern.blocks()[b], factors[b]); });
  if (args.d_table != nullptr) std::fill(args.d_table, args.d_table + pattern.entries(), 0.0f);

  struct PriorSums {
    double distance = 0;    // sum g p(j) |i/m - j/n| - g (1 - p(NULL)) mean distance
    double null_ratio = 0;  // sum g p(NULL) / p0
    double rest = 0;        // sum g (1 - p(NULL)) / (1 - p0)
  };
  std::vector<PriorSums> of_task(pattern.tasks().size());
  const float p0 = prior.parameters == nullptr ? 1.0f : prior.parameters[0];
  sum_by_rows(
      pattern,
      [&](int64_t t, int32_t b, double* sum) {
        const Block& block = pattern.blocks()[b];
        for (std::size_t p = 0; p < static_cast<std::size_t>(block.pairs()); ++p) {
          const int64_t pair = block.first_pair + static_cast<int64_t>(p);
          const float* const distance =
              prior.parameters == nullptr
                  ? nullptr
                  : prior.distance + pattern.lengths()[pattern.pair_lengths()[pair]].first_position;
          for (uint32_t i = block.target_begin[p]; i < block.target_begin[p + 1]; ++i) {
            const int32_t word = block.target_words[i];
            const float g = factors[b].g[i];
            const float ratio = std::exp(args.log_table[word] - factors[b].log_sum[i]);
            sum[word] += static_cast<double>(g * p0 * ratio);
            if (distance == nullptr || g == 0.0f) continue;
            const double rest = static_cast<double>(g) * (1.0 - static_cast<double>(p0 * ratio));
            of_task[t].null_ratio += static_cast<double>(g * ratio);
            of_task[t].rest += rest;
            of_task[t].distance -= rest * static_cast<double>(distance[i - block.target_begin[p]]);
          }
        }
      },
      [&](int64_t t, int32_t b, RowRange rows, RowSums& sum) {
        of_task[t].distance += add_gradients(args, pattern.blocks()[b], factors[b], rows, sum);
      },
      [&](int64_t first, const double* sum, int64_t size) {
        if (args.d_table == nullptr) return;
        for (int64_t i = 0; i < size; ++i) args.d_table[first + i] = static_cast<float>(sum[i]);
      });
  if (args.d_prior == nullptr) return;
  PriorSums total;
  for (const PriorSums& task : of_task) {
    total.distance += task.distance;
    total.null_ratio += task.null_ratio;
    total.rest += task.rest;
  }
  args.d_prior[0] = static_cast<float>(total.null_ratio - total.rest / (1.0 - static_cast<double>(p0)));
  args.d_prior[1] = static_cast<float>(-total.distance);
}

namespace {

// Log priors of a word's source positions by the index: j = 0 is NULL.
struct TokenPrior {
  float null = 0, log_factor = 0, place = 0, tension = 0, width = 0;
  float operator()(int64_t j) const {
    return j == 0 ? null : log_factor - tension * std::abs(place - static_cast<float>(j) * width);
  }
};

TokenPrior token_prior(const AlignmentText& text, int64_t pair, int64_t i, int64_t source) {
  const AlignmentPrior& prior = text.prior;
  if (prior.parameters == nullptr) {
    const float uniform = -std::log(static_cast<float>(source + 1));
    return {uniform, uniform};
  }
  const int64_t position = text.index.pair_position[pair] + i;
  return {std::log(prior.parameters[0]), prior.log_factor[position], prior.place[position], prior.parameters[1],
          1.0f / static_cast<float>(source)};
}

// Calls body(token, prior, source words, the token's cell of NULL, the stride to the next source word's).
template <class Body>
void for_each_token(const AlignmentText& text, const Body& body) {
  const AlignmentIndex& index = text.index;
  cpu::parallel_ranges(index.pairs, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t pair = begin; pair < end; ++pair) {
      const int64_t source = index.source_begin[pair + 1] - index.source_begin[pair];
      const int64_t size = index.target_begin[pair + 1] - index.target_begin[pair];
      for (int64_t i = 0; i < size; ++i) {
        body(index.target_begin[pair] + i, token_prior(text, pair, i, source), source,
             index.cell_entry + index.cell_begin[pair] + i, size);
      }
    }
  });
}

}  // namespace

void run_cpu(const SparseAlignmentSample& args) {
  for_each_token(args.text, [&](int64_t token, const TokenPrior& prior, int64_t source, const int32_t* cell,
                                int64_t stride) {
    LogSum total;
    for (int64_t j = 0; j <= source; ++j) total = add(total, args.log_table[cell[j * stride]] + prior(j));
    int32_t* const z = args.z + token * args.samples;
    if (!(total.sum > 0.0f) || !(total.max < INFINITY)) {
      std::fill(z, z + args.samples, -1);
      return;
    }
    PhiloxWords words = {};
    for (int64_t s = 0; s < args.samples; ++s) {
      if (s % 4 == 0) {
        words = draw_words(args.draws.seed, {args.draws.site, static_cast<uint64_t>(token),
                                             static_cast<uint64_t>(*args.draws.step), static_cast<uint32_t>(s / 4)});
      }
      const float target = uniform_from_word(words.w[s % 4]) * total.sum;
      float below = 0.0f;
      z[s] = -1;
      for (int64_t j = 0; j <= source; ++j) {
        const float mass = std::exp(args.log_table[cell[j * stride]] + prior(j) - total.max);
        if (!(mass > 0.0f)) continue;
        below += mass;
        z[s] = static_cast<int32_t>(j);  // stands if rounding keeps the target out of reach
        if (below >= target) break;
      }
    }
  });
}

void run_cpu(const SparseAlignmentPick& args) {
  for_each_token(args.text,
                 [&](int64_t token, const TokenPrior& prior, int64_t source, const int32_t* cell, int64_t stride) {
                   for (int64_t s = token * args.samples; s < (token + 1) * args.samples; ++s) {
                     const int64_t j = args.z[s];
                     const bool inside = j >= 0 && j <= source;
                     args.entries[s] = inside ? cell[j * stride] : -1;
                     args.log_prior[s] = inside ? prior(j) : -INFINITY;
                   }
                 });
}

namespace {

// Calls body(begin, end) for ranges of rows with about as many entries.
template <class Body>
void for_each_rows(const int64_t* row_offsets, int64_t rows, const Body& body) {
  constexpr int64_t kEntriesPerTask = 1 << 15;
  std::vector<int64_t> begin = {0};
  for (int64_t row = 1; row < rows; ++row) {
    if (row_offsets[row] - row_offsets[begin.back()] >= kEntriesPerTask) begin.push_back(row);
  }
  begin.push_back(rows);
  cpu::parallel_tasks(static_cast<int64_t>(begin.size()) - 1, [&](int64_t t, int) { body(begin[t], begin[t + 1]); });
}

}  // namespace

void run_cpu(const NormaliseRows& args) {
  const auto normalise = HWY_DYNAMIC_DISPATCH(NormaliseRange);
  for_each_rows(args.row_offsets, args.rows, [&](int64_t begin, int64_t end) { normalise(args, begin, end); });
}

void run_cpu(const LogSoftmaxRows& args) {
  const auto softmax = HWY_DYNAMIC_DISPATCH(LogSoftmaxRange);
  for_each_rows(args.row_offsets, args.rows, [&](int64_t begin, int64_t end) { softmax(args, begin, end); });
}

void run_cpu(const LogSoftmaxRowsGradient& args) {
  const auto gradient = HWY_DYNAMIC_DISPATCH(LogSoftmaxGradientRange);
  for_each_rows(args.row_offsets, args.rows, [&](int64_t begin, int64_t end) { gradient(args, begin, end); });
}

}  // namespace dgm::kernels
#endif  // HWY_ONCE
