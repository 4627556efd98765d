// SPDX-License-Identifier: Apache-2.0
// Launches that Gaussian mixtures have in common, whatever the shape of their covariances. `Mixture` holds
// the parameters: DiagonalMixture or FullMixture, whose headers name the launches and say what s2 is.
//
// Letters: N rows of data, K components, D dimensions; t_nk the standardised residual of row n under
// component k; r_nk the responsibilities.
//
// scratch: device memory of cuda_scratch_bytes(args) that run_cuda works in; dgm::run() provides it.
#pragma once

#include "kernels/draws.hpp"

#include <cstddef>
#include <cstdint>

namespace dgm::kernels {

/// y[n] = log p(x_n), and on request sum_n w_n log p(x_n), summed in double in a fixed order. Rows with
/// w_n = 0 add nothing to it whatever x_n is.
template <class Mixture>
struct MixtureMarginal {
  Mixture mixture;
  const float* x;                  // (N, D); a row with a NaN has y = NaN, else one with an infinity y = -inf
  int64_t rows;                    // N
  float* y;                        // (N), null: not wanted
  const float* weights = nullptr;  // (N), null: all 1; only the total is weighted
  float* total = nullptr;          // one element, null: not wanted
  double* exact_total = nullptr;   // the same before it is rounded; null: not wanted
  void* scratch = nullptr;
};

/// Weighted sufficient statistics, about the current parameters, in one pass over the data:
///   s0[k]   = sum_n w_n r_nk
///   s1[k,d] = sum_n w_n r_nk t_nkd
///   s2[k]   = sum_n w_n r_nk t_nk t_nk^T, as much of it as the covariance has
/// and, on request, the log marginal, its weighted sum, and that sum's gradient by the data.
/// Sums are hierarchical and end in double; their order is fixed. Rows with w_n = 0 contribute
/// nothing whatever x_n is; rows of log marginal -inf contribute nothing.
template <class Mixture>
struct MixtureStatistics {
  Mixture mixture;
  const float* x;                 // (N, D)
  int64_t rows;                   // N
  const float* weights;           // (N), any sign; null: all 1
  const float* y_given;           // (N) log marginals from an earlier pass with the same parameters; null: computed
  float* y;                       // (N), null: not wanted; not with y_given
  float* dx;                      // (N, D), null: not wanted
  double* s0;                     // (K), overwritten
  double* s1;                     // (K, D), overwritten
  double* s2;                     // of the covariance's shape, overwritten
  float* total = nullptr;         // one element: sum_n w_n log p(x_n), as above; null: not wanted
  double* exact_total = nullptr;  // the same before it is rounded; null: not wanted
  void* scratch = nullptr;
};

/// r[n,k], for those who ask.
template <class Mixture>
struct MixtureResponsibilities {
  Mixture mixture;
  const float* x;
  int64_t rows;
  float* r;  // (N, K)
  void* scratch = nullptr;
};

/// z[n,s] ~ p(z | x_n), by inversion of the cumulative responsibilities: word s % 4 of block s / 4 of
/// the datum. -1 for a row without a posterior (log marginal -inf or NaN).
template <class Mixture>
struct MixturePosteriorSample {
  Mixture mixture;
  const float* x;
  int64_t rows;
  const int64_t* data;  // (N) each row's datum for the draw; null: the row's number
  int64_t samples;      // S >= 1
  DrawArgs draws;
  int32_t* z;  // (N, S)
  float* y;    // (N) log marginals, null: not wanted
  void* scratch = nullptr;
};

/// log p(x_n, z_ns) for given components; NaN for one that is out of range.
template <class Mixture>
struct MixtureJoint {
  Mixture mixture;
  const float* x;
  const int32_t* z;  // (N, S)
  int64_t rows;
  int64_t samples;
  float* y;  // (N, S)
  void* scratch = nullptr;
};

/// The statistics with the responsibilities replaced by one-hot samples: r_nk = sum_s g_ns [z_ns = k];
/// samples of g_ns = 0 and components out of range or of no weight contribute nothing.
/// With the launch of gradients this is the gradient of sum_ns g_ns log p(x_n, z_ns).
template <class Mixture>
struct MixtureJointStatistics {
  Mixture mixture;
  const float* x;
  const int32_t* z;  // (N, S)
  const float* g;    // (N, S)
  int64_t rows;
  int64_t samples;
  float* dx;  // (N, D), null: not wanted
  double* s0;
  double* s1;
  double* s2;
  void* scratch = nullptr;
};

/// Ancestral sampling: z_n ~ Cat(pi), x_n ~ p(x | z_n). Datum n draws its component from word 0 of
/// block 0 and its dimensions from blocks 1, 2, ... (two normals from two words).
template <class Mixture>
struct MixtureAncestral {
  Mixture mixture;
  int64_t rows;
  DrawArgs draws;
  int32_t* z;  // (N)
  float* x;    // (N, D)
  void* scratch = nullptr;
};

}  // namespace dgm::kernels
