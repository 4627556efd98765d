// SPDX-License-Identifier: Apache-2.0
// Launches that apply one of a family of functions to every element. A family is an enumeration,
// made from a list DO(Name)...; its functions are structs of the same names in a
// kernels/math/<family>-inl.hpp, from which the CPU and the CUDA backend are made alike.
#pragma once

#include <cstdint>

#define DGM_ENUMERATOR(name) k##name,

namespace dgm::kernels {

/// Constants of a function, for those that have any.
struct MapConstants {
  float a = 0;
  float b = 0;
};

/// y[i] = f(x[i]).
template <class Function>
struct Map {
  Function function;
  MapConstants constants;
  const float* x;
  int64_t size;
  float* y;
};

/// What the gradient of a function needs beside g.
enum class Keeps : int32_t { kNothing, kInput, kOutput };

/// dx[i] = f'(...) g[i].
template <class Function>
struct MapGradient {
  Function function;
  MapConstants constants;
  const float* kept;  // x or y, as the function says; g where it keeps nothing
  const float* g;
  int64_t size;
  float* dx;
};

}  // namespace dgm::kernels
