// SPDX-License-Identifier: Apache-2.0
// Products of numbers rounded to bfloat16, for CPUs that have the instruction.
#pragma once

#include "host/cpu/tile_product.hpp"

#include <cstdint>

namespace dgm::cpu::bfloat16 {

/// Whether this CPU has AVX512_BF16. Nothing else here may be called where it has not.
bool available();

/// Width of a panel, in pairs.
inline constexpr int64_t kPanel = 32;

/// The product, of pairs.
void run(const TileProduct& product);

/// Pairs along a row: to[i] = (from[2 i], from[2 i + 1]), an odd count filled up with 0.
void round_row(const float* from, int64_t count, uint32_t* to);

/// Pairs of two rows: to[i] = (first[i], second[i]); second may be null, for zeros.
void round_pairs(const float* first, const float* second, int64_t count, uint32_t* to);

/// sum_i a[i] b[i] of the rounded numbers.
float dot(const float* a, const float* b, int64_t count);

/// The sum of all numbers of count pairs.
float sum(const uint32_t* pairs, int64_t count);

}  // namespace dgm::cpu::bfloat16
