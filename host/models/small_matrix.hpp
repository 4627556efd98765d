// SPDX-License-Identifier: Apache-2.0
// Square matrices of a few rows, in double, for what models do between passes over the data. Large
// products go through BLAS instead.
#pragma once

#include <cmath>
#include <cstddef>
#include <optional>
#include <vector>

namespace dgm {

class SmallMatrix {
 public:
  /// Zeros.
  explicit SmallMatrix(std::size_t size) : size_(size), values_(size * size) {}
  SmallMatrix(std::size_t size, const double* values) : size_(size), values_(values, values + size * size) {}
  std::size_t size() const { return size_; }
  double& operator()(std::size_t i, std::size_t j) { return values_[i * size_ + j]; }
  double operator()(std::size_t i, std::size_t j) const { return values_[i * size_ + j]; }
  const std::vector<double>& values() const { return values_; }

 private:
  std::size_t size_;
  std::vector<double> values_;
};

inline SmallMatrix times(const SmallMatrix& a, const SmallMatrix& b) {
  SmallMatrix c(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t l = 0; l < a.size(); ++l) {
      for (std::size_t j = 0; j < a.size(); ++j) c(i, j) += a(i, l) * b(l, j);
    }
  }
  return c;
}

/// a b^T.
inline SmallMatrix times_transposed(const SmallMatrix& a, const SmallMatrix& b) {
  SmallMatrix c(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    for (std::size_t j = 0; j < a.size(); ++j) {
      for (std::size_t l = 0; l < a.size(); ++l) c(i, j) += a(i, l) * b(j, l);
    }
  }
  return c;
}

/// Lower triangular L with L L^T = a, read from a's lower half; nothing if a is not positive definite.
inline std::optional<SmallMatrix> cholesky(const SmallMatrix& a) {
  SmallMatrix lower(a.size());
  for (std::size_t j = 0; j < a.size(); ++j) {
    for (std::size_t i = j; i < a.size(); ++i) {
      double sum = a(i, j);
      for (std::size_t l = 0; l < j; ++l) sum -= lower(i, l) * lower(j, l);
      if (i == j) {
        if (!(sum > 0) || std::isinf(sum)) return std::nullopt;
        lower(j, j) = std::sqrt(sum);
      } else {
        lower(i, j) = sum / lower(j, j);
      }
    }
  }
  return lower;
}

}  // namespace dgm
