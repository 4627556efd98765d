// SPDX-License-Identifier: Apache-2.0
// Responsibilities, and components drawn by them.
#include "host/cpu/diagonal_mixture/engine.hpp"
#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <cmath>

namespace dgm::kernels {

using namespace diagonal;

namespace {

/// Calls body(row, y, e, 1 / sum) for each row, with the row's terms e[k] for k below K; from a slow row
/// these are the responsibilities themselves.
template <class Body>
void for_each_posterior(const DiagonalMixture& mixture, const float* x, int64_t rows, const Body& body) {
  const Engine engine(mixture);
  const int64_t tile_rows = engine.tile_rows();
  const int threads = useful_threads(rows, mixture);
  const int64_t grain = (rows + threads - 1) / threads;
  cpu::parallel_ranges(rows, std::max<int64_t>(grain, 1), tile_rows, [&](int64_t begin, int64_t end, int) {
    const Scratch memory(engine.tile_floats());
    Tile tile = engine.tile(memory.data());
    bool slow[kTileRows];
    std::vector<double> r(engine.peak().size());
    const Plan& plan = engine.plan();
    std::vector<float> terms(static_cast<std::size_t>(plan.vectors * plan.lanes));
    for (int64_t first = begin; first < end; first += tile_rows) {
      const int64_t count = std::min(tile_rows, end - first);
      if (engine.exponentials(x + first * mixture.dims, count, tile, slow)) std::fill(slow, slow + count, false);
      for (int64_t n = 0; n < count; ++n) {
        if (slow[n]) {
          const float y = posterior(mixture, engine.peak(), x + (first + n) * mixture.dims, r.data());
          std::copy(r.begin(), r.end(), terms.begin());
          body(first + n, y, terms.data(), 1.0f);
        } else {
          for (int64_t v = 0; v < plan.vectors; ++v) {
            std::copy_n(tile.terms + (v * plan.tile_rows + n) * plan.lanes, plan.lanes, terms.data() + v * plan.lanes);
          }
          body(first + n, tile.y[n], terms.data(), 1.0f / tile.sum[n]);
        }
      }
    }
  });
}

}  // namespace

void run_cpu(const DiagonalMixtureResponsibilities& args) {
  const int64_t components = args.mixture.components;
  for_each_posterior(args.mixture, args.x, args.rows, [&](int64_t n, float, const float* e, float scale) {
    float* const r = args.r + n * components;
    for (int64_t k = 0; k < components; ++k) r[k] = e[k] * scale;
  });
}

void run_cpu(const DiagonalMixturePosteriorSample& args) {
  const int64_t components = args.mixture.components;
  for_each_posterior(args.mixture, args.x, args.rows, [&](int64_t n, float y, const float* e, float) {
    if (args.y != nullptr) args.y[n] = y;
    int32_t* const z = args.z + n * args.samples;
    if (std::isnan(y) || y == -INFINITY) {
      std::fill(z, z + args.samples, -1);
      return;
    }
    double total = 0;
    for (int64_t k = 0; k < components; ++k) total += e[k];
    const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
    PhiloxWords words = {};
    for (int64_t s = 0; s < args.samples; ++s) {
      if (s % 4 == 0) {
        words = draw_words(args.draws.seed, {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step),
                                             static_cast<uint32_t>(s / 4)});
      }
      // The first running sum that reaches the target: its own term is above zero, since the target
      // is, and the last sum is the total itself.
      const double target = double{uniform_from_word(words.w[s % 4])} * total;
      int64_t k = 0;
      for (double sum = e[0]; sum < target; sum += e[k]) ++k;
      z[s] = static_cast<int32_t>(k);
    }
  });
}

}  // namespace dgm::kernels
