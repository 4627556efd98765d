// SPDX-License-Identifier: Apache-2.0
// Diagonal Gaussian mixtures on the CPU.
//
// Mapping    lanes over components. Rows go in tiles, tiles in blocks; threads claim blocks. A tile: log
//            joints as a register-tiled product (rows x components, over dimensions), exponentials row by
//            row, then sums over the tile's rows in registers (components x dimensions).
// Arithmetic a row, component and dimension costs a subtraction, a product and an FMA forward, and a
//            subtraction, a product, a sum and an FMA for the statistics: 4 of the 7 on the pipes of FMA, the
//            others beside them where a core adds on pipes of their own. Residuals are taken from each
//            component's own mean, never as x^2 - 2 x mean + mean^2, which cancels where components are
//            tight. An exponential is a polynomial of degree 5.
// Scratch    2 K D floats that threads share, 2 K D and a tile of at most 72 (K + D) a thread; nothing grows with N.
// Order      a tile's sums in f32, added to a block's in f32, added in double to the result in the order
//            of blocks, whichever thread made them: the same bits for any number of threads.
//
// A row that the fast path cannot hold (NaN, infinities, |x| above kFarthest, log marginals beyond floats)
// is done over in double, as are all rows if a parameter is beyond kExtremeLogScale or kFarthest.
#include "kernels/diagonal_mixture.hpp"

#include "host/cpu/diagonal_mixture/blocks.hpp"
#include "host/cpu/diagonal_mixture/engine.hpp"
#include "host/cpu/mixture_weights.hpp"
#include "host/cpu/parallel.hpp"

#include <cmath>
#include <vector>

namespace dgm::kernels {

using namespace diagonal;

namespace {

float weight(const float* weights, int64_t n) { return weights != nullptr ? weights[n] : 1.0f; }

}  // namespace

void run_cpu(const DiagonalMixtureMarginal& args) {
  set_total(args, 0);
  if (args.rows == 0) return;
  const Engine engine(args.mixture);
  const int threads = useful_threads(args.rows, args.mixture);
  const Scratch memory(threads * engine.tile_floats());
  std::vector<double> block_total(static_cast<std::size_t>(threads) * 8);  // a cache line each
  std::vector<std::vector<double>> r(static_cast<std::size_t>(threads));
  for (auto& row : r) row.resize(engine.peak().size());
  double total = 0;
  visit(
      args.rows, engine.tile_rows(), threads,
      [&](int64_t first, int64_t rows, int thread) {
        Tile tile = engine.tile(memory.data() + thread * engine.tile_floats());
        bool slow[kTileRows];
        const float* const x = args.x + first * args.mixture.dims;
        double& sum = block_total[static_cast<std::size_t>(thread) * 8];
        if (engine.exponentials(x, rows, tile, slow)) {
          sum += weigh(tile, args.weights != nullptr ? args.weights + first : nullptr);
        } else {
          for (int64_t n = 0; n < rows; ++n) {
            if (slow[n]) {
              tile.y[n] = posterior(args.mixture, engine.peak(), x + n * args.mixture.dims,
                                    r[static_cast<std::size_t>(thread)].data());
            }
            const float w = weight(args.weights, first + n);
            if (w != 0.0f) sum += double{w} * tile.y[n];
          }
        }
        if (args.y != nullptr) std::copy(tile.y, tile.y + rows, args.y + first);
      },
      [&](int64_t, int64_t, int thread) {
        total += block_total[static_cast<std::size_t>(thread) * 8];
        block_total[static_cast<std::size_t>(thread) * 8] = 0;
      });
  set_total(args, total);
}

namespace {

/// One thread's share of the statistics: sums of the block it is working on.
struct alignas(64) Worker {  // a cache line is no two threads'
  Tile tile;
  float* s0;
  float* s12;
  double total = 0;
  std::vector<int64_t> slow;  // rows of the block that are left to double
  std::vector<double> r;
};

class StatisticsRun {
 public:
  explicit StatisticsRun(const DiagonalMixtureStatistics& args)
      : args_(args),
        engine_(args.mixture),
        threads_(useful_threads(args.rows, args.mixture)),
        padded_(engine_.plan().vectors * engine_.plan().lanes),
        floats_(engine_.tile_floats() + padded_ * (1 + 2 * args.mixture.dims)),
        memory_(threads_ * floats_),
        workers_(static_cast<std::size_t>(threads_)) {
    for (int t = 0; t < threads_; ++t) {
      float* const memory = memory_.data() + t * floats_;
      Worker& worker = workers_[static_cast<std::size_t>(t)];
      worker.tile = engine_.tile(memory);
      worker.s0 = memory + engine_.tile_floats();
      worker.s12 = worker.s0 + padded_;
      std::fill(worker.s0, worker.s0 + padded_ * (1 + 2 * args.mixture.dims), 0.0f);
      worker.r.resize(engine_.peak().size());
    }
  }

  void run() {
    visit(
        args_.rows, engine_.tile_rows(), threads_,
        [&](int64_t first, int64_t rows, int thread) {
          add_tile(first, rows, workers_[static_cast<std::size_t>(thread)]);
        },
        [&](int64_t, int64_t, int thread) { add_block(workers_[static_cast<std::size_t>(thread)]); });
    standardise();
  }
  double total() const { return total_; }

 private:
  void add_tile(int64_t first, int64_t rows, Worker& worker) {
    Tile& tile = worker.tile;
    const int64_t dims = args_.mixture.dims;
    bool slow[kTileRows];
    if (engine_.exponentials(args_.x + first * dims, rows, tile, slow)) {
      worker.total += weigh(tile, args_.weights != nullptr ? args_.weights + first : nullptr);
    } else {
      weigh_without_slow(first, tile, slow, worker);
    }
    if (args_.y != nullptr) std::copy(tile.y, tile.y + rows, args_.y + first);
    if (!engine_.ordinary()) return;
    add_statistics(engine_.plan(), tile, worker.s0, worker.s12);
    if (args_.dx != nullptr) {
      data_gradients(engine_.plan(), tile, args_.dx + first * dims);
    }
  }

  void weigh_without_slow(int64_t first, Tile& tile, const bool* slow, Worker& worker) {
    for (int64_t n = 0; n < tile.rows; ++n) {
      const float w = weight(args_.weights, first + n);
      tile.scale[n] = slow[n] ? 0.0f : w / tile.sum[n];
      if (slow[n]) worker.slow.push_back(first + n);
      if (!slow[n] && w != 0.0f) worker.total += double{w} * tile.y[n];
    }
  }

  void add_block(Worker& worker) {
    const Plan& plan = engine_.plan();
    total_ += worker.total;
    worker.total = 0;
    for (int64_t k = 0; k < plan.components; ++k) {
      args_.s0[k] += worker.s0[k];
      const float* const from = worker.s12 + k / plan.lanes * plan.lanes * plan.dims * 2 + k % plan.lanes;
      double* const s1 = args_.s1 + k * plan.dims;
      double* const s2 = args_.s2 + k * plan.dims;
      for (int64_t d = 0; d < plan.dims; ++d) {
        s1[d] += from[2 * d * plan.lanes];
        s2[d] += from[(2 * d + 1) * plan.lanes];
      }
    }
    std::fill(worker.s0, worker.s0 + padded_ * (1 + 2 * plan.dims), 0.0f);
    for (const int64_t n : worker.slow) add_slow_row(n, worker.r.data());
    worker.slow.clear();
  }

  void add_slow_row(int64_t n, double* r) {
    const DiagonalMixture& mixture = args_.mixture;
    const int64_t dims = mixture.dims;
    const float* const x = args_.x + n * dims;
    const float y = posterior(mixture, engine_.peak(), x, r);
    if (args_.y != nullptr) args_.y[n] = y;
    if (args_.dx != nullptr) std::fill(args_.dx + n * dims, args_.dx + (n + 1) * dims, 0.0f);
    const float w = weight(args_.weights, n);
    if (w == 0.0f) return;
    total_ += double{w} * y;
    if (y == -INFINITY) return;
    for (int64_t k = 0; k < mixture.components; ++k) {
      if (engine_.peak()[static_cast<std::size_t>(k)] == -INFINITY || r[k] == 0.0) continue;
      const double wr = w * r[k];
      args_.s0[k] += wr;
      for (int64_t d = 0; d < dims; ++d) {
        // In the units of the fast path, if that ran at all.
        const double t = residual(mixture, k, d, x[d]);
        const double value = engine_.ordinary() ? double{x[d]} - mixture.mean[k * dims + d] : t;
        args_.s1[k * dims + d] += wr * value;
        args_.s2[k * dims + d] += wr * value * value;
      }
    }
    for (int64_t d = 0; args_.dx != nullptr && d < dims; ++d) {
      double sum = 0;
      for (int64_t k = 0; k < mixture.components; ++k) {
        if (engine_.peak()[static_cast<std::size_t>(k)] == -INFINITY || r[k] == 0.0) continue;
        sum -= r[k] * residual(mixture, k, d, x[d]) * std::exp(-double{mixture.log_scale[k * dims + d]});
      }
      args_.dx[n * dims + d] = static_cast<float>(w * sum);
    }
  }

  /// From differences to residuals.
  void standardise() {
    if (!engine_.ordinary()) return;
    const Plan& plan = engine_.plan();
    cpu::parallel_ranges(
        plan.components, std::max<int64_t>(1, (1 << 14) / plan.dims), [&](int64_t begin, int64_t end, int) {
          for (int64_t k = begin; k < end; ++k) {
            const float* const inverses =
                plan.parameters + k / plan.lanes * plan.lanes * plan.dims * 2 + k % plan.lanes + plan.lanes;
            for (int64_t d = 0; d < plan.dims; ++d) {
              const double inverse = inverses[2 * d * plan.lanes] * std::sqrt(2 / kLog2E);
              args_.s1[k * plan.dims + d] *= inverse;
              args_.s2[k * plan.dims + d] *= inverse * inverse;
            }
          }
        });
  }

  const DiagonalMixtureStatistics& args_;
  const Engine engine_;
  const int threads_;
  const int64_t padded_;
  const int64_t floats_;
  const Scratch memory_;
  std::vector<Worker> workers_;
  double total_ = 0;
};

}  // namespace

void run_cpu(const DiagonalMixtureStatistics& args) {
  const int64_t size = args.mixture.components * args.mixture.dims;
  std::fill(args.s0, args.s0 + args.mixture.components, 0.0);
  std::fill(args.s1, args.s1 + size, 0.0);
  std::fill(args.s2, args.s2 + size, 0.0);
  set_total(args, 0);
  if (args.rows == 0) return;
  // y_given is not needed: a row's maximum and sum cost little beside its exponentials, and make its
  // responsibilities sum to 1 whatever was rounded.
  StatisticsRun statistics(args);
  statistics.run();
  set_total(args, statistics.total());
}

void run_cpu(const DiagonalMixtureGradients& args) {
  const DiagonalMixture& mixture = args.mixture;
  const double upstream = args.upstream != nullptr ? *args.upstream : 1.0;
  if (args.d_logits != nullptr) {
    mixture_logit_gradients(mixture.logits, mixture.components, args.s0, upstream, args.d_logits);
  }
  cpu::parallel_ranges(
      mixture.components, std::max<int64_t>(1, (1 << 13) / mixture.dims), [&](int64_t begin, int64_t end, int) {
        for (int64_t k = begin; k < end; ++k) {
          for (int64_t i = k * mixture.dims; i < (k + 1) * mixture.dims; ++i) {
            // A sum of exactly 0 stays 0 whatever the scale is: a component of no weight has no gradient.
            if (args.d_mean != nullptr) {
              args.d_mean[i] =
                  args.s1[i] == 0.0
                      ? 0.0f
                      : static_cast<float>(upstream * args.s1[i] * std::exp(-double{mixture.log_scale[i]}));
            }
            if (args.d_log_scale != nullptr) {
              args.d_log_scale[i] = static_cast<float>(upstream * (args.s2[i] - args.s0[k]));
            }
          }
        }
      });
}

}  // namespace dgm::kernels
