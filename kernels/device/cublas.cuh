// SPDX-License-Identifier: Apache-2.0
// cuBLAS, loaded when the first product needs it: its libraries are hundreds of megabytes, and loading them takes
// longer than many programs run.
#pragma once

#include <dgm/core/error.hpp>

#include <cublas_v2.h>

#include <string>

#ifndef DGM_SIMT
#include <dlfcn.h>
#endif

namespace dgm::cuda {

/// The functions of cuBLAS that are used.
struct Cublas {
  decltype(&::cublasCreate) create;
  decltype(&::cublasSetMathMode) set_math_mode;
  decltype(&::cublasSetStream) set_stream;
  decltype(&::cublasSetWorkspace) set_workspace;
  decltype(&::cublasSgemm) sgemm;
  decltype(&::cublasGetStatusString) status_string;
};

#ifdef DGM_SIMT

inline const Cublas& cublas() {
  static const Cublas functions = {&cublasCreate,       &cublasSetMathMode, &cublasSetStream,
                                   &cublasSetWorkspace, &cublasSgemm,       &cublasGetStatusString};
  return functions;
}

#else

// Names as the library has them: cublasCreate, for one, is a macro for cublasCreate_v2.
#define DGM_TEXT_OF(name) #name
#define DGM_CUBLAS_FIND(name) reinterpret_cast<decltype(&::name)>(find(DGM_TEXT_OF(name)))

/// Throws    BackendUnavailable if the library is not where the CUDA runtime is, nor where the loader looks.
inline const Cublas& cublas() {
  static const Cublas functions = [] {
    const std::string name = "libcublas.so." + std::to_string(CUBLAS_VER_MAJOR);
    void* library = nullptr;
    Dl_info runtime;
    if (dladdr(reinterpret_cast<void*>(&cudaGetDevice), &runtime) != 0 && runtime.dli_fname != nullptr) {
      const std::string path = runtime.dli_fname;
      library = dlopen((path.substr(0, path.rfind('/') + 1) + name).c_str(), RTLD_NOW | RTLD_LOCAL);
    }
    if (library == nullptr) library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) throw BackendUnavailable(std::string("matrix products on CUDA need cuBLAS: ") + dlerror());
    const auto find = [&](const char* symbol) {
      void* const function = dlsym(library, symbol);
      if (function == nullptr) throw BackendUnavailable(name + " has no " + symbol);
      return function;
    };
    return Cublas{DGM_CUBLAS_FIND(cublasCreate),    DGM_CUBLAS_FIND(cublasSetMathMode),
                  DGM_CUBLAS_FIND(cublasSetStream), DGM_CUBLAS_FIND(cublasSetWorkspace),
                  DGM_CUBLAS_FIND(cublasSgemm),     DGM_CUBLAS_FIND(cublasGetStatusString)};
  }();
  return functions;
}

#undef DGM_CUBLAS_FIND
#undef DGM_TEXT_OF

#endif

}  // namespace dgm::cuda
