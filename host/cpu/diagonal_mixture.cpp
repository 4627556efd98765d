// SPDX-License-Identifier: Apache-2.0
#include "kernels/diagonal_mixture.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <cmath>
#include <limits>
#include <vector>

namespace dgm::kernels {

namespace {

constexpr double kLogTwoPi = 1.8378770664093454836;

int64_t grain_rows(const DiagonalMixture& mixture) {
  constexpr int64_t kGrainTerms = 1 << 14;
  return std::max<int64_t>(1, kGrainTerms / (mixture.components * mixture.dims));
}

/// log pi; all -inf where no component has weight.
std::vector<double> log_weights(const DiagonalMixture& mixture) {
  const auto count = static_cast<std::size_t>(mixture.components);
  std::vector<double> result(mixture.logits, mixture.logits + count);
  double max = -INFINITY;
  for (const double logit : result) max = logit > max || std::isnan(logit) ? logit : max;
  if (max == -INFINITY) return result;
  double sum = 0;
  for (const double logit : result) sum += std::exp(logit - max);
  const double log_norm = max + std::log(sum);
  for (double& logit : result) logit -= log_norm;
  return result;
}

/// log pi_k - sum_d (log_scale_kd + log(2 pi) / 2); -inf for a component of no weight.
std::vector<double> peaks(const DiagonalMixture& mixture) {
  std::vector<double> result = log_weights(mixture);
  for (std::size_t k = 0; k < result.size(); ++k) {
    if (result[k] == -INFINITY) continue;
    const float* const log_scale = mixture.log_scale + static_cast<int64_t>(k) * mixture.dims;
    for (int64_t d = 0; d < mixture.dims; ++d) result[k] -= log_scale[d] + kLogTwoPi / 2;
  }
  return result;
}

double residual(const DiagonalMixture& mixture, int64_t k, int64_t d, double x) {
  return (x - mixture.mean[k * mixture.dims + d]) * std::exp(-double{mixture.log_scale[k * mixture.dims + d]});
}

/// log p(x, k) in double; a component of no weight is not looked at.
double log_joint(const DiagonalMixture& mixture, double peak, int64_t k, const float* x) {
  if (peak == -INFINITY) return peak;
  double sum = 0;
  for (int64_t d = 0; d < mixture.dims; ++d) {
    const double t = residual(mixture, k, d, x[d]);
    sum += t * t;
  }
  return peak - 0.5 * sum;
}

/// log p(x) in double, and the responsibilities; zeros where log p(x) is -inf in f32.
float posterior(const DiagonalMixture& mixture, const std::vector<double>& peak, const float* x, double* r) {
  bool nan = false;
  bool infinite = false;
  for (int64_t d = 0; d < mixture.dims; ++d) {
    nan = nan || std::isnan(x[d]);
    infinite = infinite || std::isinf(x[d]);
  }
  const double edge = nan ? NAN : -INFINITY;
  double max = -INFINITY;
  for (int64_t k = 0; k < mixture.components && !nan && !infinite; ++k) {
    r[k] = log_joint(mixture, peak[static_cast<std::size_t>(k)], k, x);
    max = r[k] > max || std::isnan(r[k]) ? r[k] : max;
  }
  if (nan || infinite || max == -INFINITY) {
    std::fill(r, r + mixture.components, nan ? NAN : 0.0);
    return static_cast<float>(edge);
  }
  double sum = 0;
  for (int64_t k = 0; k < mixture.components; ++k) sum += r[k] = std::exp(r[k] - max);
  const auto y = static_cast<float>(max + std::log(sum));
  for (int64_t k = 0; k < mixture.components; ++k) r[k] = y == -INFINITY ? 0.0 : r[k] / sum;
  return y;
}

}  // namespace

void run_cpu(const DiagonalMixtureMarginal& args) {
  const std::vector<double> peak = peaks(args.mixture);
  std::vector<double> r(peak.size());
  double total = 0;
  for (int64_t n = 0; n < args.rows; ++n) {
    const float y = posterior(args.mixture, peak, args.x + n * args.mixture.dims, r.data());
    if (args.y != nullptr) args.y[n] = y;
    const float w = args.weights != nullptr ? args.weights[n] : 1.0f;
    if (w != 0.0f) total += double{w} * y;
  }
  if (args.total != nullptr) *args.total = static_cast<float>(total);
}

void run_cpu(const DiagonalMixtureStatistics& args) {
  const DiagonalMixture& mixture = args.mixture;
  const int64_t dims = mixture.dims;
  const std::vector<double> peak = peaks(mixture);
  std::vector<double> r(peak.size());
  std::fill(args.s0, args.s0 + mixture.components, 0.0);
  std::fill(args.s1, args.s1 + mixture.components * dims, 0.0);
  std::fill(args.s2, args.s2 + mixture.components * dims, 0.0);
  double total = 0;
  for (int64_t n = 0; n < args.rows; ++n) {
    const float* const x = args.x + n * dims;
    const float y = posterior(mixture, peak, x, r.data());
    if (args.y != nullptr) args.y[n] = y;
    if (args.dx != nullptr) std::fill(args.dx + n * dims, args.dx + (n + 1) * dims, 0.0f);
    const float w = args.weights != nullptr ? args.weights[n] : 1.0f;
    if (w == 0.0f) continue;
    total += double{w} * y;
    if (y == -INFINITY) continue;
    std::vector<double> dx(static_cast<std::size_t>(dims));
    for (int64_t k = 0; k < mixture.components; ++k) {
      if (peak[static_cast<std::size_t>(k)] == -INFINITY || r[static_cast<std::size_t>(k)] == 0.0) continue;
      const double wr = w * r[static_cast<std::size_t>(k)];
      args.s0[k] += wr;
      for (int64_t d = 0; d < dims; ++d) {
        const double t = residual(mixture, k, d, x[d]);
        args.s1[k * dims + d] += wr * t;
        args.s2[k * dims + d] += wr * t * t;
        dx[static_cast<std::size_t>(d)] -= wr * t * std::exp(-double{mixture.log_scale[k * dims + d]});
      }
    }
    if (args.dx != nullptr) std::copy(dx.begin(), dx.end(), args.dx + n * dims);
  }
  if (args.total != nullptr) *args.total = static_cast<float>(total);
}

void run_cpu(const DiagonalMixtureGradients& args) {
  const DiagonalMixture& mixture = args.mixture;
  const double upstream = args.upstream != nullptr ? *args.upstream : 1.0;
  if (args.d_logits != nullptr) {
    const std::vector<double> log_pi = log_weights(mixture);
    double sum = 0;
    for (int64_t k = 0; k < mixture.components; ++k) sum += args.s0[k];
    for (int64_t k = 0; k < mixture.components; ++k) {
      args.d_logits[k] =
          static_cast<float>(upstream * (args.s0[k] - std::exp(log_pi[static_cast<std::size_t>(k)]) * sum));
    }
  }
  for (int64_t k = 0; k < mixture.components; ++k) {
    for (int64_t i = k * mixture.dims; i < (k + 1) * mixture.dims; ++i) {
      // A sum of exactly 0 stays 0 whatever the scale is: a component of no weight has no gradient.
      if (args.d_mean != nullptr) {
        args.d_mean[i] = args.s1[i] == 0.0
                             ? 0.0f
                             : static_cast<float>(upstream * args.s1[i] * std::exp(-double{mixture.log_scale[i]}));
      }
      if (args.d_log_scale != nullptr) {
        args.d_log_scale[i] = static_cast<float>(upstream * (args.s2[i] - args.s0[k]));
      }
    }
  }
}

void run_cpu(const DiagonalMixtureResponsibilities& args) {
  const std::vector<double> peak = peaks(args.mixture);
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture), [&](int64_t begin, int64_t end, int) {
    std::vector<double> r(peak.size());
    for (int64_t n = begin; n < end; ++n) {
      posterior(args.mixture, peak, args.x + n * args.mixture.dims, r.data());
      std::copy(r.begin(), r.end(), args.r + n * args.mixture.components);
    }
  });
}

void run_cpu(const DiagonalMixturePosteriorSample& args) {
  const std::vector<double> peak = peaks(args.mixture);
  cpu::parallel_ranges(args.rows, grain_rows(args.mixture), [&](int64_t begin, int64_t end, int) {
    std::vector<double> r(peak.size());
    for (int64_t n = begin; n < end; ++n) {
      const float y = posterior(args.mixture, peak, args.x + n * args.mixture.dims, r.data());
      if (args.y != nullptr) args.y[n] = y;
      int32_t* const z = args.z + n * args.samples;
      if (std::isnan(y) || y == -INFINITY) {
        std::fill(z, z + args.samples, -1);
        continue;
      }
      for (std::size_t k = 1; k < r.size(); ++k) r[k] += r[k - 1];
      const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[n] : n);
      PhiloxWords words = {};
      for (int64_t s = 0; s < args.samples; ++s) {
        if (s % 4 == 0) {
          words = draw_words(args.draws.seed, {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step),
                                               static_cast<uint32_t>(s / 4)});
        }
        // The first running sum that reaches the target: its own term is above zero, since the target
        // is, and the last sum is the total itself.
        const double target = double{uniform_from_word(words.w[s % 4])} * r.back();
        z[s] = static_cast<int32_t>(std::lower_bound(r.begin(), r.end(), target) - r.begin());
      }
    }
  });
}

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
  std::vector<double> cumulative = log_weights(mixture);
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
