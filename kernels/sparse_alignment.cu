// SPDX-License-Identifier: Apache-2.0
// log p(x | y) = sum_i log sum_j prior(i, j) t(x_i | y_j) over ragged pairs and a sparse table, its gradient, the
// expected counts of EM, posteriors and samples.
//
// Mapping    sums over j: a thread a target word, neighbours in neighbouring threads. Sums over the cells of an
//            entry: a thread an entry of up to 64 cells; longer ones in parts of 1024, a warp a part.
// Algorithm  each cell is read twice, once in the order of pairs and once in that of entries (a transposed index):
//            no atomics. The log-space forward is one pass over (max, sum of exp(x - max)) pairs.
// Traffic    an EM iteration, uniform prior: 4 bytes a cell for its entry and one 32-byte L2 sector for the table,
//            then 4 for its word and one sector for the word's weight; 12 bytes an entry, 8 a target word. Bound
//            by L2 sectors: 2 a cell less what neighbours share. Multi30k, 5.5 M cells: 11 M sectors, 64 us at 172 G
//            sectors/s, 44 MB of indices (in L2 or 10 us of HBM). Under the diagonal prior the second sector holds
//            what the prior needs of the word; 4 more bytes a cell for j.
// Order      fixed by the text: equal input gives equal bits.
#include "kernels/sparse_alignment.hpp"

#include "kernels/device/mixture.cuh"
#include "kernels/math/diagonal_prior.hpp"
#include "kernels/math/digamma.hpp"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;
constexpr int kWarps = kThreads / cuda::kWarp;
constexpr int64_t kTotalBlocks = 512;  // of kernels that leave a total a block

// A target word: its pair, sentence lengths, and its log priors over source places; j = 0 is NULL.
struct Word {
  int64_t pair, i, source, target;
  float null_prior, log_factor, place, tension, width;

  __device__ Word(const AlignmentText& text, int64_t token) {
    const AlignmentIndex& index = text.index;
    pair = index.token_pair[token];
    i = token - index.target_begin[pair];
    target = index.target_begin[pair + 1] - index.target_begin[pair];
    source = index.source_begin[pair + 1] - index.source_begin[pair];
    tension = place = width = 0.0f;
    if (text.prior.parameters == nullptr) {
      null_prior = log_factor = -logf(static_cast<float>(source + 1));
    } else {
      const int64_t position = index.pair_position[pair] + i;
      null_prior = logf(text.prior.parameters[0]);
      log_factor = text.prior.log_factor[position];
      place = text.prior.place[position];
      tension = text.prior.parameters[1];
      width = source > 0 ? 1.0f / static_cast<float>(source) : 0.0f;
    }
  }
  __device__ float distance(int64_t j) const { return fabsf(place - static_cast<float>(j) * width); }
  __device__ float log_prior(int64_t j) const { return j == 0 ? null_prior : log_factor - tension * distance(j); }
  __device__ const int32_t* cells(const AlignmentIndex& index) const {
    return index.cell_entry + index.cell_begin[pair] + i;
  }
};

// What the cells of an entry read of a word: one sector.
struct __align__(32) WordFactors {
  float log_marginal, g, null_prior, log_factor, place, width, tension, unused;
};

template <class Body>
__device__ void for_each_item(int64_t size, const Body& body) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t n = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; n < size; n += stride) body(n);
}

__global__ void __launch_bounds__(kThreads) prior_kernel(SparseAlignmentPrior args) {
  const AlignmentIndex& index = args.text.index;
  const AlignmentPrior& prior = args.text.prior;
  const double p0 = static_cast<double>(prior.parameters[0]);
  const double tension = static_cast<double>(prior.parameters[1]);
  for_each_item(index.positions, [&](int64_t n) {
    const int32_t* const at = index.position_lengths + 3 * n;
    const DiagonalSum sum = at[2] > 0 ? diagonal_sum(at[0], at[1], at[2], tension) : DiagonalSum{1, 0};
    prior.log_factor[n] = static_cast<float>(log((1 - p0) / sum.sum));
    prior.distance[n] = static_cast<float>(sum.distance);
    prior.place[n] = static_cast<float>(at[0]) / static_cast<float>(at[1]);
  });
}

__global__ void __launch_bounds__(kThreads) forward_kernel(SparseAlignmentForward args) {
  for_each_item(args.text.index.tokens, [&](int64_t token) {
    const Word word(args.text, token);
    const int32_t* const cells = word.cells(args.text.index);
    LogSum total;
    for (int64_t j = 0; j <= word.source; ++j)
      total = add(total, args.log_table[cells[j * word.target]] + word.log_prior(j));
    args.token_log_marginal[token] = total.log();
  });
}

// pair_log_marginal = sum over its words of value(token); a warp a pair. With totals, each block leaves its sum.
template <class Value>
__device__ void sum_pairs(const AlignmentIndex& index, float* pair_log_marginal, double* block_totals, double* room,
                          const Value& value) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  double total = 0;
  for (int64_t pair = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; pair < index.pairs;
       pair += int64_t{gridDim.x} * kWarps) {
    double sum = 0;
    for (int64_t t = index.target_begin[pair] + lane; t < index.target_begin[pair + 1]; t += cuda::kWarp) {
      sum += static_cast<double>(value(t, pair));
    }
    sum = cuda::warp_sum(sum);
    if (lane == 0) {
      pair_log_marginal[pair] = static_cast<float>(sum);
      total += sum;
    }
  }
  if (block_totals != nullptr) {
    total = cuda::block_sum(total, room);
    if (threadIdx.x == 0) block_totals[blockIdx.x] = total;
  }
}

__global__ void __launch_bounds__(kThreads) pair_kernel(SparseAlignmentForward args) {
  sum_pairs(args.text.index, args.pair_log_marginal, nullptr, nullptr,
            [&](int64_t token, int64_t) { return args.token_log_marginal[token]; });
}

// ---- sums over the cells of an entry -------------------------------------------------------------------------

// term(entry, cell) summed over the cells of entries of up to kLongEntry; finish(entry, sum) once.
template <class Term, class Finish>
__device__ void sum_short_entries(const AlignmentIndex& index, const Term& term, const Finish& finish) {
  for_each_item(index.entries, [&](int64_t entry) {
    const int64_t begin = index.entry_begin[entry];
    const int64_t end = index.entry_begin[entry + 1];
    if (end - begin > kLongEntry) return;
    float sum = 0.0f;
    for (int64_t cell = begin; cell < end; ++cell) sum += term(entry, cell);
    finish(entry, sum);
  });
}

// Sums of the parts of long entries; a warp a part. entry_of finds the entry of a part by bisection.
template <class Term>
__device__ void sum_parts(const AlignmentIndex& index, float* part_sums, const Term& term) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  for (int64_t part = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; part < index.parts;
       part += int64_t{gridDim.x} * kWarps) {
    int64_t low = 0;
    int64_t high = index.long_entries - 1;
    while (low < high) {
      const int64_t middle = (low + high + 1) / 2;
      if (index.long_part[middle] <= part) {
        low = middle;
      } else {
        high = middle - 1;
      }
    }
    const int64_t entry = index.long_entry[low];
    float sum = 0.0f;
    for (int64_t cell = index.part_begin[2 * part] + lane; cell < index.part_begin[2 * part + 1]; cell += cuda::kWarp) {
      sum += term(entry, cell);
    }
    sum = cuda::warp_sum(sum);
    if (lane == 0) part_sums[part] = sum;
  }
}

template <class Finish>
__device__ void finish_long_entries(const AlignmentIndex& index, const float* part_sums, const Finish& finish) {
  for_each_item(index.long_entries, [&](int64_t n) {
    double sum = 0;
    for (int64_t part = index.long_part[n]; part < index.long_part[n + 1]; ++part) {
      sum += static_cast<double>(part_sums[part]);
    }
    finish(index.long_entry[n], static_cast<float>(sum));
  });
}

// ---- gradient ------------------------------------------------------------------------------------------------

struct BackwardScratch {
  WordFactors* factors;
  float* part_sums;
  double* totals;  // (kTotalBlocks, 3)
  std::size_t bytes;

  BackwardScratch(const SparseAlignmentBackward& args, void* base) {
    cuda::Carver carver(base);
    factors = carver.take<WordFactors>(args.text.index.tokens);
    part_sums = carver.take<float>(args.text.index.parts);
    totals = carver.take<double>(kTotalBlocks * 3);
    bytes = carver.bytes();
  }
};

__global__ void __launch_bounds__(kThreads) factors_kernel(SparseAlignmentBackward args, WordFactors* factors) {
  for_each_item(args.text.index.tokens, [&](int64_t token) {
    const Word word(args.text, token);
    const float log_marginal = args.token_log_marginal[token];
    const bool none = log_marginal == -INFINITY;
    factors[token] = {none ? 3e38f : log_marginal,
                      none ? 0.0f : args.g[args.pair_g ? word.pair : token],
                      word.null_prior,
                      word.log_factor,
                      word.place,
                      word.width,
                      word.tension,
                      0.0f};
  });
}

struct GradientTerm {
  const SparseAlignmentBackward& args;
  const WordFactors* factors;
  __device__ float operator()(int64_t entry, int64_t cell) const {
    const WordFactors word = factors[args.text.index.cell_token[cell]];
    const int32_t j = args.text.index.cell_source[cell];
    const float prior = j == 0
                            ? word.null_prior
                            : word.log_factor - word.tension * fabsf(word.place - static_cast<float>(j) * word.width);
    return word.g * expf(args.log_table[entry] + prior - word.log_marginal);
  }
};

__global__ void __launch_bounds__(kThreads)
    short_gradient_kernel(SparseAlignmentBackward args, const WordFactors* factors) {
  sum_short_entries(args.text.index, GradientTerm{args, factors},
                    [&](int64_t entry, float sum) { args.d_table[entry] = sum; });
}

__global__ void __launch_bounds__(kThreads)
    part_gradient_kernel(SparseAlignmentBackward args, const WordFactors* factors, float* part_sums) {
  sum_parts(args.text.index, part_sums, GradientTerm{args, factors});
}

__global__ void __launch_bounds__(kThreads) long_gradient_kernel(SparseAlignmentBackward args, const float* part_sums) {
  finish_long_entries(args.text.index, part_sums, [&](int64_t entry, float sum) { args.d_table[entry] = sum; });
}

// Each block leaves three totals: the distance term, sum g p(NULL)/p0 and sum g (1 - p(NULL)).
__global__ void __launch_bounds__(kThreads)
    prior_gradient_kernel(SparseAlignmentBackward args, const WordFactors* factors, double* totals) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  const AlignmentIndex& index = args.text.index;
  double distance = 0;
  double null_ratio = 0;
  double rest = 0;
  for_each_item(index.tokens, [&](int64_t token) {
    const WordFactors factor = factors[token];
    if (factor.g == 0.0f) return;
    const Word word(args.text, token);
    const int32_t* const cells = word.cells(index);
    const float ratio = expf(args.log_table[cells[0]] - factor.log_marginal);
    const double other =
        static_cast<double>(factor.g) * (1.0 - static_cast<double>(args.text.prior.parameters[0] * ratio));
    float sum = 0.0f;
    for (int64_t j = 1; j <= word.source; ++j) {
      sum += word.distance(j) * expf(args.log_table[cells[j * word.target]] + word.log_prior(j) - factor.log_marginal);
    }
    const double mean = static_cast<double>(args.text.prior.distance[index.pair_position[word.pair] + word.i]);
    distance += static_cast<double>(factor.g) * static_cast<double>(sum) - other * mean;
    null_ratio += static_cast<double>(factor.g * ratio);
    rest += other;
  });
  distance = cuda::block_sum(distance, room);
  null_ratio = cuda::block_sum(null_ratio, room);
  rest = cuda::block_sum(rest, room);
  if (threadIdx.x == 0) {
    totals[3 * blockIdx.x] = distance;
    totals[3 * blockIdx.x + 1] = null_ratio;
    totals[3 * blockIdx.x + 2] = rest;
  }
}

// One block: the sum of what `blocks` blocks left in column `column` of three.
__device__ double column_total(const double* totals, int blocks, int column, double* room) {
  double sum = 0;
  for (int b = static_cast<int>(threadIdx.x); b < blocks; b += kThreads) sum += totals[3 * b + column];
  return cuda::block_sum(sum, room);
}

__global__ void __launch_bounds__(kThreads)
    finish_prior_gradient_kernel(SparseAlignmentBackward args, const double* totals, int blocks) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  const double distance = column_total(totals, blocks, 0, room);
  const double null_ratio = column_total(totals, blocks, 1, room);
  const double rest = column_total(totals, blocks, 2, room);
  if (threadIdx.x == 0) {
    args.d_prior[0] =
        static_cast<float>(null_ratio - rest / (1.0 - static_cast<double>(args.text.prior.parameters[0])));
    args.d_prior[1] = static_cast<float>(-distance);
  }
}

// ---- expected counts -----------------------------------------------------------------------------------------

struct CountsScratch {
  float* part_sums;
  double* totals;       // (kTotalBlocks, 3): NULL's count, distance, nothing
  double* pair_totals;  // (kTotalBlocks)
  std::size_t bytes;

  CountsScratch(const SparseAlignmentCounts& args, void* base) {
    cuda::Carver carver(base);
    part_sums = carver.take<float>(args.text.index.parts);
    totals = carver.take<double>(kTotalBlocks * 3);
    pair_totals = carver.take<double>(kTotalBlocks);
    bytes = carver.bytes();
  }
};

// The sum of a word's terms, without the uniform prior's factor, and its parts.
struct WordSum {
  float sum, null, distance;
};

template <bool kDiagonal>
__device__ float linear_prior(const Word& word, int64_t j) {
  return kDiagonal ? expf(word.log_prior(j)) : 1.0f;
}

template <bool kDiagonal>
__device__ WordSum linear_sum(const Word& word, const int32_t* cells, const float* table) {
  const float null = table[cells[0]] * linear_prior<kDiagonal>(word, 0);
  WordSum result = {null, null, 0.0f};
  for (int64_t j = 1; j <= word.source; ++j) {
    const float term = table[cells[j * word.target]] * linear_prior<kDiagonal>(word, j);
    result.sum += term;
    if (kDiagonal) result.distance += term * word.distance(j);
  }
  return result;
}

template <bool kDiagonal>
__global__ void __launch_bounds__(kThreads) weights_kernel(SparseAlignmentCounts args, double* totals) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  double null_count = 0;
  double distance = 0;
  for_each_item(args.text.index.tokens, [&](int64_t token) {
    const Word word(args.text, token);
    const WordSum sum = linear_sum<kDiagonal>(word, word.cells(args.text.index), args.table);
    const float weight = sum.sum == 0.0f ? 0.0f : 1.0f / sum.sum;
    args.weights[token] = weight;
    null_count += static_cast<double>(sum.null * weight);
    distance += static_cast<double>(sum.distance * weight);
  });
  null_count = cuda::block_sum(null_count, room);
  distance = cuda::block_sum(distance, room);
  if (threadIdx.x == 0) {
    totals[3 * blockIdx.x] = null_count;
    totals[3 * blockIdx.x + 1] = distance;
    totals[3 * blockIdx.x + 2] = 0;
  }
}

__global__ void __launch_bounds__(kThreads) count_pairs_kernel(SparseAlignmentCounts args, double* pair_totals) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  const AlignmentIndex& index = args.text.index;
  const bool uniform = args.text.prior.parameters == nullptr;
  sum_pairs(index, args.pair_log_marginal, pair_totals, room, [&](int64_t token, int64_t pair) {
    const float weight = args.weights[token];
    const float prior =
        uniform ? logf(static_cast<float>(index.source_begin[pair + 1] - index.source_begin[pair] + 1)) : 0.0f;
    return (weight == 0.0f ? -INFINITY : -logf(weight)) - prior;
  });
}

template <bool kDiagonal>
struct CountTerm {
  const SparseAlignmentCounts& args;
  __device__ float operator()(int64_t, int64_t cell) const {
    const int32_t token = args.text.index.cell_token[cell];
    const float weight = args.weights[token];
    if constexpr (!kDiagonal) return weight;
    const Word word(args.text, token);
    return weight * expf(word.log_prior(args.text.index.cell_source[cell]));
  }
};

template <bool kDiagonal>
__global__ void __launch_bounds__(kThreads) short_counts_kernel(SparseAlignmentCounts args) {
  sum_short_entries(args.text.index, CountTerm<kDiagonal>{args},
                    [&](int64_t entry, float sum) { args.counts[entry] += sum * args.table[entry]; });
}

template <bool kDiagonal>
__global__ void __launch_bounds__(kThreads) part_counts_kernel(SparseAlignmentCounts args, float* part_sums) {
  sum_parts(args.text.index, part_sums, CountTerm<kDiagonal>{args});
}

__global__ void __launch_bounds__(kThreads) long_counts_kernel(SparseAlignmentCounts args, const float* part_sums) {
  finish_long_entries(args.text.index, part_sums,
                      [&](int64_t entry, float sum) { args.counts[entry] += sum * args.table[entry]; });
}

__global__ void __launch_bounds__(kThreads) totals_kernel(SparseAlignmentCounts args, const double* totals, int blocks,
                                                          const double* pair_totals, int pair_blocks) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  double log_marginal = 0;
  for (int b = static_cast<int>(threadIdx.x); b < pair_blocks; b += kThreads) log_marginal += pair_totals[b];
  log_marginal = cuda::block_sum(log_marginal, room);
  const double null_count = column_total(totals, blocks, 0, room);
  const double distance = column_total(totals, blocks, 1, room);
  if (threadIdx.x == 0) {
    args.totals[0] += log_marginal;
    args.totals[1] += null_count;
    args.totals[2] += distance;
  }
}

// ---- posteriors, samples, rows -------------------------------------------------------------------------------

template <bool kDiagonal>
__global__ void __launch_bounds__(kThreads) posteriors_kernel(SparseAlignmentPosteriors args) {
  const AlignmentIndex& index = args.text.index;
  // NULL's cells are not among the posteriors.
  const int64_t first = index.cell_begin[args.first_pair] - index.target_begin[args.first_pair];
  for_each_item(args.last_token - args.first_token, [&](int64_t item) {
    const Word word(args.text, args.first_token + item);
    const int32_t* const cells = word.cells(index);
    const float sum = linear_sum<kDiagonal>(word, cells, args.table).sum;
    const float weight = sum == 0.0f ? 0.0f : 1.0f / sum;
    float* const to =
        args.posteriors + (index.cell_begin[word.pair] - index.target_begin[word.pair] - first + word.i * word.source);
    for (int64_t j = 1; j <= word.source; ++j) {
      to[j - 1] = args.table[cells[j * word.target]] * linear_prior<kDiagonal>(word, j) * weight;
    }
  });
}

__global__ void __launch_bounds__(kThreads) sample_kernel(SparseAlignmentSample args) {
  const AlignmentIndex& index = args.text.index;
  for_each_item(index.tokens, [&](int64_t token) {
    const Word word(args.text, token);
    const int32_t* const cells = word.cells(index);
    LogSum total;
    for (int64_t j = 0; j <= word.source; ++j)
      total = add(total, args.log_table[cells[j * word.target]] + word.log_prior(j));
    const bool none = !(total.sum > 0.0f) || !(total.max < INFINITY);
    for (int64_t s = 0; s < args.samples; ++s) {
      int32_t z = -1;
      if (!none) {
        const float target = cuda::draw_uniform(args.draws, static_cast<uint64_t>(token), s) * total.sum;
        float below = 0.0f;
        for (int64_t j = 0; j <= word.source && !(z >= 0 && below >= target); ++j) {
          const float mass = expf(args.log_table[cells[j * word.target]] + word.log_prior(j) - total.max);
          if (!(mass > 0.0f)) continue;
          below += mass;
          z = static_cast<int32_t>(j);  // stands if rounding keeps the target out of reach
        }
      }
      args.z[token * args.samples + s] = z;
    }
  });
}

__global__ void __launch_bounds__(kThreads) pick_kernel(SparseAlignmentPick args) {
  for_each_item(args.text.index.tokens * args.samples, [&](int64_t n) {
    const Word word(args.text, n / args.samples);
    const int64_t j = args.z[n];
    const bool inside = j >= 0 && j <= word.source;
    args.entries[n] = inside ? word.cells(args.text.index)[j * word.target] : -1;
    args.log_prior[n] = inside ? word.log_prior(j) : -INFINITY;
  });
}

// A block a row.
template <bool kBayes>
__global__ void __launch_bounds__(kThreads) normalise_kernel(NormaliseRows args) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t begin = args.row_offsets[row];
    const int64_t end = args.row_offsets[row + 1];
    double total = 0;
    for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) total += static_cast<double>(args.counts[e]);
    total = cuda::block_sum(total, room);
    const bool none = total == 0;
    if constexpr (kBayes) {
      const auto alpha = static_cast<double>(args.alpha);
      total = digamma(total + alpha * static_cast<double>(end - begin));
      for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) {
        const auto below = static_cast<float>(digamma(static_cast<double>(args.counts[e]) + alpha) - total);
        args.table[e] = none ? 0.0f : expf(below);
      }
    } else {
      const float factor = none ? 0.0f : static_cast<float>(1 / total);
      for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) args.table[e] = args.counts[e] * factor;
    }
  }
}

// The largest term of a row first: its sum of exponentials is then added up like that of counts.
__global__ void __launch_bounds__(kThreads) log_softmax_kernel(LogSoftmaxRows args) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t begin = args.row_offsets[row];
    const int64_t end = args.row_offsets[row + 1];
    float max = -INFINITY;
    for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) max = fmaxf(max, args.x[e]);
    max = cuda::block_max(max, reinterpret_cast<float*>(room));
    const float shift = fabsf(max) < INFINITY ? max : 0.0f;
    double sum = 0;
    for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) sum += static_cast<double>(expf(args.x[e] - shift));
    sum = cuda::block_sum(sum, room);
    const float log_sum = shift + logf(static_cast<float>(sum));
    for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) {
      args.y[e] = sum == 0 ? -INFINITY : args.x[e] - log_sum;
    }
  }
}

__global__ void __launch_bounds__(kThreads) log_softmax_gradient_kernel(LogSoftmaxRowsGradient args) {
  cuda::SharedMemory smem;
  double* const room = smem.take<double>(kWarps);
  for (int64_t row = blockIdx.x; row < args.rows; row += gridDim.x) {
    const int64_t begin = args.row_offsets[row];
    const int64_t end = args.row_offsets[row + 1];
    double total = 0;
    for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) {
      if (args.y[e] != -INFINITY) total += static_cast<double>(args.g[e]);
    }
    const float sum = static_cast<float>(cuda::block_sum(total, room));
    for (int64_t e = begin + threadIdx.x; e < end; e += kThreads) {
      args.dx[e] = args.y[e] == -INFINITY ? 0.0f : args.g[e] - expf(args.y[e]) * sum;
    }
  }
}

constexpr std::size_t kRoom = cuda::SharedMemory::bytes<double>(kWarps);

unsigned item_blocks(int64_t items) { return cuda::blocks_for(items, kThreads, 1 << 20); }
unsigned total_blocks(int64_t items, int64_t each) { return cuda::blocks_for(items, each, kTotalBlocks); }
unsigned warp_blocks(int64_t warps) { return cuda::blocks_for(warps, kWarps, 1 << 20); }

template <bool kDiagonal>
void run_counts(const SparseAlignmentCounts& args, void* stream) {
  const AlignmentIndex& index = args.text.index;
  const CountsScratch scratch(args, args.scratch);
  const unsigned blocks = total_blocks(index.tokens, kThreads);
  const unsigned pair_blocks = total_blocks(index.pairs, kWarps);
  cuda::launch(weights_kernel<kDiagonal>, blocks, kThreads, kRoom, stream, args, scratch.totals);
  cuda::launch(count_pairs_kernel, pair_blocks, kThreads, kRoom, stream, args, scratch.pair_totals);
  cuda::launch(short_counts_kernel<kDiagonal>, item_blocks(index.entries), kThreads, 0, stream, args);
  if (index.parts > 0) {
    cuda::launch(part_counts_kernel<kDiagonal>, warp_blocks(index.parts), kThreads, 0, stream, args, scratch.part_sums);
    cuda::launch(long_counts_kernel, item_blocks(index.long_entries), kThreads, 0, stream, args, scratch.part_sums);
  }
  cuda::launch(totals_kernel, 1, kThreads, kRoom, stream, args, scratch.totals, static_cast<int>(blocks),
               scratch.pair_totals, static_cast<int>(pair_blocks));
}

}  // namespace

void run_cuda(const SparseAlignmentPrior& args, void* stream) {
  if (args.text.index.positions == 0) return;
  cuda::launch(prior_kernel, item_blocks(args.text.index.positions), kThreads, 0, stream, args);
}

void run_cuda(const SparseAlignmentForward& args, void* stream) {
  const AlignmentIndex& index = args.text.index;
  if (index.tokens > 0) cuda::launch(forward_kernel, item_blocks(index.tokens), kThreads, 0, stream, args);
  if (args.pair_log_marginal != nullptr && index.pairs > 0) {
    cuda::launch(pair_kernel, warp_blocks(index.pairs), kThreads, 0, stream, args);
  }
}

std::size_t cuda_scratch_bytes(const SparseAlignmentBackward& args) { return BackwardScratch(args, nullptr).bytes; }

void run_cuda(const SparseAlignmentBackward& args, void* stream) {
  const AlignmentIndex& index = args.text.index;
  const BackwardScratch scratch(args, args.scratch);
  if (index.tokens > 0) {
    cuda::launch(factors_kernel, item_blocks(index.tokens), kThreads, 0, stream, args, scratch.factors);
  }
  if (args.d_table != nullptr) {
    cuda::launch(short_gradient_kernel, item_blocks(index.entries), kThreads, 0, stream, args, scratch.factors);
    if (index.parts > 0) {
      cuda::launch(part_gradient_kernel, warp_blocks(index.parts), kThreads, 0, stream, args, scratch.factors,
                   scratch.part_sums);
      cuda::launch(long_gradient_kernel, item_blocks(index.long_entries), kThreads, 0, stream, args, scratch.part_sums);
    }
  }
  if (args.d_prior != nullptr) {
    const unsigned blocks = index.tokens > 0 ? total_blocks(index.tokens, kThreads) : 0;
    if (blocks > 0) {
      cuda::launch(prior_gradient_kernel, blocks, kThreads, kRoom, stream, args, scratch.factors, scratch.totals);
    }
    cuda::launch(finish_prior_gradient_kernel, 1, kThreads, kRoom, stream, args, scratch.totals,
                 static_cast<int>(blocks));
  }
}

std::size_t cuda_scratch_bytes(const SparseAlignmentCounts& args) { return CountsScratch(args, nullptr).bytes; }

void run_cuda(const SparseAlignmentCounts& args, void* stream) {
  if (args.text.index.pairs == 0 || args.text.index.tokens == 0) {
    if (args.text.index.pairs > 0) {
      DGM_CUDA_CHECK(cudaMemsetAsync(args.pair_log_marginal, 0,
                                     static_cast<std::size_t>(args.text.index.pairs) * sizeof(float),
                                     static_cast<cudaStream_t>(stream)));
    }
    return;
  }
  args.text.prior.parameters != nullptr ? run_counts<true>(args, stream) : run_counts<false>(args, stream);
}

void run_cuda(const SparseAlignmentPosteriors& args, void* stream) {
  const int64_t tokens = args.last_token - args.first_token;
  if (tokens == 0) return;
  const auto kernel = args.text.prior.parameters != nullptr ? posteriors_kernel<true> : posteriors_kernel<false>;
  cuda::launch(kernel, item_blocks(tokens), kThreads, 0, stream, args);
}

void run_cuda(const SparseAlignmentSample& args, void* stream) {
  if (args.text.index.tokens == 0) return;
  cuda::launch(sample_kernel, item_blocks(args.text.index.tokens), kThreads, 0, stream, args);
}

void run_cuda(const SparseAlignmentPick& args, void* stream) {
  if (args.text.index.tokens * args.samples == 0) return;
  cuda::launch(pick_kernel, item_blocks(args.text.index.tokens * args.samples), kThreads, 0, stream, args);
}

void run_cuda(const NormaliseRows& args, void* stream) {
  if (args.rows == 0) return;
  const auto kernel = args.alpha > 0.0f ? normalise_kernel<true> : normalise_kernel<false>;
  cuda::launch(kernel, cuda::blocks_for(args.rows, 1), kThreads, kRoom, stream, args);
}

void run_cuda(const LogSoftmaxRows& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(log_softmax_kernel, cuda::blocks_for(args.rows, 1), kThreads, kRoom, stream, args);
}

void run_cuda(const LogSoftmaxRowsGradient& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(log_softmax_gradient_kernel, cuda::blocks_for(args.rows, 1), kThreads, kRoom, stream, args);
}

}  // namespace dgm::kernels
