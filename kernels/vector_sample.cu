// SPDX-License-Identifier: Apache-2.0
// Draws of vectors with independent coordinates, and the pathwise gradients.
//
// Mapping    draws: one thread a block of four words, so up to four neighbouring coordinates of a sample.
//            Gradients: one thread a coordinate (b, d), which goes through the samples.
// Algorithm  noise is drawn, transformed and consumed in registers; none is stored. The gradient of the scale
//            takes it back from z - location.
// Traffic    draws read 8BD bytes and write 4BSD; about 40 instructions a coordinate: HBM-bound from S = 1 on.
//            Gradients read 8BSD bytes (4 without a scale) and write 8BD.
// Order      draws by counter; gradients by sample, in groups of 64: equal input gives equal bits on one device.
#include "kernels/vector_sample.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/device/random.cuh"
#include "kernels/math/scalar_lanes.hpp"

#include "kernels/math/activations-inl.hpp"

namespace dgm::kernels {

namespace {

constexpr int kThreads = 256;

__device__ float drawn(Noise kind, float location, float log_scale, float noise) {
  if (kind == Noise::kGaussian) return fmaf(expf(log_scale), noise, location);
  if (kind == Noise::kGumbel) return location + noise;
  if (isnan(location)) return location;
  return noise <= scalar::sigmoid<scalar::Lanes>(location) ? 1.0f : 0.0f;
}

__global__ void __launch_bounds__(kThreads) sample_kernel(VectorSample args, int64_t per_sample) {
  const int64_t per_row = per_sample * args.samples;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  const auto step = static_cast<uint64_t>(*args.draws.step);
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < args.rows * per_row; at += stride) {
    const int64_t row = at / per_row;
    const int64_t block = at % per_row;
    const int64_t datum = args.data != nullptr ? args.data[row] : row;
    const PhiloxWords words = cuda::draw_words(
        args.draws.seed, {args.draws.site, static_cast<uint64_t>(datum), step, static_cast<uint32_t>(block)});
    float noise[4];
    if (args.noise == Noise::kGaussian) {
      const NormalPair low = normals_from_words(words.w[0], words.w[1]);
      const NormalPair high = normals_from_words(words.w[2], words.w[3]);
      noise[0] = low.first, noise[1] = low.second, noise[2] = high.first, noise[3] = high.second;
    } else {
      DGM_UNROLL
      for (int j = 0; j < 4; ++j) {
        const float u = uniform_from_word(words.w[j]);
        const float rest = uniform_from_word(~words.w[j]);
        noise[j] = args.noise != Noise::kGumbel ? u : -logf(-(rest < kNearOne ? log1pf(-rest) : logf(u)));
      }
    }
    const int64_t column = 4 * (block % per_sample);
    float* const z = args.z + (row * args.samples + block / per_sample) * args.dims + column;
    const int64_t from = row * args.dims + column;
    DGM_UNROLL
    for (int j = 0; j < 4; ++j) {
      if (column + j < args.dims) {
        z[j] = drawn(args.noise, args.location[from + j], args.log_scale != nullptr ? args.log_scale[from + j] : 0.0f,
                     noise[j]);
      }
    }
  }
}

__global__ void __launch_bounds__(kThreads) gradient_kernel(VectorSampleGradient args) {
  constexpr int64_t kGroup = 64;
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x; at < args.rows * args.dims; at += stride) {
    const int64_t first_element = at / args.dims * args.samples * args.dims + at % args.dims;
    const float location = args.d_log_scale != nullptr ? args.location[at] : 0.0f;
    float d_location = 0.0f;
    float d_log_scale = 0.0f;
    for (int64_t first = 0; first < args.samples; first += kGroup) {
      float location_group = 0.0f;
      float scale_group = 0.0f;
      for (int64_t s = first; s < args.samples && s < first + kGroup; ++s) {
        const int64_t element = first_element + s * args.dims;
        const float g = args.g[element];
        location_group += g;
        if (args.d_log_scale != nullptr) scale_group += g * (args.z[element] - location);
      }
      d_location += location_group;
      d_log_scale += scale_group;
    }
    if (args.d_location != nullptr) args.d_location[at] = d_location;
    if (args.d_log_scale != nullptr) args.d_log_scale[at] = d_log_scale;
  }
}

}  // namespace

void run_cuda(const VectorSample& args, void* stream) {
  const int64_t blocks = args.rows * args.samples * args.blocks_per_sample();
  if (blocks == 0) return;
  cuda::launch(sample_kernel, cuda::blocks_for(blocks, kThreads, INT32_MAX), kThreads, 0, stream, args,
               args.blocks_per_sample());
}

void run_cuda(const VectorSampleGradient& args, void* stream) {
  const int64_t size = args.rows * args.dims;
  if (size == 0) return;
  cuda::launch(gradient_kernel, cuda::blocks_for(size, kThreads), kThreads, 0, stream, args);
}

}  // namespace dgm::kernels
