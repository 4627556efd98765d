// SPDX-License-Identifier: Apache-2.0
// Rows are split over threads. A row's weights are summed once for the total and once more for each
// group of four draws: K is small against what made the logits. Traffic: 4 bytes a logit.
#include "kernels/categorical_sample.hpp"

#include "host/cpu/parallel.hpp"
#include "kernels/math/philox.hpp"

#include <cmath>
#include <vector>

namespace dgm::kernels {

namespace {

// Running sums of exp(logit - max) into cumulative; the total, or NaN where there is no distribution.
float accumulate_weights(const float* logits, int64_t cols, float* cumulative) {
  float max = -INFINITY;
  bool finite = true;
  for (int64_t k = 0; k < cols; ++k) {
    finite = finite && logits[k] < INFINITY;  // false for NaN, too
    max = std::max(max, logits[k]);
  }
  if (!finite || max == -INFINITY) return NAN;
  float sum = 0;
  for (int64_t k = 0; k < cols; ++k) {
    sum += std::exp(logits[k] - max);
    cumulative[k] = sum;
  }
  return sum;
}

}  // namespace

void run_cpu(const CategoricalSample& args) {
  constexpr int64_t kGrainTerms = 1 << 13;
  cpu::parallel_ranges(args.rows, std::max<int64_t>(1, kGrainTerms / args.cols), [&](int64_t begin, int64_t end, int) {
    std::vector<float> cumulative(static_cast<std::size_t>(args.cols));
    for (int64_t b = begin; b < end; ++b) {
      int32_t* const z = args.z + b * args.samples;
      const float total = accumulate_weights(args.logits + b * args.cols, args.cols, cumulative.data());
      if (std::isnan(total)) {
        std::fill(z, z + args.samples, -1);
        continue;
      }
      const auto datum = static_cast<uint64_t>(args.data != nullptr ? args.data[b] : b);
      PhiloxWords words = {};
      for (int64_t s = 0; s < args.samples; ++s) {
        if (s % 4 == 0) {
          words = draw_words(args.draws.seed, {args.draws.site, datum, static_cast<uint64_t>(*args.draws.step),
                                               static_cast<uint32_t>(s / 4)});
        }
        const float target = uniform_from_word(words.w[s % 4]) * total;
        // The first index whose running sum reaches the target: its own weight is above zero,
        // since the target is, and the last sum is the total itself.
        z[s] =
            static_cast<int32_t>(std::lower_bound(cumulative.begin(), cumulative.end(), target) - cumulative.begin());
      }
    }
  });
}

}  // namespace dgm::kernels
