// SPDX-License-Identifier: Apache-2.0
// The matrix product, through oneDNN or a BLAS, and cuBLAS.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dgm::kernels {

/// C = alpha op(A) op(B) + beta C, all row-major without gaps; op(A) is (m, k), op(B) (k, n), C (m, n).
/// C is not read where beta = 0. Extents fit in 31 bits.
struct Gemm {
  const float* a;  // (m, k), transposed (k, m)
  bool transpose_a;
  const float* b;  // (k, n), transposed (n, k)
  bool transpose_b;
  int64_t m;
  int64_t n;
  int64_t k;
  float alpha;
  float beta;
  float* c;
  void* workspace;  // device memory for cuBLAS, so that a captured product owns it; null on the CPU
  std::size_t workspace_bytes;
};
void run_cpu(const Gemm& args);
void run_cuda(const Gemm& args, void* stream);

}  // namespace dgm::kernels
