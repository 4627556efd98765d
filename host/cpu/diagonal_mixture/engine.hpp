// SPDX-License-Identifier: Apache-2.0
// What one call prepares, and the fast path with its fallback.
#pragma once

#include "host/cpu/diagonal_mixture/exact.hpp"
#include "host/cpu/diagonal_mixture/tile.hpp"

#include <vector>

namespace dgm::kernels::diagonal {

/// Threads worth having for that many rows.
int useful_threads(int64_t rows, const DiagonalMixture& mixture);

/// Everything the fast path needs for one call.
class Engine {
 public:
  explicit Engine(const DiagonalMixture& mixture);

  const DiagonalMixture& mixture() const { return mixture_; }
  const Plan& plan() const { return plan_; }
  const std::vector<double>& peak() const { return peak_; }
  /// False if a parameter is too extreme for the fast path: then every row is slow.
  bool ordinary() const { return ordinary_; }

  int64_t tile_rows() const { return plan_.tile_rows; }
  int64_t tile_floats() const { return plan_.tile_rows * (plan_.vectors * plan_.lanes + (plan_.dims + 15) / 16 * 16); }

  Tile tile(float* memory) const {
    Tile result = {};
    result.terms = memory;
    result.x = memory + plan_.tile_rows * plan_.vectors * plan_.lanes;
    return result;
  }

  /// Fills the tile with rows x[0..rows) and makes their exponentials. True if all is done; else slow[n]
  /// tells which rows are to be done over in double; their terms are zero times something finite.
  bool exponentials(const float* x, int64_t rows, Tile& tile, bool* slow) const;

 private:
  void pack();

  DiagonalMixture mixture_;
  std::vector<double> peak_;
  Plan plan_;
  Scratch packed_;
  bool ordinary_ = true;
};

}  // namespace dgm::kernels::diagonal
