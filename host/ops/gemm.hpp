// SPDX-License-Identifier: Apache-2.0
// Matrix products inside ops.
#pragma once

#include <dgm/core/tensor.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/gemm.hpp"

namespace dgm {

struct Operand {
  const Tensor<float>& matrix;
  bool transpose = false;
};

/// What cuBLAS works in, of the size that it recommends for H100: from the pool, so that it is there already in every
/// later step and two streams never share it. Empty on the CPU.
inline Tensor<uint8_t> gemm_workspace(const Stream& stream) {
  constexpr int64_t kBytes = int64_t{32} << 20;
  return Tensor<uint8_t>::empty({stream.device().is_cuda() ? kBytes : 0}, stream);
}

/// c = op(a) op(b) + beta c with op(a) (m, k), op(b) (k, n), c of m * n elements.
inline void gemm(Operand a, Operand b, int64_t m, int64_t n, int64_t k, float beta, Tensor<float>& c) {
  const Stream& stream = c.stream();
  auto workspace = gemm_workspace(stream);
  run(stream, kernels::Gemm{a.matrix.data(), a.transpose, b.matrix.data(), b.transpose, m, n, k, 1.0f, beta, c.data(),
                            workspace.data(), static_cast<std::size_t>(workspace.size())});
}

}  // namespace dgm
