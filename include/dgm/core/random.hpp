// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/tensor.hpp>

#include <cstdint>

namespace dgm {

/// Where an op's random words come from: Philox4x32-10 with key = seed and counter = (datum, step,
/// sample, site). Nothing else enters, so a CPU with any number of threads and any GPU draw the
/// same words, and a resumed run draws what the uninterrupted one would have.
///
/// A handle: copies share the step counter.
class Draws {
 public:
  /// Step 0 of a seed, with the counter on a stream.
  Draws(uint64_t seed, const Stream& stream);
  /// The same seed and step for another random variable of the program. Every op that draws in a
  /// step must have a site of its own. Throws ArgumentError unless 0 <= site < 65536.
  Draws at(int site) const;

  uint64_t seed() const { return seed_; }
  int site() const { return site_; }
  /// One element on the device, read by the kernels.
  const Tensor<int64_t>& step() const { return step_; }
  /// Throws ArgumentError unless 0 <= step < 2^30.
  void set_step(int64_t step);

 private:
  uint64_t seed_;
  int site_ = 0;
  Tensor<int64_t> step_;
};

}  // namespace dgm
