# SPDX-License-Identifier: Apache-2.0
# The installed package: libraries, headers, dgm_cuda-config.cmake, dgm_cuda.pc, documents.

include(CMakePackageConfigHelpers)
set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/dgm_cuda")

install(TARGETS dgm_cuda_shared EXPORT dgm_cuda-shared)
install(TARGETS dgm_cuda_static EXPORT dgm_cuda-static)
install(EXPORT dgm_cuda-shared NAMESPACE dgm_cuda:: DESTINATION "${package_dir}")
install(EXPORT dgm_cuda-static NAMESPACE dgm_cuda:: DESTINATION "${package_dir}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/dgm" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}" FILES_MATCHING PATTERN "*.hpp")
install(FILES "${PROJECT_SOURCE_DIR}/README.md" "${PROJECT_SOURCE_DIR}/LICENSE" "${PROJECT_SOURCE_DIR}/CHANGELOG.md"
        DESTINATION "${CMAKE_INSTALL_DOCDIR}")

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/dgm_cuda-config.cmake.in"
  "${PROJECT_BINARY_DIR}/dgm_cuda-config.cmake" INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/dgm_cuda-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/dgm_cuda-config.cmake" "${PROJECT_BINARY_DIR}/dgm_cuda-config-version.cmake"
        DESTINATION "${package_dir}")

# For the static library pkg-config needs the libraries themselves.
set(DGM_PC_PRIVATE ${DGM_MATRIX_LIBRARIES} ${DGM_HIGHWAY_LIBRARY} ${ZLIB_LIBRARIES} ${OpenMP_CXX_FLAGS} ${CMAKE_THREAD_LIBS_INIT}
                   ${CMAKE_DL_LIBS})
if(DGM_NVCC)
  list(APPEND DGM_PC_PRIVATE "-L${CUDAToolkit_LIBRARY_DIR}" -lcudart)
endif()
list(TRANSFORM DGM_PC_PRIVATE REPLACE "^([a-z]+)$" "-l\\1")
list(JOIN DGM_PC_PRIVATE " " DGM_PC_PRIVATE)
# The way from lib/pkgconfig, or lib/<architecture>/pkgconfig, back to the prefix.
file(RELATIVE_PATH DGM_PC_UP "/${CMAKE_INSTALL_LIBDIR}" "/")
configure_file("${PROJECT_SOURCE_DIR}/cmake/dgm_cuda.pc.in" "${PROJECT_BINARY_DIR}/dgm_cuda.pc" @ONLY)
install(FILES "${PROJECT_BINARY_DIR}/dgm_cuda.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
