// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace dgm::cpu {

/// c[i,j] = sum_k a[i,k] b[k,j], or added to c, for i < rows, j < columns; sums in the order of k.
/// a and b may hold pairs of bfloat16 numbers in place of floats: a term is then two products.
struct TileProduct {
  const float* a;
  int64_t a_row;   // floats from a[i,k] to a[i + 1,k]
  int64_t a_term;  // floats from a[i,k] to a[i,k + 1]
  const float* b;  // (terms, panel): a panel is two vectors wide, aligned, and filled up with zeros
  int64_t rows;
  int64_t terms;
  float* c;
  int64_t c_row;    // floats from c[i,j] to c[i + 1,j]
  int64_t columns;  // <= panel
  bool add;
};

}  // namespace dgm::cpu
