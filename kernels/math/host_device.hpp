// SPDX-License-Identifier: Apache-2.0
// Scalar maths that the CPU backend and the kernels share is marked DGM_HD.
#pragma once

#if defined(__CUDACC__)
#define DGM_HD __host__ __device__
#else
#define DGM_HD
#endif
