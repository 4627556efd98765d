// SPDX-License-Identifier: Apache-2.0
#include "include/cublas_v2.h"

#include <algorithm>
#include <vector>

struct cublasContext {
  cudaStream_t stream = nullptr;
  cublasPointerMode_t pointer_mode = CUBLAS_POINTER_MODE_HOST;
};

cublasStatus_t cublasCreate(cublasHandle_t* handle) {
  *handle = new cublasContext;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
  delete handle;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}
cublasStatus_t cublasGetStream(cublasHandle_t handle, cudaStream_t* stream) {
  *stream = handle->stream;
  return CUBLAS_STATUS_SUCCESS;
}
// The products here are IEEE ones, within the error of any mode.
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }
cublasStatus_t cublasSetPointerMode(cublasHandle_t handle, cublasPointerMode_t mode) {
  handle->pointer_mode = mode;
  return CUBLAS_STATUS_SUCCESS;
}
// The plain loops need none.
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void*, std::size_t) { return CUBLAS_STATUS_SUCCESS; }

const char* cublasGetStatusName(cublasStatus_t status) {
  switch (status) {
    case CUBLAS_STATUS_SUCCESS:
      return "CUBLAS_STATUS_SUCCESS";
    case CUBLAS_STATUS_NOT_INITIALIZED:
      return "CUBLAS_STATUS_NOT_INITIALIZED";
    case CUBLAS_STATUS_ALLOC_FAILED:
      return "CUBLAS_STATUS_ALLOC_FAILED";
    case CUBLAS_STATUS_INVALID_VALUE:
      return "CUBLAS_STATUS_INVALID_VALUE";
    case CUBLAS_STATUS_EXECUTION_FAILED:
      return "CUBLAS_STATUS_EXECUTION_FAILED";
    case CUBLAS_STATUS_INTERNAL_ERROR:
      return "CUBLAS_STATUS_INTERNAL_ERROR";
  }
  return "unknown status";
}
const char* cublasGetStatusString(cublasStatus_t status) { return cublasGetStatusName(status); }

cublasStatus_t cublasSgemmStridedBatched(cublasHandle_t handle, cublasOperation_t transpose_a,
                                         cublasOperation_t transpose_b, int m, int n, int k, const float* alpha,
                                         const float* a, int lda, long long stride_a, const float* b, int ldb,
                                         long long stride_b, const float* beta, float* c, int ldc, long long stride_c,
                                         int batch) {
  const bool at = transpose_a == CUBLAS_OP_T;
  const bool bt = transpose_b == CUBLAS_OP_T;
  if (handle == nullptr) return CUBLAS_STATUS_NOT_INITIALIZED;
  if (m < 0 || n < 0 || k < 0 || batch < 0 || lda < std::max(1, at ? k : m) || ldb < std::max(1, bt ? n : k) ||
      ldc < std::max(1, m) || alpha == nullptr || beta == nullptr) {
    return CUBLAS_STATUS_INVALID_VALUE;
  }
  const bool on_host = handle->pointer_mode == CUBLAS_POINTER_MODE_HOST;
  const float host_alpha = on_host ? *alpha : 0.f;
  const float host_beta = on_host ? *beta : 0.f;
  const cudaError_t error = simt::detail::submit(handle->stream, [=] {
    const float scale = on_host ? host_alpha : *alpha;
    const float keep = on_host ? host_beta : *beta;
    std::vector<float> column(static_cast<std::size_t>(m));
    for (int64_t s = 0; s < batch; ++s) {
      const float* const as = a + s * stride_a;
      const float* const bs = b + s * stride_b;
      for (int64_t j = 0; j < n; ++j) {
        std::fill(column.begin(), column.end(), 0.f);
        for (int64_t p = 0; p < k && scale != 0.f; ++p) {
          const float right = bs[bt ? j + p * ldb : p + j * ldb];
          for (int64_t i = 0; i < m; ++i) column[i] += as[at ? p + i * lda : i + p * lda] * right;
        }
        float* const out = c + s * stride_c + j * ldc;
        for (int64_t i = 0; i < m; ++i) out[i] = scale * column[i] + (keep == 0.f ? 0.f : keep * out[i]);
      }
    }
    return cudaSuccess;
  });
  return error == cudaSuccess ? CUBLAS_STATUS_SUCCESS : CUBLAS_STATUS_EXECUTION_FAILED;
}

cublasStatus_t cublasSgemm(cublasHandle_t handle, cublasOperation_t transpose_a, cublasOperation_t transpose_b, int m,
                           int n, int k, const float* alpha, const float* a, int lda, const float* b, int ldb,
                           const float* beta, float* c, int ldc) {
  return cublasSgemmStridedBatched(handle, transpose_a, transpose_b, m, n, k, alpha, a, lda, 0, b, ldb, 0, beta, c, ldc,
                                   0, 1);
}

cublasStatus_t cublasSgemv(cublasHandle_t handle, cublasOperation_t transpose, int m, int n, const float* alpha,
                           const float* a, int lda, const float* x, int incx, const float* beta, float* y, int incy) {
  if (incx < 1 || incy < 1) return CUBLAS_STATUS_INVALID_VALUE;  // reversed vectors: not used here
  // As a product with x and y as rows: their increment is then the leading dimension.
  const bool t = transpose == CUBLAS_OP_T;
  const int rows = t ? n : m;
  const int inner = t ? m : n;
  return cublasSgemm(handle, CUBLAS_OP_N, t ? CUBLAS_OP_N : CUBLAS_OP_T, 1, rows, inner, alpha, x, incx, a, lda, beta,
                     y, incy);
}
