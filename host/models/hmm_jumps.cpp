// SPDX-License-Identifier: Apache-2.0
#include "host/models/hmm_jumps.hpp"

#include "kernels/math/hmm.hpp"

#include <cmath>
#include <numeric>

namespace dgm {

using kernels::HmmCountsLayout;
using kernels::kHmmStops;

namespace {
std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }
}  // namespace

HmmJumps::HmmJumps(const HmmAlignmentOptions& options, const std::vector<std::int64_t>& frequency)
    : reach(options.reach) {
  word_class.assign(1, 0);
  for (const std::int64_t count : frequency) {
    const bool own = options.jump_words > 0 && count >= options.jump_words;
    word_class.push_back(static_cast<std::int32_t>(own ? classes++ : 0));
  }
  std::vector<double> first(at(buckets()));
  for (std::int64_t b = 0; b < buckets(); ++b) {
    const auto jump = static_cast<double>(b - reach - 1);
    first[at(b)] = std::exp(-0.3 * std::abs(jump - 1)) + 1e-3;
  }
  // Of each of the many jumps beyond the reach.
  first.front() = first.back() = 0.1 * first.back();
  const double total = std::accumulate(first.begin(), first.end(), 0.0);
  for (double& value : first) value /= total;
  shared = first;
  for (std::int64_t k = 0; k <= classes; ++k) weight.insert(weight.end(), first.begin(), first.end());
  move = {static_cast<float>(options.null_probability), static_cast<float>(1 - options.null_probability)};
  if (options.ends) {
    stop.push_back(0.5f);
    for (int d = 1; d < kHmmStops; ++d) stop.push_back(0.05f / static_cast<float>(d + 1));
  }
}

void HmmJumps::update(const std::vector<std::int64_t>& counts, const HmmAlignmentOptions& options) {
  const HmmCountsLayout c = layout();
  const std::int64_t n = buckets();
  const auto count = [&](std::int64_t i) { return static_cast<double>(counts[at(i)]) / kernels::kHmmUnit; };
  const auto fresh = [](double old, double counted, double expected) {
    return expected > 0 ? old * counted / expected : old;
  };
  const auto normalise = [](std::vector<double>& values) {
    const double total = std::accumulate(values.begin(), values.end(), 0.0);
    for (double& value : values) value /= total;
  };

  std::vector<double> row(at(n));
  for (std::int64_t b = 0; b < n; ++b) {
    double counted = 0;
    double expected = 0;
    for (std::int64_t k = 0; k < classes; ++k) {
      counted += count(c.jumps() + k * n + b);
      expected += count(c.expected() + k * n + b);
    }
    row[at(b)] = fresh(shared[at(b)], counted, expected);
  }
  if (std::accumulate(row.begin(), row.end(), 0.0) > 0) {
    normalise(row);
    for (double& value : row) {
      value = (1 - options.jump_floor) * value + options.jump_floor / static_cast<double>(2 * reach + 1);
    }
    shared = row;
  }
  for (std::int64_t k = 0; k <= classes; ++k) {
    const double prior = k < classes ? options.jump_prior : 0;
    for (std::int64_t b = 0; b < n; ++b) {
      const double old = weight[at(k * n + b)];
      row[at(b)] = fresh(old, count(c.jumps() + k * n + b) + prior * shared[at(b)],
                         count(c.expected() + k * n + b) + prior * old);
    }
    if (!(std::accumulate(row.begin(), row.end(), 0.0) > 0)) continue;
    normalise(row);
    for (std::int64_t b = 0; b < n; ++b) {
      // From the beginning all jumps are forward.
      const double floor = k == classes && b > reach + 1 ? options.jump_floor : 0;
      weight[at(k * n + b)] = static_cast<float>((1 - floor) * row[at(b)] + floor / (reach + 1));
    }
  }

  const double null = count(c.moves());
  const double word = count(c.moves() + 1);
  if (null + word > 0) {
    move = {static_cast<float>(null / (null + word)), static_cast<float>(word / (null + word))};
  }
  const double few = options.jump_floor > 0 ? 1.0 : 0.0;
  for (std::size_t d = 0; d < stop.size(); ++d) {
    const double ended = count(c.stops() + static_cast<std::int64_t>(d)) + 0.1 * few;
    const double went = count(c.goes() + static_cast<std::int64_t>(d)) + 1.9 * few;
    if (ended + went > 0) stop[d] = static_cast<float>(ended / (ended + went));
  }
}

}  // namespace dgm
