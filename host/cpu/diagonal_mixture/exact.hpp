// SPDX-License-Identifier: Apache-2.0
// The same in double, one row at a time: for rows and parameters that floats do not hold.
#pragma once

#include "kernels/diagonal_mixture.hpp"

#include <vector>

namespace dgm::kernels::diagonal {

/// log pi_k - sum_d (log_scale_kd + log(2 pi) / 2); -inf for a component of no weight.
std::vector<double> peaks(const DiagonalMixture& mixture);

double residual(const DiagonalMixture& mixture, int64_t k, int64_t d, double x);

/// log p(x, k); a component of no weight is not looked at.
double log_joint(const DiagonalMixture& mixture, double peak, int64_t k, const float* x);

/// log p(x), and the responsibilities; zeros where log p(x) is -inf in f32.
float posterior(const DiagonalMixture& mixture, const std::vector<double>& peak, const float* x, double* r);

}  // namespace dgm::kernels::diagonal
