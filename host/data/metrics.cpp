// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/metrics.hpp>

#include <cstddef>
#include <map>
#include <utility>

#include "host/core/check.hpp"

namespace dgm {
namespace {

template <class Counts>
double pairs(const Counts& counts) {
  double sum = 0;
  for (const auto& [key, count] : counts) sum += static_cast<double>(count) * (static_cast<double>(count) - 1) / 2;
  return sum;
}

}  // namespace

double adjusted_rand_index(std::span<const std::int32_t> a, std::span<const std::int32_t> b) {
  check<ShapeError>(a.size() == b.size(), "adjusted_rand_index: a has ", a.size(), " labels but b has ", b.size());
  std::map<std::pair<std::int32_t, std::int32_t>, std::int64_t> both;
  std::map<std::int32_t, std::int64_t> of_a, of_b;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ++both[{a[i], b[i]}];
    ++of_a[a[i]];
    ++of_b[b[i]];
  }
  const double n = static_cast<double>(a.size());
  const double all = n * (n - 1) / 2;
  const double together = pairs(both), in_a = pairs(of_a), in_b = pairs(of_b);
  const double expected = all > 0 ? in_a * in_b / all : 0;
  const double largest = (in_a + in_b) / 2;
  // Both one cluster, or both all singletons: the index is 0/0, and the labelings agree.
  return largest == expected ? 1. : (together - expected) / (largest - expected);
}

}  // namespace dgm
