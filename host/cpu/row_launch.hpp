// SPDX-License-Identifier: Apache-2.0
// Launches over the rows of a matrix, split over threads.
#pragma once

#include "host/cpu/parallel.hpp"

namespace dgm::cpu {

/// rows(args, begin, end) for ranges of the rows of a launch that has rows and cols.
template <class Args>
void launch_rows(const Args& args, void (*rows)(const Args&, int64_t, int64_t)) {
  parallel_rows(args.rows, args.cols, [&](int64_t begin, int64_t end) { rows(args, begin, end); });
}

}  // namespace dgm::cpu
