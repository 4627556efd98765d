// SPDX-License-Identifier: Apache-2.0
// Forward-backward of first-order alignment over a block of ragged sentence pairs.
//
// Mapping    one warp a pair, lanes over states; for lookups and sums one warp a row of the table, lanes over the
//            target words of a pair. Warps stride over pairs or rows.
// Algorithm  scaled sums in double precision: a step divides by its sum and keeps the logarithm. Backward variables
//            bound what was lost in rounding to zero; a pair that passes the bound is done again in logarithms, by one
//            thread of a second kernel. Expected jumps are one product over steps a pair of states.
// Traffic    a cell: 2 bytes of its entry, 4 of the table (random), 4 written and 3 x 4 read of its emission, 3 x 16 of
//            forward and backward variables (L2), 4 of its posterior. Arithmetic: 3 fp64 FMA a cell and state, 2 more
//            with counts. Floor for 30 M cells of 12 words a side on an H200 (4.3 TB/s, 33 T fp64 FMA/s): 0.5 ms of
//            memory and 0.05 ms of arithmetic a direction; lanes beyond the sentence idle, so expect 3 times that.
//            Independent words read a cell twice and write it once, 12 bytes: 0.1 ms for the same cells, 0.3 with the
//            product and the sums by entry. A text that is streamed adds 2 bytes a cell over PCIe: 1.2 ms at 50 GB/s.
// Order      sums over pairs are sums of whole numbers: equal bits, whatever the order.
#include "kernels/hmm_alignment.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"
#include "kernels/math/hmm.hpp"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 128;
constexpr int64_t kWarps = kThreads / cuda::kWarp;
constexpr double kScatterUnit = 1099511627776.0;  // 2^40

// Doubles vanish later than the weights of jumps do, which are floats: kHmmTrust holds here too.
constexpr double kFloor = 1e-200;

__device__ void add_fixed(int64_t* sum, double value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(llrint(value)));
}

__device__ double warp_max(double value) {
  for (int step = cuda::kWarp / 2; step > 0; step /= 2) {
    value = fmax(value, __shfl_xor_sync(cuda::kAllLanes, value, step));
  }
  return value;
}

// body(entry, cell) for the cells of one row of the pattern.
template <class Body>
__device__ void for_cells_of_row(const HmmBlock& block, const HmmPattern& pattern, int64_t r, int lane,
                                 const Body& body) {
  const int64_t row = pattern.row[r];
  const int64_t first = pattern.row_offsets[row];
  const bool wide = pattern.row_offsets[row + 1] - first > pattern.widest_narrow;
  int64_t from = pattern.row_cells[r];
  for (uint32_t o = pattern.row_begin[r]; o < pattern.row_begin[r + 1]; ++o) {
    const int64_t pair = pattern.occurrences[2 * static_cast<int64_t>(o)];
    const int64_t length = block.target_begin[pair + 1] - block.target_begin[pair];
    const int64_t to = block.cell_begin[pair] + pattern.occurrences[2 * static_cast<int64_t>(o) + 1] * length;
    for (int64_t i = lane; i < length; i += cuda::kWarp) {
      body(first + (wide ? pattern.wide[from + i] : pattern.narrow[from + i]), to + i);
    }
    from += length;
  }
}

__global__ void __launch_bounds__(kThreads, 1) lookup_kernel(HmmLookup args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t r = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; r < args.pattern.rows; r += stride) {
    for_cells_of_row(args.block, args.pattern, r, lane, [&](int64_t entry, int64_t cell) {
      args.cells[0][cell] = args.table[0][entry];
      if (args.table[1] != nullptr) args.cells[1][cell] = args.table[1][entry];
    });
  }
}

__global__ void __launch_bounds__(kThreads) clear_kernel(HmmScatter args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  int64_t* const sums = static_cast<int64_t*>(args.scratch);
  for (int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x; k < args.entries; k += stride) sums[k] = 0;
}

__global__ void __launch_bounds__(kThreads) scatter_kernel(HmmScatter args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  const int64_t warp = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp;
  int64_t* const sums = args.fixed != nullptr ? args.fixed : static_cast<int64_t*>(args.scratch);
  const double unit = (args.fixed != nullptr ? kHmmFixed : kScatterUnit) / (args.scale != nullptr ? *args.scale : 1.0f);
  for (int64_t r = warp; r < args.pattern.rows; r += stride) {
    for_cells_of_row(args.block, args.pattern, r, lane,
                     [&](int64_t entry, int64_t cell) { add_fixed(sums + entry, args.cells[cell] * unit); });
  }
  if (args.null_cells == nullptr) return;
  for (int64_t i = warp * cuda::kWarp + lane; i < args.target_tokens; i += stride * cuda::kWarp) {
    add_fixed(sums + args.target_words[i], args.null_cells[i] * unit);
  }
}

__global__ void __launch_bounds__(kThreads) add_kernel(HmmScatter args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const int64_t* const sums = static_cast<const int64_t*>(args.scratch);
  const double unit = (args.scale != nullptr ? *args.scale : 1.0f) / kScatterUnit;
  for (int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x; k < args.entries; k += stride) {
    args.sums[k] += static_cast<float>(static_cast<double>(sums[k]) * unit);
  }
}

__global__ void __launch_bounds__(kThreads) null_counts_kernel(HmmNullCounts args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.tokens; i += stride) {
    if (args.words[i] >= 0) add_fixed(args.sums + args.words[i], args.values[i] * kHmmFixed);
  }
}

__global__ void __launch_bounds__(kThreads) from_fixed_kernel(HmmFromFixed args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t k = int64_t{blockIdx.x} * kThreads + threadIdx.x; k < args.size; k += stride) {
    args.values[k] = static_cast<float>(static_cast<double>(args.fixed[k]) / kHmmFixed);
  }
}

__global__ void __launch_bounds__(kThreads) product_kernel(HmmProduct args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < args.size; i += stride) {
    args.cells[i] *= args.by[i];
  }
}

// A warp a pair, lanes over steps.
__global__ void __launch_bounds__(kThreads, 1) independent_kernel(HmmIndependent args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t p = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; p < args.block.pairs; p += stride) {
    const HmmStates pair(args.block, args.target_states, p);
    double log_total = 0;
    double distance = 0;
    for (int t = lane; t < pair.steps; t += cuda::kWarp) {
      hmm_independent_step(args, pair, t, log_total, distance);
    }
    log_total = cuda::warp_sum(log_total);
    distance = cuda::warp_sum(distance);
    if (lane == 0) args.log_marginal[p] = static_cast<float>(log_total);
    if (lane == 0 && args.distance != nullptr) args.distance[p] = static_cast<float>(distance);
  }
}

// One pair; false, and nothing written, if its sums cannot be trusted. All conditions are the warp's.
__device__ bool scaled_pass(const HmmPass& a, const HmmPair& pair, int64_t p, int lane, double* scratch) {
  const int S = pair.states;
  const int T = pair.steps;
  const int64_t width = S + 1;
  const int64_t buckets = 2 * a.reach + 3;
  double* const alpha = scratch;
  double* const beta = alpha + width * (T + 1);
  double* const factor = beta + width * (T + 1);  // of a jump's weight
  double* const inverse = factor + width;         // (T)
  double* const shift = inverse + T;              // (T) taken out of the logarithms
  const auto jump = [&](int from, int to) {
    return static_cast<double>(a.jump[hmm_class(a, pair, from) * buckets + hmm_bucket(from, to, S, a.reach)]);
  };
  const auto stop = [&](int s) { return a.stop != nullptr ? static_cast<double>(a.stop[hmm_distance(s, S)]) : 1.0; };
  const auto go = [&](int s) { return a.stop != nullptr ? 1.0 - stop(s) : 1.0; };
  const auto emission = [&](int s, int t) {
    const double e = a.emission[pair.cells + s * pair.state_stride + t * pair.step_stride];
    return a.logs ? exp(e - shift[t]) : e;
  };
  const auto null_emission = [&](int t) {
    const double e = a.null_emission[pair.step_words[t] + 1];
    return a.logs ? exp(e - shift[t]) : e;
  };

  bool good = true;
  for (int o = lane; o <= S; o += cuda::kWarp) {
    double sum = 0;
    for (int i = 0; i < S; ++i) sum += jump(o, i);
    good = good && sum > 1e-20 && sum < INFINITY;
    factor[o] = go(o) * a.move[1] / sum;
    alpha[o] = o == S ? 1 : 0;
  }
  if (!__all_sync(cuda::kAllLanes, good)) return false;
  double log_total = 0;
  for (int t = 0; t < T && a.logs; ++t) {
    double max = a.null_emission[pair.step_words[t] + 1];
    for (int s = lane; s < S; s += cuda::kWarp) {
      max = fmax(max, static_cast<double>(a.emission[pair.cells + s * pair.state_stride + t * pair.step_stride]));
    }
    max = warp_max(max);
    if (max == -INFINITY) max = 0;
    if (lane == 0) shift[t] = max;
    log_total += max;
  }
  __syncwarp();

  double smallest = 1;
  for (int t = 0; t < T; ++t) {
    const double* const before = alpha + t * width;
    double* const after = alpha + (t + 1) * width;
    double sum = 0;
    for (int i = lane; i <= S; i += cuda::kWarp) {
      double value = 0;
      for (int o = 0; o <= S && i < S; ++o) value += before[o] * factor[o] * jump(o, i);
      if (i < S) value *= emission(i, t);
      value += before[i] * go(i) * a.move[0] * null_emission(t);
      after[i] = value;
      sum += value;
    }
    sum = cuda::warp_sum(sum);
    if (!(sum > 0 && sum < INFINITY)) return false;
    smallest = fmin(smallest, sum);
    log_total += log(sum);
    if (lane == 0) inverse[t] = 1 / sum;
    for (int i = lane; i <= S; i += cuda::kWarp) after[i] /= sum;
    __syncwarp();
  }
  double last = 0;
  for (int o = lane; o <= S; o += cuda::kWarp) last += alpha[T * width + o] * stop(o);
  last = cuda::warp_sum(last);
  if (!(last > 0)) return false;
  log_total += log(last);

  double largest = 0;
  for (int o = lane; o <= S; o += cuda::kWarp) largest = fmax(largest, beta[T * width + o] = stop(o) / last);
  __syncwarp();
  for (int t = T - 1; t >= 0; --t) {
    const double* const after = beta + (t + 1) * width;
    for (int o = lane; o <= S; o += cuda::kWarp) {
      double value = 0;
      for (int i = 0; i < S; ++i) value += jump(o, i) * emission(i, t) * after[i];
      value = (value * factor[o] + go(o) * a.move[0] * null_emission(t) * after[o]) * inverse[t];
      value = fmax(value, kFloor);
      beta[t * width + o] = value;
      largest = fmax(largest, value);
    }
    __syncwarp();
  }
  if (!(warp_max(largest) <= double{kHmmTrust} * smallest)) return false;

  if (a.log_marginal != nullptr && lane == 0) a.log_marginal[p] = static_cast<float>(log_total);
  const double weight = a.weight != nullptr ? a.weight[p] : 1.0;
  const HmmCountsLayout layout = {a.classes, buckets};
  const double unit = kHmmUnit / (a.count_scale != nullptr ? *a.count_scale : 1.0f) * weight;
  double nulls = 0;
  for (int t = 0; t < T; ++t) {
    double step_null = 0;
    for (int s = lane; s <= S; s += cuda::kWarp) {
      const double null = alpha[t * width + s] * go(s) * a.move[0] * null_emission(t) * inverse[t];
      double& b = beta[(t + 1) * width + s];
      const double e = s < S ? emission(s, t) : 0;  // its cell may be written below
      step_null += null * b;
      if (a.counts != nullptr && a.stop != nullptr) {
        add_fixed(a.counts + layout.goes() + hmm_distance(s, S), null * b * unit);
      }
      if (s < S && a.posterior != nullptr) {
        // What came from words is the rest; rounding can leave a little less than nothing.
        const double real = fmax(alpha[(t + 1) * width + s] - null, 0.0);
        a.posterior[pair.cells + s * pair.state_stride + t * pair.step_stride] = static_cast<float>(real * b * weight);
      }
      if (s < S) b *= e * inverse[t];  // all that the jumps to s still need
    }
    step_null = cuda::warp_sum(step_null);
    nulls += step_null;
    if (lane == 0 && a.null_posterior != nullptr) {
      a.null_posterior[pair.first_step + t] = static_cast<float>(step_null * weight);
    }
  }
  __syncwarp();
  if (a.counts == nullptr) return true;
  double words = 0;
  for (int o = lane; o <= S; o += cuda::kWarp) {
    int64_t* const row = a.counts + hmm_class(a, pair, o) * buckets;
    double total = 0;
    for (int i = 0; i < S; ++i) {
      double q = 0;
      for (int t = 0; t < T; ++t) q += alpha[t * width + o] * beta[(t + 1) * width + i];
      q *= factor[o] * jump(o, i);
      total += q;
      add_fixed(row + hmm_bucket(o, i, S, a.reach), q * unit);
    }
    const double all = go(o) * a.move[1];
    for (int i = 0; i < S && all > 0; ++i) {
      add_fixed(row + layout.expected() + hmm_bucket(o, i, S, a.reach), total * factor[o] * jump(o, i) / all * unit);
    }
    words += total;
    if (a.stop != nullptr) {
      add_fixed(a.counts + layout.goes() + hmm_distance(o, S), total * unit);
      add_fixed(a.counts + layout.stops() + hmm_distance(o, S), alpha[T * width + o] * stop(o) / last * unit);
    }
  }
  words = cuda::warp_sum(words);
  if (lane == 0) add_fixed(a.counts + layout.moves(), nulls * unit);
  if (lane == 0) add_fixed(a.counts + layout.moves() + 1, words * unit);
  return true;
}

__device__ double* scratch_of(const HmmPass& args, int64_t p) {
  return static_cast<double*>(args.scratch) + 2 * args.block.cell_begin[p] +
         4 * (int64_t{args.block.source_begin[p]} + args.block.target_begin[p] + p);
}

// Leaves 1 in a pair's scratch if the pair has to be done again.
__global__ void __launch_bounds__(kThreads, 1) pass_kernel(HmmPass args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t p = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; p < args.block.pairs; p += stride) {
    const HmmPair pair(args, p);
    double* const scratch = scratch_of(args, p);
    bool done = true;
    if (pair.states == 0 || pair.steps == 0) {
      if (lane == 0 && args.log_marginal != nullptr) args.log_marginal[p] = 0;
      for (int t = lane; t < pair.steps && args.null_posterior != nullptr; t += cuda::kWarp) {
        args.null_posterior[pair.first_step + t] = 0;
      }
    } else {
      done = scaled_pass(args, pair, p, lane, scratch);
    }
    __syncwarp();
    if (lane == 0) scratch[0] = done ? 0 : 1;
  }
}

__global__ void __launch_bounds__(kThreads, 1) logs_kernel(HmmPass args) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t p = int64_t{blockIdx.x} * kThreads + threadIdx.x; p < args.block.pairs; p += stride) {
    double* const scratch = scratch_of(args, p);
    if (scratch[0] == 0) continue;
    const double unit = kHmmUnit / (args.count_scale != nullptr ? *args.count_scale : 1.0f);
    hmm_in_logs(args, p, scratch, [&](int64_t index, double value) { add_fixed(args.counts + index, value * unit); });
  }
}

__global__ void __launch_bounds__(kThreads) weights_kernel(HmmWeights args) {
  const int64_t r = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (r < 2) args.move[r] = expf(args.log_move[r]);
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t row = r; row < args.rows; row += stride) {
    const float* const from = args.log_jump + row * args.buckets;
    float max = -INFINITY;
    for (int64_t b = 0; b < args.buckets; ++b) max = fmaxf(max, from[b]);
    for (int64_t b = 0; b < args.buckets; ++b) {
      args.jump[row * args.buckets + b] = from[b] == -INFINITY ? 0.0f : expf(from[b] - max);
    }
  }
}

__global__ void __launch_bounds__(cuda::kWarp) scale_kernel(HmmScale args) {
  double max = 0;
  for (int64_t p = threadIdx.x; p < args.pairs; p += cuda::kWarp) max = fmax(max, fabs(double{args.weight[p]}));
  max = warp_max(max);
  if (threadIdx.x == 0) *args.scale = hmm_power_of_two(static_cast<float>(max));
}

__global__ void __launch_bounds__(kThreads) gradient_kernel(HmmGradient args) {
  const double unit = *args.scale / kHmmUnit;
  const int64_t first = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const int64_t expected = args.layout.expected();
  for (int64_t i = first; i < expected; i += stride) {
    args.log_jump[i] = static_cast<float>(static_cast<double>(args.counts[i] - args.counts[expected + i]) * unit);
  }
  if (first < 2) {
    args.log_move[first] = static_cast<float>(static_cast<double>(args.counts[args.layout.moves() + first]) * unit);
  }
}

}  // namespace

void run_cuda(const HmmLookup& args, void* stream) {
  if (args.pattern.rows == 0) return;
  cuda::launch(lookup_kernel, cuda::blocks_for(args.pattern.rows, kWarps), kThreads, 0, stream, args);
}

void run_cuda(const HmmScatter& args, void* stream) {
  if (args.entries == 0) return;
  const unsigned blocks = cuda::blocks_for(args.entries, kThreads);
  const int64_t items = args.pattern.rows > args.target_tokens ? args.pattern.rows : args.target_tokens;
  if (args.fixed != nullptr) {
    if (items > 0) cuda::launch(scatter_kernel, cuda::blocks_for(items, kWarps), kThreads, 0, stream, args);
    return;
  }
  cuda::launch(clear_kernel, blocks, kThreads, 0, stream, args);
  if (items > 0) cuda::launch(scatter_kernel, cuda::blocks_for(items, kWarps), kThreads, 0, stream, args);
  cuda::launch(add_kernel, blocks, kThreads, 0, stream, args);
}

void run_cuda(const HmmNullCounts& args, void* stream) {
  if (args.tokens == 0) return;
  cuda::launch(null_counts_kernel, cuda::blocks_for(args.tokens, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const HmmFromFixed& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(from_fixed_kernel, cuda::blocks_for(args.size, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const HmmProduct& args, void* stream) {
  if (args.size == 0) return;
  cuda::launch(product_kernel, cuda::blocks_for(args.size, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const HmmIndependent& args, void* stream) {
  if (args.block.pairs == 0) return;
  cuda::launch(independent_kernel, cuda::blocks_for(args.block.pairs, kWarps), kThreads, 0, stream, args);
}

void run_cuda(const HmmPass& args, void* stream) {
  if (args.block.pairs == 0) return;
  cuda::launch(pass_kernel, cuda::blocks_for(args.block.pairs, kWarps), kThreads, 0, stream, args);
  cuda::launch(logs_kernel, cuda::blocks_for(args.block.pairs, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const HmmWeights& args, void* stream) {
  cuda::launch(weights_kernel, cuda::blocks_for(args.rows > 2 ? args.rows : 2, kThreads), kThreads, 0, stream, args);
}

void run_cuda(const HmmScale& args, void* stream) { cuda::launch(scale_kernel, 1, cuda::kWarp, 0, stream, args); }

void run_cuda(const HmmGradient& args, void* stream) {
  const int64_t items = args.layout.expected();
  cuda::launch(gradient_kernel, cuda::blocks_for(items, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
