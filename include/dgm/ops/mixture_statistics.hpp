// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/tensor.hpp>

namespace dgm {

/// What an EM iteration needs of the data, from one pass over it: weighted sums over the rows, about
/// the current parameters, of responsibilities r and standardised residuals t (in scales for a
/// diagonal covariance, L^-1 (x - mean) for a full one).
struct MixtureStatistics {
  Tensor<float> log_marginal;  ///< (N) log p(x_n)
  Tensor<double> s0;           ///< (K) sum_n w_n r_nk
  Tensor<double> s1;           ///< (K, D) sum_n w_n r_nk t_nk
  /// Diagonal: (K, D) sum_n w_n r_nk t_nk^2. Full: (K, D, D), the lower triangle of t_nk t_nk^T, 0 above.
  Tensor<double> s2;
  Tensor<double> log_likelihood;  ///< scalar: sum_n w_n log p(x_n), in double; rows of weight 0 add nothing
};

/// What ancestral sampling from a mixture gives.
struct MixtureSample {
  Tensor<int32_t> z;  ///< (N) components
  Tensor<float> x;    ///< (N, D)
};

}  // namespace dgm
