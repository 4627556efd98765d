// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "kernels/map.hpp"

/// To add a function: its name here, its formula in kernels/math/elementwise-inl.hpp, its op in
/// include/dgm/ops/elementwise.hpp and host/ops/elementwise.cpp.
#define DGM_UNARY_FUNCTIONS(DO) DO(ScaleShift) DO(Exp) DO(Log) DO(Sqrt) DO(Square) DO(Abs) DO(Reciprocal) DO(Clamp)
#define DGM_BINARY_FUNCTIONS(DO) DO(Add) DO(Subtract) DO(Multiply) DO(Divide) DO(NegativeQuotient)

namespace dgm::kernels {

enum class Unary : int32_t { DGM_UNARY_FUNCTIONS(DGM_ENUMERATOR) };

void run_cpu(const Map<Unary>& args);
void run_cuda(const Map<Unary>& args, void* stream);
void run_cpu(const MapGradient<Unary>& args);
void run_cuda(const MapGradient<Unary>& args, void* stream);

enum class Binary : int32_t { DGM_BINARY_FUNCTIONS(DGM_ENUMERATOR) };

/// y = f(a, b) over a broadcast index space: axes of extents whose products with the strides give an
/// operand's element. y is row-major; strides of 0 repeat. Axes that can be one are one, so the last
/// axis has strides 1 or 0, not both 0 unless it is the only element.
struct MapBinary {
  static constexpr int kMostAxes = 8;
  Binary function;
  const float* a;
  const float* b;
  int axes;  // 1..kMostAxes
  int64_t extents[kMostAxes];
  int64_t a_strides[kMostAxes];
  int64_t b_strides[kMostAxes];
  int64_t size;  // product of the extents
  float* y;
};
void run_cpu(const MapBinary& args);
void run_cuda(const MapBinary& args, void* stream);

}  // namespace dgm::kernels
