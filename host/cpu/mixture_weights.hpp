// SPDX-License-Identifier: Apache-2.0
// What mixtures have in common, whatever the shape of their covariances.
#pragma once

#include <cstdint>
#include <vector>

namespace dgm::kernels {

/// log softmax in double; all -inf where no component has weight, all NaN if a logit is.
std::vector<double> log_mixture_weights(const float* logits, int64_t components);

/// d_logits = upstream (s0 - pi sum s0).
void mixture_logit_gradients(const float* logits, int64_t components, const double* s0, double upstream,
                             float* d_logits);

/// What a launch of kernels/mixture.hpp sums up, where it is wanted.
template <class Args>
void set_total(const Args& args, double total) {
  if (args.total != nullptr) *args.total = static_cast<float>(total);
  if (args.exact_total != nullptr) *args.exact_total = total;
}

}  // namespace dgm::kernels
