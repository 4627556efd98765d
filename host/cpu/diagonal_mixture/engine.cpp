// SPDX-License-Identifier: Apache-2.0
#include "host/cpu/diagonal_mixture/engine.hpp"

#include "host/cpu/parallel.hpp"

#include <atomic>
#include <cmath>

namespace dgm::kernels::diagonal {

namespace {

Plan plan_of(const DiagonalMixture& mixture) {
  Plan plan = {};
  plan.components = mixture.components;
  plan.dims = mixture.dims;
  plan.lanes = vector_lanes();
  plan.vectors = (mixture.components + plan.lanes - 1) / plan.lanes;
  const int64_t padded = plan.vectors * plan.lanes;
  plan.in_cache = padded * plan.dims <= 4096;
  // As many rows as fit the first-level cache beside their parameters, unless these do not fit themselves.
  constexpr int64_t kTermsInCache = 6 * 1024;
  constexpr int64_t kRowsOutOfCache = 40;
  plan.tile_rows = plan.in_cache ? std::clamp(kTermsInCache / padded / kRowGroup * kRowGroup, kRowGroup, kTileRows)
                                 : kRowsOutOfCache;
  return plan;
}

}  // namespace

int useful_threads(int64_t rows, const DiagonalMixture& mixture) {
  constexpr double kTermsPerThread = 1 << 17;
  const double terms = static_cast<double>(rows) * static_cast<double>(mixture.components * mixture.dims);
  return static_cast<int>(std::clamp<double>(terms / kTermsPerThread, 1, cpu_threads()));
}

Engine::Engine(const DiagonalMixture& mixture)
    : mixture_(mixture),
      peak_(peaks(mixture)),
      plan_(plan_of(mixture)),
      packed_(plan_.vectors * plan_.lanes * (1 + 2 * plan_.dims)) {
  pack();
}

bool Engine::exponentials(const float* x, int64_t rows, Tile& tile, bool* slow) const {
  const int64_t dims = plan_.dims;
  tile.rows = rows;
  if (!ordinary_) {
    std::fill(slow, slow + rows, true);
    return false;
  }
  const bool near = copy_near(x, rows * dims, tile.x);
  if (!near) {
    for (int64_t n = 0; n < rows; ++n) {
      slow[n] = !copy_near(x + n * dims, dims, tile.x + n * dims);
      if (slow[n]) std::fill(tile.x + n * dims, tile.x + (n + 1) * dims, 0.0f);
    }
  }
  const int64_t computed = (rows + kRowGroup - 1) / kRowGroup * kRowGroup;
  std::fill(tile.x + rows * dims, tile.x + computed * dims, 0.0f);
  // The next tile, most likely: its rows arrive while this one is computed.
  for (int64_t i = 0; i < rows * dims; i += 16) __builtin_prefetch(x + rows * dims + i);
  diagonal::exponentials(plan_, tile);
  if (near && all_ordinary(tile)) return true;
  for (int64_t n = 0; n < rows; ++n) {
    slow[n] = (!near && slow[n]) || !(tile.sum[n] > 0.0f) || !(tile.y[n] >= kLowestOrdinary);
  }
  return false;
}

void Engine::pack() {
  const int64_t lanes = plan_.lanes;
  const int64_t dims = plan_.dims;
  float* const to_peaks = packed_.data();
  float* const to_parameters = to_peaks + plan_.vectors * lanes;
  plan_.peaks = to_peaks;
  plan_.parameters = to_parameters;
  std::atomic<bool> ordinary = true;
  const int64_t grain = std::max<int64_t>(1, (1 << 13) / (dims * lanes));
  cpu::parallel_ranges(plan_.vectors, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin * lanes; k < end * lanes; ++k) {
      const double peak = k < mixture_.components ? peak_[static_cast<std::size_t>(k)] : -INFINITY;
      to_peaks[k] = static_cast<float>(peak * kLog2E);
      float* const to = to_parameters + (k / lanes * dims * 2) * lanes + k % lanes;
      bool fine = peak < INFINITY;  // false for NaN
      for (int64_t d = 0; d < dims; ++d) {
        const bool used = peak != -INFINITY;
        const float mean = used ? mixture_.mean[k * dims + d] : 0.0f;
        const float log_scale = used ? mixture_.log_scale[k * dims + d] : 0.0f;
        fine = fine && std::abs(mean) <= kFarthest && std::abs(log_scale) <= kExtremeLogScale;
        to[2 * d * lanes] = mean;
        to[(2 * d + 1) * lanes] = static_cast<float>(std::sqrt(kLog2E / 2) * std::exp(-double{log_scale}));
      }
      if (!fine) ordinary = false;
    }
  });
  ordinary_ = ordinary;
}

}  // namespace dgm::kernels::diagonal
