// SPDX-License-Identifier: Apache-2.0
// A tile of rows and what the vector code computes of it: host/cpu/diagonal_mixture/tile.cpp.
#pragma once

#include "kernels/diagonal_mixture.hpp"

#include <algorithm>
#include <cstddef>
#include <new>

namespace dgm::kernels::diagonal {

constexpr int64_t kTileRows = 72;          // at most
constexpr int64_t kRowGroup = 8;           // rows of a register tile, and of ReduceRows
constexpr float kFarthest = 1e16f;         // squares of differences stay floats, times the rows of a block
constexpr float kExtremeLogScale = 30;     // and so do those of the closest
constexpr float kLowestOrdinary = -3e38f;  // of log marginals
constexpr double kLog2E = 1.4426950408889634074;

/// Uninitialised memory, aligned for vectors.
class Scratch {
 public:
  explicit Scratch(int64_t floats)
      : data_(static_cast<float*>(
            ::operator new(static_cast<std::size_t>(std::max<int64_t>(floats, 1)) * sizeof(float), kAlignment))) {}
  ~Scratch() { ::operator delete(data_, kAlignment); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  float* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  float* data_;
};

/// The parameters as the vector code reads them. Logs are to base 2 there: 2^-t'^2 with
/// t' = t sqrt(log2(e) / 2) is exp(-t^2 / 2).
struct Plan {
  int64_t components;
  int64_t dims;
  int64_t lanes;
  int64_t vectors;          // of components; the last is filled up with components of no weight
  int64_t tile_rows;        // a multiple of kRowGroup
  bool in_cache;            // whether a tile and the parameters fit the first-level cache
  const float* peaks;       // (vectors, lanes), base 2; -inf for no weight
  const float* parameters;  // (vectors, dims, 2, lanes): mean, and 1 / scale times sqrt(log2(e) / 2)
};

/// Vectors of components come one after another, each with all rows of the tile: what is read together lies
/// together.
struct Tile {
  int64_t rows;
  float* x;      // (tile_rows, dims); zeros from `rows` on and where a row is left to the slow path
  float* terms;  // (vectors, tile_rows, lanes): log joints, then exp(log joint - max), then weighted responsibilities
  // Past the last row there is room for a vector.
  float max[kTileRows + 16];    // base 2
  float sum[kTileRows + 16];    // of the exponentials; 0 if all joints are -inf
  float y[kTileRows + 16];      // log marginal, unless sum is 0
  float scale[kTileRows + 16];  // w / sum, from the caller; 0 for a row that adds nothing
};

int64_t vector_lanes();

/// Copies count floats and tells whether all of them are in reach of the fast path.
bool copy_near(const float* from, int64_t count, float* to);

/// From x to exponentials, max, sum and y.
void exponentials(const Plan& plan, Tile& tile);

/// Whether every row has a log marginal within floats.
bool all_ordinary(const Tile& tile);

/// scale = w / sum for ordinary rows, of weights w, or 1 if there are none; returns the sum of w y.
double weigh(Tile& tile, const float* weights);

/// Adds to s0 (vectors, lanes) and s12 (vectors, dims, 2, lanes) the sums of r, r (x - mean) and r (x - mean)^2.
/// Turns exponentials into weighted responsibilities.
void add_statistics(const Plan& plan, const Tile& tile, float* s0, float* s12);

/// dx (rows, dims), from weighted responsibilities.
void data_gradients(const Plan& plan, const Tile& tile, float* dx);

}  // namespace dgm::kernels::diagonal
