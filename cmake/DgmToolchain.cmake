# SPDX-License-Identifier: Apache-2.0
# Compilers, flags and packages.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_CXX_VISIBILITY_PRESET default)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(DGM_CCACHE ccache)
if(DGM_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${DGM_CCACHE}")
endif()

# DGM_CUDA: does this build compile the kernels with nvcc?
set(DGM_NVCC OFF)
if(DGM_SIMT)
  message(STATUS "CUDA kernels: compiled for the executor of tests/simt")
elseif(NOT DGM_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  if(NOT CMAKE_CUDA_COMPILER AND NOT DEFINED ENV{CUDACXX})
    find_program(DGM_NVCC_PATH nvcc HINTS /usr/local/cuda/bin)
    if(DGM_NVCC_PATH)
      set(CMAKE_CUDA_COMPILER "${DGM_NVCC_PATH}")
    endif()
  endif()
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT CMAKE_CUDA_ARCHITECTURES)
      # Machine code for A100 and H100/H200, and PTX that later GPUs compile at load.
      set(CMAKE_CUDA_ARCHITECTURES "80-real;90-real;90-virtual")
    endif()
    enable_language(CUDA)
    if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
      # CMake 3.25 believes that nvcc 13 has no C++20.
      set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
      set(CMAKE_CUDA20_COMPILE_FEATURES cuda_std_20)
      list(APPEND CMAKE_CUDA_COMPILE_FEATURES cuda_std_20)
    endif()
    set(CMAKE_CUDA_STANDARD 20)
    # Keeps what ptxas says about registers beside the object; a test reads it.
    set(CMAKE_CUDA_COMPILER_LAUNCHER "${CMAKE_CURRENT_LIST_DIR}/resource_report.sh")
    if(DGM_CCACHE)
      list(APPEND CMAKE_CUDA_COMPILER_LAUNCHER "${DGM_CCACHE}")
    endif()
    find_package(CUDAToolkit REQUIRED)
    set(DGM_NVCC ON)
    message(STATUS "CUDA kernels: nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${CMAKE_CUDA_ARCHITECTURES}")
  elseif(DGM_CUDA STREQUAL "ON")
    message(FATAL_ERROR "DGM_CUDA=ON but no nvcc was found; set CMAKE_CUDA_COMPILER, or use DGM_CUDA=AUTO or OFF")
  endif()
endif()
if(NOT DGM_NVCC AND NOT DGM_SIMT)
  message(STATUS "CUDA kernels: none, this is a CPU-only build")
endif()

include(GNUInstallDirs)
# Installed programs find the library beside them, and the toolkit where it was when they were built.
if(NOT DEFINED CMAKE_INSTALL_RPATH)
  set(CMAKE_INSTALL_RPATH "$ORIGIN" "$ORIGIN/../${CMAKE_INSTALL_LIBDIR}")
  set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
endif()

find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(Threads REQUIRED)
find_package(ZLIB REQUIRED)
find_package(nlohmann_json REQUIRED)
# DGM_ONEDNN: matrix products through oneDNN, whose code is made for the processor it finds, or a BLAS?
set(DGM_USE_ONEDNN OFF)
if(DGM_ONEDNN STREQUAL "ON" OR (DGM_ONEDNN STREQUAL "AUTO" AND CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$"))
  find_path(DGM_ONEDNN_INCLUDE oneapi/dnnl/dnnl.h)
  find_library(DGM_ONEDNN_LIBRARY dnnl)
  if(DGM_ONEDNN_INCLUDE AND DGM_ONEDNN_LIBRARY)
    set(DGM_USE_ONEDNN ON)
  elseif(DGM_ONEDNN STREQUAL "ON")
    message(FATAL_ERROR "DGM_ONEDNN=ON but oneDNN was not found (libdnnl-dev); install it, or use DGM_ONEDNN=AUTO or OFF")
  endif()
endif()
if(DGM_USE_ONEDNN)
  set(DGM_MATRIX_INCLUDE "${DGM_ONEDNN_INCLUDE}")
  set(DGM_MATRIX_TARGET "${DGM_ONEDNN_LIBRARY}")
  set(DGM_MATRIX_LIBRARIES "${DGM_ONEDNN_LIBRARY}")
else()
  find_package(BLAS REQUIRED)
  find_path(DGM_CBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas REQUIRED)
  set(DGM_MATRIX_INCLUDE "${DGM_CBLAS_INCLUDE}")
  set(DGM_MATRIX_TARGET BLAS::BLAS)
  set(DGM_MATRIX_LIBRARIES "${BLAS_LIBRARIES}")
endif()
message(STATUS "Matrix products on the CPU: ${DGM_MATRIX_LIBRARIES}")
find_path(DGM_HIGHWAY_INCLUDE hwy/highway.h REQUIRED)
find_path(DGM_STB_INCLUDE stb/stb_image_write.h REQUIRED)
find_library(DGM_HIGHWAY_LIBRARY hwy REQUIRED)
# Debian's Highway has no CMake package; the installed package defines the same target.
add_library(dgm_cuda::highway INTERFACE IMPORTED)
target_include_directories(dgm_cuda::highway INTERFACE "${DGM_HIGHWAY_INCLUDE}")
target_link_libraries(dgm_cuda::highway INTERFACE "${DGM_HIGHWAY_LIBRARY}")

# Flags that all of the project's targets share; never installed.
add_library(dgm_flags INTERFACE)
set(DGM_WARNINGS -Wall -Wextra -Wpedantic -Wshadow)
target_compile_options(dgm_flags INTERFACE
  "$<$<COMPILE_LANGUAGE:CXX>:${DGM_WARNINGS}>"
  # The reference and the kernels' shared maths must mean what they say about NaN and infinity.
  "$<$<COMPILE_LANGUAGE:CXX>:-fno-math-errno>"
  # GCC 12 sees overlapping copies in its own std::string (its bug 105651).
  "$<$<AND:$<COMPILE_LANGUAGE:CXX>,$<CXX_COMPILER_ID:GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,13>>:-Wno-restrict>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Wno-unused-parameter;--expt-relaxed-constexpr;-lineinfo;-Xptxas=-v>")
if(DGM_WERROR)
  target_compile_options(dgm_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-Werror>" "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>")
endif()
if(DGM_SANITIZE)
  target_compile_options(dgm_flags INTERFACE
    "$<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${DGM_SANITIZE};-fno-omit-frame-pointer;-fno-sanitize-recover=all>")
  target_link_options(dgm_flags INTERFACE -fsanitize=${DGM_SANITIZE})
endif()
