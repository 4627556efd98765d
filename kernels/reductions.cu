// SPDX-License-Identifier: Apache-2.0
// y[o,i] = scale * sum_c x[o,c,i] factor[o,c,i], and its gradient.
//
// Mapping    inner = 1: a warp or, from 1024 terms on, a block for each chunk of a row. inner > 1: a
//            block for each chunk and up to 128 columns; its 256 threads visit that many rows at once,
//            so that rows narrower than a warp are still read in one piece.
//            Maxima: a warp a row.
// Algorithm  terms are added in double; a second launch adds the chunks' sums, a warp an output.
// Traffic    reads 4 bytes a term (8 with a factor); the gradient writes 4. HBM-bound.
// Order      fixed by lane and chunk, and chunks by the extents: equal input gives equal bits.
#include "kernels/reductions.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"

namespace dgm::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / cuda::kWarp;
constexpr int64_t kTermsForBlock = 1024;
constexpr int64_t kMostColumns = 128;

struct Span {
  int64_t begin;
  int64_t end;
};

// Chunk t = o * chunks + chunk, as elements of x for inner = 1.
__device__ Span chunk_of(int64_t t, int64_t chunks, int64_t count) {
  const int64_t base = t / chunks * count;
  const int64_t chunk = t % chunks;
  const int64_t length = count / chunks;
  const int64_t longer = count % chunks;
  const int64_t begin = length * chunk + (chunk < longer ? chunk : longer);
  return {base + begin, base + begin + length + (chunk < longer ? 1 : 0)};
}

__device__ double term(const SumAxis& args, int64_t at) {
  const double x = args.x[at];
  return args.factor != nullptr ? x * static_cast<double>(args.factor[at]) : x;
}

__device__ void store_sum(const SumAxis& args, int64_t chunks, int64_t at, double sum) {
  if (chunks == 1) {
    args.y[at] = static_cast<float>(args.scale * sum);
  } else {
    args.partial[at] = sum;
  }
}

__global__ void __launch_bounds__(kThreads) warp_kernel(SumAxis args, int64_t chunks) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t t = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; t < args.outer * chunks; t += stride) {
    const Span span = chunk_of(t, chunks, args.count);
    double sum = 0;
    for (int64_t at = span.begin + lane; at < span.end; at += cuda::kWarp) sum += term(args, at);
    sum = cuda::warp_sum(sum);
    if (lane == 0) store_sum(args, chunks, t, sum);
  }
}

__global__ void __launch_bounds__(kThreads) block_kernel(SumAxis args, int64_t chunks) {
  cuda::SharedMemory smem;
  double* const warp_sums = smem.take<double>(kWarps);
  const int thread = static_cast<int>(threadIdx.x);
  for (int64_t t = blockIdx.x; t < args.outer * chunks; t += gridDim.x) {
    const Span span = chunk_of(t, chunks, args.count);
    double sum = 0;
#pragma unroll 4
    for (int64_t at = span.begin + thread; at < span.end; at += kThreads) sum += term(args, at);
    sum = cuda::warp_sum(sum);
    if (thread % cuda::kWarp == 0) warp_sums[thread / cuda::kWarp] = sum;
    __syncthreads();
    if (thread == 0) {
      double total = 0;
      for (int w = 0; w < kWarps; ++w) total += warp_sums[w];
      store_sum(args, chunks, t, total);
    }
    __syncthreads();  // the next chunk's sums go to the same place
  }
}

__global__ void __launch_bounds__(kThreads) columns_kernel(SumAxis args, int64_t chunks, int columns) {
  cuda::SharedMemory smem;
  double* const sums = smem.take<double>(kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const int rows = kThreads / columns;  // visited at once
  const int column = thread % columns;
  const int row = thread / columns;
  const int64_t i = int64_t{blockIdx.x} * columns + column;
  for (int64_t t = blockIdx.y; t < args.outer * chunks; t += gridDim.y) {
    const Span span = chunk_of(t, chunks, args.count);
    double sum = 0;
    if (row < rows && i < args.inner) {
#pragma unroll 4
      for (int64_t c = span.begin + row; c < span.end; c += rows) sum += term(args, c * args.inner + i);
    }
    sums[thread] = sum;
    __syncthreads();
    if (row == 0 && i < args.inner) {
      double total = 0;
      for (int r = 0; r < rows; ++r) total += sums[r * columns + column];
      store_sum(args, chunks, t * args.inner + i, total);
    }
    __syncthreads();
  }
}

__global__ void __launch_bounds__(kThreads) combine_kernel(SumAxis args, int64_t chunks) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t at = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; at < args.outer * args.inner;
       at += stride) {
    const double* const partial = args.partial + at / args.inner * chunks * args.inner + at % args.inner;
    double sum = 0;
    for (int64_t c = lane; c < chunks; c += cuda::kWarp) sum += partial[c * args.inner];
    sum = cuda::warp_sum(sum);
    if (lane == 0) args.y[at] = static_cast<float>(args.scale * sum);
  }
}

__global__ void __launch_bounds__(kThreads) spread_kernel(SpreadAxis args, int64_t size) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < size; at += stride) {
    int64_t from;
    if (size <= INT32_MAX) {
      // Divisions of 32 bits cost a quarter of those of 64.
      const auto index = static_cast<uint32_t>(at);
      const auto inner = static_cast<uint32_t>(args.inner);
      const auto block = static_cast<uint32_t>(args.count) * inner;
      from = index / block * inner + index % inner;
    } else {
      from = at / (args.count * args.inner) * args.inner + at % args.inner;
    }
    args.dx[at] = args.scale * args.g[from];
  }
}

// The entry that is larger, and of equals the first; a NaN is larger than any number.
struct Entry {
  float value;
  int32_t index;
};

__device__ bool above(const Entry& a, const Entry& b) {
  const bool equal = a.value == b.value || (isnan(a.value) && isnan(b.value));
  if (equal) return a.index < b.index;
  return isnan(a.value) || a.value > b.value;
}

__global__ void __launch_bounds__(kThreads) row_max_kernel(RowMax args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t r = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; r < args.rows; r += stride) {
    Entry best = {-INFINITY, INT32_MAX};
    for (int64_t c = lane; c < args.cols; c += cuda::kWarp) {
      const Entry entry = {args.x[r * args.cols + c], static_cast<int32_t>(c)};
      if (above(entry, best)) best = entry;
    }
    for (int step = cuda::kWarp / 2; step > 0; step /= 2) {
      const Entry other = {__shfl_xor_sync(cuda::kAllLanes, best.value, step),
                           __shfl_xor_sync(cuda::kAllLanes, best.index, step)};
      if (above(other, best)) best = other;
    }
    if (lane == 0) {
      args.y[r] = best.value;
      args.index[r] = best.index;
    }
  }
}

}  // namespace

void run_cuda(const RowMax& args, void* stream) {
  if (args.rows == 0) return;
  cuda::launch(row_max_kernel, cuda::blocks_for(args.rows, kWarps), kThreads, 0, stream, args);
}

void run_cuda(const SumAxis& args, void* stream) {
  if (args.outer * args.inner == 0) return;
  const int64_t chunks = args.chunks();
  const int64_t tasks = args.outer * chunks;
  if (args.inner > 1) {
    const int64_t columns = std::min(args.inner, kMostColumns);
    const dim3 grid(static_cast<unsigned>((args.inner + columns - 1) / columns), cuda::blocks_for(tasks, 1));
    cuda::launch(columns_kernel, grid, kThreads, cuda::SharedMemory::bytes<double>(kThreads), stream, args, chunks,
                 static_cast<int>(columns));
  } else if (args.count / chunks >= kTermsForBlock) {
    cuda::launch(block_kernel, cuda::blocks_for(tasks, 1), kThreads, cuda::SharedMemory::bytes<double>(kWarps), stream,
                 args, chunks);
  } else {
    cuda::launch(warp_kernel, cuda::blocks_for(tasks, kWarps), kThreads, 0, stream, args, chunks);
  }
  if (chunks > 1) {
    cuda::launch(combine_kernel, cuda::blocks_for(args.outer * args.inner, kWarps), kThreads, 0, stream, args, chunks);
  }
}

void run_cuda(const SpreadAxis& args, void* stream) {
  const int64_t size = args.outer * args.count * args.inner;
  if (size == 0) return;
  cuda::launch(spread_kernel, cuda::blocks_for(size, kThreads), kThreads, 0, stream, args, size);
}

}  // namespace dgm::kernels
