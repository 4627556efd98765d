// SPDX-License-Identifier: Apache-2.0
// Steps of LSTM and GRU over a packed batch, and their gradients.
//
// Mapping    a step is a product by cuBLAS, (rows, H) (H, G H), and one kernel for everything else: a thread an
//            element of the state, which reads its G parts of product, input and context and writes gates, cell and
//            state. The rows of a step are the first of the batch, so that the product shrinks with the batch. The
//            gradient goes the other way: kernel, then the product (rows, G H) (G H, H); the gradient by the weights is
//            one product over all steps, made by the caller.
// Floor      2 launches a step, some 2.5 us each in a graph: 35 steps take 170 us either way, while their arithmetic at
//            B = 32, H = 256 is 0.6 GFLOP, 9 us at 67 TFLOP/s. Below B H^2 of some 10^8 the launches are what it takes.
// Traffic    forward a row reads 8 G H and writes 4 (G + 2) H bytes, most of it in L2; backward the same again.
// Order      elementwise, and cuBLAS's of the products: equal input gives equal bits on one device.
#include "kernels/recurrent.hpp"

#include "kernels/device/launch.cuh"
#include "kernels/gemm.hpp"
#include "kernels/math/scalar_lanes.hpp"
// after the lanes
#include "kernels/math/recurrent-inl.hpp"

namespace dgm::kernels {

namespace {

constexpr unsigned kThreads = 256;

using Lanes = scalar::Lanes;

struct Step {
  int64_t begin;   // its first packed row
  int64_t count;   // rows
  int64_t before;  // the first row of the step before it; -1: there is none
};

// State of a rank before the step; `initial` (batch, hidden) may be null.
__device__ float state_before(const float* states, const float* initial, const Step& step, int64_t i, int64_t hidden) {
  if (step.before >= 0) return states[step.before * hidden + i];
  return initial != nullptr ? initial[i] : 0.0f;
}

// What goes into part `part` of the cell but the product.
__device__ float input_of(const Recurrence& args, int64_t row, int64_t rank, int64_t j, int part) {
  const int64_t width = parts_of(args.cell) * args.hidden;
  const int64_t column = part * args.hidden + j;
  const int64_t from = args.rows != nullptr ? args.rows[row] : row;
  float value = args.context != nullptr ? args.context[rank * width + column] : 0.0f;
  if (from >= 0 && from < args.inputs) value += args.input[from * width + column];
  return value;
}

__global__ void __launch_bounds__(kThreads) lstm_kernel(Recurrence args, Step step, bool with_product) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < step.count * args.hidden; i += stride) {
    const int64_t rank = i / args.hidden;
    const int64_t j = i % args.hidden;
    const int64_t row = step.begin + rank;
    float gates[4];
    DGM_UNROLL for (int part = 0; part < 4; ++part) {
      gates[part] = input_of(args, row, rank, j, part);
      if (with_product) gates[part] += args.products[(rank * 4 + part) * args.hidden + j];
    }
    float c = args.c[i];
    args.h[row * args.hidden + j] = scalar::lstm_step<Lanes>(gates[0], gates[1], gates[2], gates[3], c);
    args.c[i] = c;
    if (args.gates != nullptr) {
      DGM_UNROLL for (int part = 0; part < 4; ++part) args.gates[(row * 4 + part) * args.hidden + j] = gates[part];
      args.cells[row * args.hidden + j] = c;
    }
  }
}

__global__ void __launch_bounds__(kThreads) gru_kernel(Recurrence args, Step step, bool with_product) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < step.count * args.hidden; i += stride) {
    const int64_t rank = i / args.hidden;
    const int64_t j = i % args.hidden;
    const int64_t row = step.begin + rank;
    float gates[3];
    float product[3];
    DGM_UNROLL for (int part = 0; part < 3; ++part) {
      gates[part] = input_of(args, row, rank, j, part);
      product[part] = args.bias[part * args.hidden + j];
      if (with_product) product[part] += args.products[(rank * 3 + part) * args.hidden + j];
    }
    gates[0] += product[0];
    gates[1] += product[1];
    const float before = state_before(args.h, args.h0, step, i, args.hidden);
    args.h[row * args.hidden + j] = scalar::gru_step<Lanes>(gates[0], gates[1], gates[2], product[2], before);
    if (args.gates != nullptr) {
      DGM_UNROLL for (int part = 0; part < 3; ++part) args.gates[(row * 4 + part) * args.hidden + j] = gates[part];
      args.gates[(row * 4 + 3) * args.hidden + j] = product[2];
    }
  }
}

__global__ void __launch_bounds__(kThreads) lstm_gradient_kernel(RecurrenceGradient args, Step step) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < step.count * args.hidden; i += stride) {
    const int64_t j = i % args.hidden;
    const int64_t row = step.begin + i / args.hidden;
    float gates[4];
    DGM_UNROLL for (int part = 0; part < 4; ++part) gates[part] = args.gates[(row * 4 + part) * args.hidden + j];
    const float before = state_before(args.cells, args.c0, step, i, args.hidden);
    float d_c = args.d_c[i];
    scalar::lstm_step_gradient<Lanes>(gates[0], gates[1], gates[2], gates[3], before, args.cells[row * args.hidden + j],
                                      args.g[row * args.hidden + j] + args.d_h[i], d_c);
    args.d_c[i] = d_c;
    DGM_UNROLL for (int part = 0; part < 4; ++part) args.d_input[(row * 4 + part) * args.hidden + j] = gates[part];
    args.previous[row * args.hidden + j] = state_before(args.h, args.h0, step, i, args.hidden);
  }
}

__global__ void __launch_bounds__(kThreads) gru_gradient_kernel(RecurrenceGradient args, Step step) {
  const int64_t stride = int64_t{gridDim.x} * kThreads;
  for (int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x; i < step.count * args.hidden; i += stride) {
    const int64_t j = i % args.hidden;
    const int64_t row = step.begin + i / args.hidden;
    float gates[4];
    DGM_UNROLL for (int part = 0; part < 4; ++part) gates[part] = args.gates[(row * 4 + part) * args.hidden + j];
    const float before = state_before(args.h, args.h0, step, i, args.hidden);
    args.d_h[i] = scalar::gru_step_gradient<Lanes>(gates[0], gates[1], gates[2], gates[3], before,
                                                   args.g[row * args.hidden + j] + args.d_h[i]);
    DGM_UNROLL for (int part = 0; part < 3; ++part) {
      args.d_input[(row * 3 + part) * args.hidden + j] = gates[part];
      args.d_product[(row * 3 + part) * args.hidden + j] = part < 2 ? gates[part] : gates[3];
    }
    args.previous[row * args.hidden + j] = before;
  }
}

Step step_of(const int64_t* step_begin, int64_t t) {
  return {step_begin[t], step_begin[t + 1] - step_begin[t], t > 0 ? step_begin[t - 1] : -1};
}

}  // namespace

void run_cuda(const Recurrence& args, void* stream) {
  const int64_t width = parts_of(args.cell) * args.hidden;
  for (int64_t t = 0; t < args.steps; ++t) {
    const Step step = step_of(args.step_begin, t);
    const float* const before = t > 0 ? args.h + step.before * args.hidden : args.h0;
    if (before != nullptr) {
      run_cuda(Gemm{before, false, args.weight, true, step.count, width, args.hidden, 1.0f, 0.0f, args.products,
                    args.workspace, args.workspace_bytes},
               stream);
    }
    const unsigned blocks = cuda::blocks_for(step.count * args.hidden, kThreads);
    cuda::launch(args.cell == Cell::lstm ? lstm_kernel : gru_kernel, blocks, kThreads, 0, stream, args, step,
                 before != nullptr);
  }
}

void run_cuda(const RecurrenceGradient& args, void* stream) {
  const int64_t width = parts_of(args.cell) * args.hidden;
  const bool lstm = args.cell == Cell::lstm;
  for (int64_t t = args.steps - 1; t >= 0; --t) {
    const Step step = step_of(args.step_begin, t);
    const unsigned blocks = cuda::blocks_for(step.count * args.hidden, kThreads);
    cuda::launch(lstm ? lstm_gradient_kernel : gru_gradient_kernel, blocks, kThreads, 0, stream, args, step);
    // The gru's kernel left in d_h what does not go through the product.
    const float* const d_product = lstm ? args.d_input : args.d_product;
    run_cuda(Gemm{d_product + step.begin * width, false, args.weight, false, step.count, args.hidden, width, 1.0f,
                  lstm ? 0.0f : 1.0f, args.d_h, args.workspace, args.workspace_bytes},
             stream);
  }
}

}  // namespace dgm::kernels
