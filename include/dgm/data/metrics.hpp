// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace dgm {

/// Adjusted Rand index of two labelings of the same items: 1 if they are the same up to the names of the labels,
/// 0 on average for labels drawn at random, negative for less agreement than that.
///
/// a, b      any label values, one an item; no items, or one, agree perfectly.
/// Throws    ShapeError if a and b differ in length.
/// Source    Hubert & Arabie 1985, Comparing partitions, J. of Classification 2:193-218.
double adjusted_rand_index(std::span<const std::int32_t> a, std::span<const std::int32_t> b);

}  // namespace dgm
