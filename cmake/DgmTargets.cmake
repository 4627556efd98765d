# SPDX-License-Identifier: Apache-2.0
# How the library is put together from names. Every file follows from the name of an op, a launch
# or a host file; one that is missing stops the configuration.

set(DGM_OPS "")
set(DGM_HOST_SOURCES "")
set(DGM_KERNEL_SOURCES "")

function(dgm_require)
  foreach(file ${ARGN})
    if(NOT EXISTS "${PROJECT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "${file} is missing; CMakeLists.txt names what it belongs to (see CONTRIBUTING.md)")
    endif()
  endforeach()
endfunction()

# An op: public header, host, CPU backend, launch arguments, kernel, test and benchmark.
macro(dgm_add_op name)
  dgm_require(include/dgm/ops/${name}.hpp tests/ops/${name}.cpp bench/${name}.cpp)
  list(APPEND DGM_OPS ${name})
  list(APPEND DGM_HOST_SOURCES host/ops/${name}.cpp)
  dgm_add_launches(${name})
endmacro()

# Launches with no op of their own: launch arguments, CPU backend, kernel.
macro(dgm_add_launches)
  foreach(launch ${ARGN})
    dgm_require(host/cpu/${launch}.cpp kernels/${launch}.hpp kernels/${launch}.cu)
    list(APPEND DGM_HOST_SOURCES host/cpu/${launch}.cpp)
    list(APPEND DGM_KERNEL_SOURCES kernels/${launch}.cu)
  endforeach()
endmacro()

# Host files of one room: include/dgm/<room>/<name>.hpp with host/<room>/<name>.cpp.
macro(dgm_add_host room)
  foreach(name ${ARGN})
    dgm_require(include/dgm/${room}/${name}.hpp host/${room}/${name}.cpp)
    list(APPEND DGM_HOST_SOURCES host/${room}/${name}.cpp)
  endforeach()
endmacro()

# What the library's objects are compiled with.
function(dgm_compile_with_dependencies target)
  target_include_directories(${target}
    PUBLIC "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/include>" "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>"
    PRIVATE "${PROJECT_SOURCE_DIR}" "${DGM_MATRIX_INCLUDE}" "${DGM_HIGHWAY_INCLUDE}" "${DGM_STB_INCLUDE}")
  target_compile_features(${target} PUBLIC cxx_std_20)
  # Baseline, AVX2 and AVX-512: what lies between is not worth its compile time.
  target_compile_definitions(${target} PRIVATE "HWY_DISABLED_TARGETS=(HWY_SSSE3|HWY_SSE4|HWY_AVX3_DL)")
  target_link_libraries(${target} PRIVATE "$<BUILD_INTERFACE:dgm_flags>" "$<BUILD_INTERFACE:nlohmann_json::nlohmann_json>")
endfunction()

macro(dgm_finish_library)
  set(DGM_LIBRARY_SOURCES ${DGM_HOST_SOURCES})
  if(DGM_NVCC OR DGM_SIMT)
    list(APPEND DGM_LIBRARY_SOURCES kernels/runtime.cu ${DGM_KERNEL_SOURCES})
  else()
    list(APPEND DGM_LIBRARY_SOURCES kernels/runtime_stub.cpp)
  endif()
  if(DGM_SIMT)
    add_subdirectory(tests/simt)
    set_source_files_properties(kernels/runtime.cu ${DGM_KERNEL_SOURCES} PROPERTIES
      LANGUAGE CXX COMPILE_OPTIONS "-xc++" COMPILE_DEFINITIONS DGM_SIMT)
  endif()

  set(dependencies OpenMP::OpenMP_CXX ZLIB::ZLIB ${DGM_MATRIX_TARGET} dgm_cuda::highway Threads::Threads ${CMAKE_DL_LIBS})
  if(DGM_NVCC)
    list(APPEND dependencies CUDA::cudart)  # kernels/device/cublas.cuh loads cuBLAS
  endif()

  if(DGM_USE_ONEDNN)
    set_source_files_properties(host/cpu/gemm.cpp PROPERTIES COMPILE_DEFINITIONS DGM_ONEDNN)
  endif()
  if(DGM_SANITIZE MATCHES "undefined")
    # In vector code these look at every reference to a register, which takes most of the compiler's time and finds
    # nothing that AddressSanitizer does not.
    set(vector_sources ${DGM_LIBRARY_SOURCES})
    list(FILTER vector_sources INCLUDE REGEX "^host/cpu/")
    set_source_files_properties(${vector_sources} PROPERTIES
      COMPILE_OPTIONS "-fno-sanitize=null,alignment,object-size,pointer-overflow")
  endif()
  # Compiled once, linked twice.
  add_library(dgm_objects OBJECT ${DGM_LIBRARY_SOURCES})
  dgm_compile_with_dependencies(dgm_objects)
  target_link_libraries(dgm_objects PRIVATE ${dependencies})
  if(DGM_NVCC OR DGM_SIMT)
    target_compile_definitions(dgm_objects PRIVATE DGM_HAS_CUDA)
  endif()
  if(DGM_SIMT)
    target_link_libraries(dgm_objects PRIVATE dgm_simt)
  endif()
  foreach(kind shared static)
    string(TOUPPER ${kind} kind_upper)
    add_library(dgm_cuda_${kind} ${kind_upper} $<TARGET_OBJECTS:dgm_objects>)
    dgm_compile_with_dependencies(dgm_cuda_${kind})
    set_target_properties(dgm_cuda_${kind} PROPERTIES OUTPUT_NAME dgm_cuda LINKER_LANGUAGE CXX)
    if(DGM_SIMT)
      target_link_libraries(dgm_cuda_${kind} PRIVATE "$<BUILD_INTERFACE:dgm_simt>")
    endif()
  endforeach()
  # Who links the shared library needs none of what it is built on; who links the static one needs it all.
  target_link_libraries(dgm_cuda_shared PRIVATE "$<BUILD_INTERFACE:${dependencies}>")
  target_link_libraries(dgm_cuda_static PRIVATE ${dependencies})
  set_target_properties(dgm_cuda_shared PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR} EXPORT_NAME dgm_cuda)
  if(NOT DGM_SIMT)
    set(exports "${PROJECT_SOURCE_DIR}/cmake/exports.map")
    target_link_options(dgm_cuda_shared PRIVATE "LINKER:--version-script=${exports}")
    set_target_properties(dgm_cuda_shared PROPERTIES LINK_DEPENDS "${exports}")
  endif()
  add_library(dgm_cuda::dgm_cuda ALIAS dgm_cuda_shared)
  add_library(dgm_cuda::dgm_cuda_static ALIAS dgm_cuda_static)
endmacro()
