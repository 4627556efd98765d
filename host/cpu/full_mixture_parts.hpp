// SPDX-License-Identifier: Apache-2.0
// What the CPU backend of the full-covariance mixture prepares once and what each thread sums; its
// own header because host/cpu/full_mixture.cpp is compiled once for each instruction set.
#pragma once

#include <cstdint>
#include <vector>

namespace dgm::kernels::full {

/// The components that have weight, ready for use: whitening by L^-1 instead of solving with L, and
/// everything that does not depend on the data in one number.
struct Prepared {
  int64_t components;           // K, those of no weight included
  int64_t dims;                 // D
  std::vector<int32_t> active;  // (A) the components of weight above zero
  std::vector<int32_t> slot;    // (K) where in active, or -1
  std::vector<float> mean;      // (A, D)
  std::vector<float> inverse;   // (A, D, D) L^-1, lower
  std::vector<float> log_norm;  // (A) log pi - log |L| - D/2 log 2 pi
};

/// Sums over a lower triangle are kept by rows in groups of four columns: row i has i/4 + 1 groups.
inline int64_t groups_before_row(int64_t i) {
  const int64_t a = i / 4;
  return (2 * a + i % 4) * (a + 1);
}

/// One thread's share of the statistics.
struct Sums {
  std::vector<double> s0;  // (A)
  std::vector<double> s1;  // (A, D rounded up to 4)
  std::vector<double> s2;  // (A, groups, 4)
  double total = 0;
};

}  // namespace dgm::kernels::full
