// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/random.hpp>
#include <dgm/core/tensor.hpp>

#include <cstdint>

namespace dgm {

/// How the data of a step are chosen.
enum class Sampling {
  epochs,            ///< a new random order each epoch, every datum once
  with_replacement,  ///< each entry uniform, independent of all others
};

/// What becomes of the data that do not fill a batch at the end of an epoch.
enum class LastBatch {
  wrap,  ///< the batch is filled up from the next epoch: every datum exactly once an epoch
  drop,  ///< they are left out; the next epoch leaves out others
  pad,   ///< the batch is filled up with entries of weight 0: every datum exactly once an epoch
};

struct MinibatchOptions {
  Sampling sampling = Sampling::epochs;
  LastBatch last = LastBatch::wrap;
};

/// The data of one step. For any f, the expectation over the draws of sum_i weights[i]
/// f(indices[i]) is the sum of f over all data: gradients of a weighted log-likelihood are unbiased.
struct Minibatch {
  Tensor<int64_t> indices;  ///< (M) in 0..N-1
  Tensor<float> weights;    ///< (M) N / M; in a padded batch with r data N / r and 0
  double scale;             ///< N / M
  Draws draws;              ///< of this step; sites below kMinibatchSite are free for the model
};

/// The site that minibatches draw from.
inline constexpr int kMinibatchSite = 65535;

/// Draws minibatches of M out of N data on the device, from the draws' seed and step alone: nothing
/// is stored between steps, equal seed and step give equal data on every device, and nothing
/// synchronises.
///
/// Source    the order of an epoch is a Feistel network with cycle walking keyed by Philox: Black &
///           Rogaway 2002, "Ciphers with arbitrary finite domains".
class MinibatchSampler {
 public:
  /// batch = 0 takes all data in their order at every step, with weight 1.
  /// Throws ArgumentError unless 1 <= data < 2^47 and batch >= 0, or if LastBatch::drop would leave
  /// out all data (batch > data).
  MinibatchSampler(int64_t data, int64_t batch, const Draws& draws, const MinibatchOptions& options = {});

  /// The batch of the draws' step. Does not advance the step.
  Minibatch draw() const;

  int64_t data() const { return data_; }
  /// M.
  int64_t batch() const { return batch_; }
  /// Steps that make an epoch; with wrap and with replacement N / M, rounded up.
  int64_t steps_per_epoch() const;

 private:
  int64_t data_;
  int64_t batch_;
  bool all_;
  Draws draws_;
  MinibatchOptions options_;
};

/// Rows of x: y[i, ...] = x[indices[i], ...].
///
/// x         (N, ...) of rank at least 1
/// indices   (M) on x's stream; an index outside 0..N-1 gives NaN, and for int32_t its lowest value
/// returns   (M, ...) on x's stream; does not synchronise
/// Throws    ShapeError for a wrong rank, DeviceError for different streams.
Tensor<float> gather_rows(const Tensor<float>& x, const Tensor<int64_t>& indices);
Tensor<int32_t> gather_rows(const Tensor<int32_t>& x, const Tensor<int64_t>& indices);

/// The way back, in place: y[indices[i], ...] = x[i, ...]. An index outside 0..N-1 is left out; rows of one index
/// must be equal.
///
/// x         (M, ...); y (N, ...) with the same other axes; indices (M)
/// Throws    ShapeError, DeviceError. Does not synchronise.
void scatter_rows(const Tensor<float>& x, const Tensor<int64_t>& indices, Tensor<float>& y);

}  // namespace dgm
