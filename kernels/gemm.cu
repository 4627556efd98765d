// SPDX-License-Identifier: Apache-2.0
// C = alpha op(A) op(B) + beta C through cuBLAS, in fp32 proper: pedantic mode, so that results do not
// depend on whether tensor cores would round the inputs to TF32.
//
// cuBLAS is column-major: a row-major matrix is its transpose, and C^T = op(B)^T op(A)^T.
// Order      cuBLAS gives equal bits for equal calls on one device while its workspace is its own.
#include "kernels/gemm.hpp"

#include "kernels/device/cublas.cuh"
#include "kernels/device/error.cuh"

#include <map>
#include <mutex>
#include <string>

namespace dgm::kernels {

namespace {

void check_cublas(cublasStatus_t status, const char* call) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw CudaError(std::string(call) + ": " + cuda::cublas().status_string(status));
}

// A device's handle, created at the first use and never destroyed: the driver may be gone by then.
// The mutex is held for the length of a call, since a handle carries its stream and workspace.
struct Handle {
  std::mutex mutex;
  cublasHandle_t cublas = nullptr;
};

Handle& handle_of_current_device() {
  static std::mutex& mutex = *new std::mutex;
  static auto& handles = *new std::map<int, Handle>;
  const cuda::Cublas& library = cuda::cublas();
  int device = 0;
  DGM_CUDA_CHECK(cudaGetDevice(&device));
  const std::lock_guard lock(mutex);
  Handle& handle = handles[device];
  if (handle.cublas == nullptr) {
    // Relaxed while the handle allocates: the first product of a program may be one that is captured.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    DGM_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
    const cublasStatus_t created = library.create(&handle.cublas);
    DGM_CUDA_CHECK(cudaThreadExchangeStreamCaptureMode(&mode));
    check_cublas(created, "cublasCreate");
    check_cublas(library.set_math_mode(handle.cublas, CUBLAS_PEDANTIC_MATH), "cublasSetMathMode");
  }
  return handle;
}

}  // namespace

void run_cuda(const Gemm& args, void* stream) {
  if (args.m == 0 || args.n == 0) return;
  Handle& handle = handle_of_current_device();
  const std::lock_guard lock(handle.mutex);
  check_cublas(cuda::cublas().set_stream(handle.cublas, static_cast<cudaStream_t>(stream)), "cublasSetStream");
  // After the stream, which resets it.
  check_cublas(cuda::cublas().set_workspace(handle.cublas, args.workspace, args.workspace_bytes), "cublasSetWorkspace");
  const auto m = static_cast<int>(args.m);
  const auto n = static_cast<int>(args.n);
  const auto k = static_cast<int>(args.k);
  // A leading dimension of 0 is an error even where there is nothing to read.
  const int lda = args.transpose_a ? m : (k > 0 ? k : 1);
  const int ldb = args.transpose_b ? (k > 0 ? k : 1) : n;
  check_cublas(cuda::cublas().sgemm(handle.cublas, args.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
                                    args.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &args.alpha, args.b, ldb,
                                    args.a, lda, &args.beta, args.c, n),
               "cublasSgemm");
}

}  // namespace dgm::kernels
