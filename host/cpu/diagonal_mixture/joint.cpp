// SPDX-License-Identifier: Apache-2.0
// Rows whose components are given, and rows drawn from the mixture.
#include "host/cpu/diagonal_mixture/exact.hpp"
#include "host/cpu/mixture_weights.hpp"
#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

namespace dgm::kernels {

using namespace diagonal;

void run_cpu(const DiagonalMixtureJoint& args) {
  const std::vector<double> peak = peaks(args.mixture);
  const int64_t grain = std::max<int64_t>(1, (1 << 13) / (args.samples * args.mixture.dims));
  cpu::parallel_ranges(args.rows, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin * args.samples; i < end * args.samples; ++i) {
      const int32_t k = args.z[i];
      args.y[i] = k < 0 || k >= args.mixture.components
                      ? NAN
                      : static_cast<float>(log_joint(args.mixture, peak[static_cast<std::size_t>(k)], k,
                                                     args.x + i / args.samples * args.mixture.dims));
    }
  });
}

void run_cpu(const DiagonalMixtureJointStatistics& args) {
  const DiagonalMixture& mixture = args.mixture;
  const int64_t dims = mixture.dims;
  std::fill(args.s0, args.s0 + mixture.components, 0.0);
  std::fill(args.s1, args.s1 + mixture.components * dims, 0.0);
  std::fill(args.s2, args.s2 + mixture.components * dims, 0.0);
  const auto contributes = [&](int64_t i) {
    const int32_t k = args.z[i];
    return args.g[i] != 0.0f && k >= 0 && k < mixture.components && mixture.logits[k] != -INFINITY;
  };
  for (int64_t i = 0; i < args.rows * args.samples; ++i) {
    if (contributes(i)) args.s0[args.z[i]] += args.g[i];
  }
  // A thread owns a range of the sums and reads all of the data: no scratch, and one order of adding
  // for any number of threads.
  const int64_t size = mixture.components * dims;
  const int64_t grain = std::max<int64_t>(1, size * (1 << 13) / std::max<int64_t>(1, args.rows * args.samples * dims));
  cpu::parallel_ranges(size, grain, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = 0; i < args.rows * args.samples; ++i) {
      if (!contributes(i)) continue;
      const int64_t k = args.z[i];
      const float* const x = args.x + i / args.samples * dims;
      for (int64_t j = std::max(begin, k * dims); j < std::min(end, (k + 1) * dims); ++j) {
        const double t = residual(mixture, k, j - k * dims, x[j - k * dims]);
        args.s1[j] += args.g[i] * t;
        args.s2[j] += args.g[i] * t * t;
      }
    }
  });
  if (args.dx == nullptr) return;
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, (1 << 12) / dims), [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      for (int64_t d = 0; d < dims; ++d) {
        double sum = 0;
        for (int64_t i = n * args.samples; i < (n + 1) * args.samples; ++i) {
          if (!contributes(i)) continue;
          const int64_t k = args.z[i];
          sum -= args.g[i] * residual(mixture, k, d, args.x[n * dims + d]) *
                 std::exp(-double{mixture.log_scale[k * dims + d]});
        }
        args.dx[n * dims + d] = static_cast<float>(sum);
      }
    }
  });
}

void run_cpu(const DiagonalMixtureAncestral& args) {
  const DiagonalMixture& mixture = args.mixture;
  const int64_t dims = mixture.dims;
  std::vector<double> cumulative = log_mixture_weights(mixture.logits, mixture.components);
  double sum = 0;
  for (double& value : cumulative) value = sum += std::exp(value);
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, (1 << 10) / dims), [&](int64_t begin, int64_t end, int) {
    for (int64_t n = begin; n < end; ++n) {
      float* const x = args.x + n * dims;
      DrawIndex index = {args.draws.site, static_cast<uint64_t>(n), static_cast<uint64_t>(*args.draws.step), 0};
      if (!(sum > 0)) {  // no component of weight, or a NaN logit
        args.z[n] = -1;
        std::fill(x, x + dims, std::numeric_limits<float>::quiet_NaN());
        continue;
      }
      const double target = double{uniform_from_word(draw_words(args.draws.seed, index).w[0])} * sum;
      const int64_t k = std::lower_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin();
      args.z[n] = static_cast<int32_t>(k);
      for (int64_t d = 0; d < dims; d += 2) {
        if (d % 4 == 0) ++index.block;
        const PhiloxWords words = draw_words(args.draws.seed, index);
        const NormalPair normals = normals_from_words(words.w[d % 4], words.w[d % 4 + 1]);
        for (int64_t i = d; i < std::min(d + 2, dims); ++i) {
          const float normal = i == d ? normals.first : normals.second;
          x[i] = mixture.mean[k * dims + i] + std::exp(mixture.log_scale[k * dims + i]) * normal;
        }
      }
    }
  });
}

}  // namespace dgm::kernels
