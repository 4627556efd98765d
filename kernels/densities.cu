// SPDX-License-Identifier: Apache-2.0
// y[b,s] = sum_d f(arguments), and its gradients.
//
// Mapping    sums: one warp a row (b, s), lane l at dimensions l, l + 32, ... Gradients: one thread a
//            dimension (b, d), which goes through the samples; neighbouring threads have neighbouring d.
// Algorithm  the gradient of a shared argument is summed over groups of 64 samples and then over the groups.
// Traffic    reads each argument once (shared ones from cache) and 4BS bytes of g, writes 4BS bytes or the
//            gradients. HBM-bound for the densities of samples: floor 4BSD bytes over the read rate, the
//            gradients 8BSD over the copy rate.
// Order      fixed by lane, or by sample: equal input gives equal bits on one device.
#include "kernels/densities.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/warp.cuh"
#include "kernels/math/scalar_lanes.hpp"
// after the lanes
#include "kernels/math/densities-inl.hpp"

namespace dgm::kernels {

namespace {

using scalar::Lanes;

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / cuda::kWarp;

template <int kCount>
__device__ void load_arguments(const DensityInput& in, int64_t b, int64_t s, int64_t d, float* u) {
  DGM_UNROLL
  for (int i = 0; i < kCount; ++i) {
    u[i] = in.arguments[i].data[b * in.arguments[i].batch_stride + s * in.arguments[i].sample_stride + d];
  }
}

template <class F>
__global__ void __launch_bounds__(kThreads) sum_kernel(DensitySum args) {
  const int lane = static_cast<int>(threadIdx.x) % cuda::kWarp;
  const int64_t rows = args.in.batch * args.in.samples;
  const int64_t stride = int64_t{gridDim.x} * kWarps;
  for (int64_t row = int64_t{blockIdx.x} * kWarps + threadIdx.x / cuda::kWarp; row < rows; row += stride) {
    float sum = 0.0f;
    for (int64_t d = lane; d < args.in.dims; d += cuda::kWarp) {
      float u[F::kArguments];
      load_arguments<F::kArguments>(args.in, row / args.in.samples, row % args.in.samples, d, u);
      sum += F::template value<Lanes>(u);
    }
    sum = cuda::warp_sum(sum);
    if (lane == 0) args.y[row] = sum;
  }
}

template <class F, int I>
__device__ void gradient_of_argument(const DensityGradient& args, int64_t b, int64_t d) {
  float* const gradient = args.gradients[I];
  if (gradient == nullptr) return;
  constexpr int64_t kGroup = 64;
  const int64_t samples = args.in.samples;
  const bool shared = args.in.arguments[I].sample_stride == 0;
  float total = 0.0f;
  for (int64_t first = 0; first < samples; first += kGroup) {
    float group = 0.0f;
    for (int64_t s = first; s < samples && s < first + kGroup; ++s) {
      const float g = args.g[b * samples + s];
      float term = 0.0f;
      if (g != 0.0f) {
        float u[F::kArguments];
        load_arguments<F::kArguments>(args.in, b, s, d, u);
        term = g * F::template slope<Lanes, I>(u);
      }
      if (!shared) gradient[(b * samples + s) * args.in.dims + d] = term;
      group += term;
    }
    total += group;
  }
  if (shared) gradient[b * args.in.dims + d] = total;
}

template <class F>
__global__ void __launch_bounds__(kThreads) gradient_kernel(DensityGradient args) {
  const int64_t size = args.in.batch * args.in.dims;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < size; at += stride) {
    const int64_t b = at / args.in.dims;
    const int64_t d = at % args.in.dims;
    gradient_of_argument<F, 0>(args, b, d);
    if constexpr (F::kArguments > 1) gradient_of_argument<F, 1>(args, b, d);
    if constexpr (F::kArguments > 2) gradient_of_argument<F, 2>(args, b, d);
    if constexpr (F::kArguments > 3) gradient_of_argument<F, 3>(args, b, d);
  }
}

}  // namespace

void run_cuda(const DensitySum& args, void* stream) {
  const int64_t rows = args.in.batch * args.in.samples;
  if (rows == 0) return;
  scalar::visit(args.in.function, [&](auto function) {
    cuda::launch(sum_kernel<decltype(function)>, cuda::blocks_for(rows, kWarps), kThreads, 0, stream, args);
  });
}

void run_cuda(const DensityGradient& args, void* stream) {
  const int64_t size = args.in.batch * args.in.dims;
  if (size == 0) return;
  scalar::visit(args.in.function, [&](auto function) {
    cuda::launch(gradient_kernel<decltype(function)>, cuda::blocks_for(size, kThreads), kThreads, 0, stream, args);
  });
}

}  // namespace dgm::kernels
