// SPDX-License-Identifier: Apache-2.0
// Rows of a table by ids, and the gradient: every row's sum over the places where it was used.
//
// Mapping    gather: a warp an id. Gradient: keys (id, place) are sorted, so that a row's places lie
//            together and in order; then a block for each key, which does nothing unless the key begins
//            a row, and whose warps take every eighth place of it.
// Algorithm  bitonic sort, tiles of 2048 keys in shared memory: the keys are unique, so an unstable sort
//            has one result. log2(count / 2048) (log2(count / 2048) + 3) / 2 + 1 launches.
// Traffic    gather reads 4D and writes 4D bytes an id. Gradient reads 4D an id and writes 4VD for the
//            table, of which it is the zeros that cost; the sort moves 16 bytes a key a global step.
// Order      fixed by place: equal input gives equal bits. No atomics.
#include "kernels/embedding.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"

namespace dgm::kernels {

namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / cuda::kWarp;
constexpr int64_t kTile = 2048;
constexpr uint64_t kNoKey = ~uint64_t{0};

__global__ void __launch_bounds__(kThreads) gather_kernel(Embedding args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t n = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; n < args.count; n += stride) {
    const int64_t id = args.ids[n];
    const bool known = id >= 0 && id < args.vocabulary;
    for (int64_t c = lane; c < args.dims; c += cuda::kWarp) {
      args.y[n * args.dims + c] = known ? args.table[id * args.dims + c] : 0.0f;
    }
  }
}

__global__ void __launch_bounds__(kThreads) zero_kernel(float* to, int64_t size) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < size; i += stride) to[i] = 0.0f;
}

__global__ void __launch_bounds__(kThreads) keys_kernel(EmbeddingGradient args, int64_t size) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t n = int64_t{blockIdx.x} * kThreads + threadIdx.x; n < size; n += stride) {
    const int64_t id = n < args.count ? args.ids[n] : -1;
    const bool known = id >= 0 && id < args.vocabulary;
    args.keys[n] = known ? (static_cast<uint64_t>(id) << 32) | static_cast<uint64_t>(n) : kNoKey;
  }
}

// One comparison of the network: pair i of the step with this distance, in sequences of `length`.
__device__ void order_pair(uint64_t* keys, int64_t i, int64_t length, int64_t distance, int64_t offset) {
  const int64_t low = 2 * i - (i & (distance - 1));
  const int64_t high = low + distance;
  const bool ascending = ((low + offset) & length) == 0;
  const uint64_t a = keys[low];
  const uint64_t b = keys[high];
  if ((a > b) == ascending) {
    keys[low] = b;
    keys[high] = a;
  }
}

// The steps of a tile that stay within it: for each length from first_length to last_length, all
// distances from min(length, tile) / 2 down.
__global__ void __launch_bounds__(kThreads)
    sort_tile_kernel(uint64_t* keys, int64_t tile, int64_t first_length, int64_t last_length) {
  cuda::SharedMemory smem;
  uint64_t* const shared = smem.take<uint64_t>(static_cast<std::size_t>(tile));
  const int64_t offset = int64_t{blockIdx.x} * tile;
  for (int64_t i = threadIdx.x; i < tile; i += kThreads) shared[i] = keys[offset + i];
  __syncthreads();
  for (int64_t length = first_length; length <= last_length; length *= 2) {
    for (int64_t distance = (length < tile ? length : tile) / 2; distance > 0; distance /= 2) {
      for (int64_t i = threadIdx.x; i < tile / 2; i += kThreads) order_pair(shared, i, length, distance, offset);
      __syncthreads();
    }
  }
  for (int64_t i = threadIdx.x; i < tile; i += kThreads) keys[offset + i] = shared[i];
}

__global__ void __launch_bounds__(kThreads)
    sort_step_kernel(uint64_t* keys, int64_t pairs, int64_t length, int64_t distance) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < pairs; i += stride) {
    order_pair(keys, i, length, distance, 0);
  }
}

__device__ int64_t id_of(uint64_t key) { return static_cast<int64_t>(key >> 32); }

__global__ void __launch_bounds__(kThreads) sum_kernel(EmbeddingGradient args, int64_t size) {
  cuda::SharedMemory smem;
  double* const sums = smem.take<double>(kThreads);
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % cuda::kWarp;
  const int warp = thread / cuda::kWarp;
  for (int64_t begin = blockIdx.x; begin < args.count; begin += gridDim.x) {
    const uint64_t key = args.keys[begin];
    // The same for all threads of the block, so they skip the barriers together.
    if (key == kNoKey || (begin > 0 && id_of(args.keys[begin - 1]) == id_of(key))) continue;
    const int64_t id = id_of(key);
    for (int64_t column = 0; column < args.dims; column += cuda::kWarp) {
      const int64_t c = column + lane;
      double sum = 0;
      if (c < args.dims) {
        for (int64_t at = begin + warp; at < size; at += kWarps) {
          const uint64_t other = args.keys[at];
          if (id_of(other) != id) break;
          sum += args.g[static_cast<int64_t>(other & 0xFFFFFFFFu) * args.dims + c];
        }
      }
      sums[thread] = sum;
      __syncthreads();
      if (warp == 0 && c < args.dims) {
        double total = 0;
        for (int w = 0; w < kWarps; ++w) total += sums[w * cuda::kWarp + lane];
        args.d_table[id * args.dims + c] = static_cast<float>(total);
      }
      __syncthreads();
    }
  }
}

}  // namespace

void run_cuda(const Embedding& args, void* stream) {
  if (args.count * args.dims == 0) return;
  cuda::launch(gather_kernel, cuda::blocks_for(args.count, kWarps), kThreads, 0, stream, args);
}

void run_cuda(const EmbeddingGradient& args, void* stream) {
  const int64_t elements = args.vocabulary * args.dims;
  if (elements == 0) return;
  cuda::launch(zero_kernel, cuda::blocks_for(elements, kThreads), kThreads, 0, stream, args.d_table, elements);
  if (args.count == 0) return;
  const int64_t size = EmbeddingGradient::sorted_size(args.count);
  cuda::launch(keys_kernel, cuda::blocks_for(size, kThreads), kThreads, 0, stream, args, size);
  const int64_t tile = size < kTile ? size : kTile;
  const auto tiles = static_cast<unsigned>(size / tile);
  const std::size_t shared = cuda::SharedMemory::bytes<uint64_t>(static_cast<std::size_t>(tile));
  cuda::launch(sort_tile_kernel, tiles, kThreads, shared, stream, args.keys, tile, int64_t{2}, tile);
  for (int64_t length = 2 * tile; length <= size; length *= 2) {
    for (int64_t distance = length / 2; distance >= tile; distance /= 2) {
      cuda::launch(sort_step_kernel, cuda::blocks_for(size / 2, kThreads), kThreads, 0, stream, args.keys, size / 2,
                   length, distance);
    }
    cuda::launch(sort_tile_kernel, tiles, kThreads, shared, stream, args.keys, tile, length, length);
  }
  cuda::launch(sum_kernel, cuda::blocks_for(args.count, 1), kThreads, cuda::SharedMemory::bytes<double>(kThreads),
               stream, args, size);
}

}  // namespace dgm::kernels
