// SPDX-License-Identifier: Apache-2.0
// Categorical distributions over a large vocabulary, computed from hidden states:
//
//   log p[b,v] = h_b . w_v + c_v - log sum_u exp(h_b . w_u + c_u).
//
// Nothing of size B x V is stored, forward or backward: both work through tiles of logits, and the backward
// pass computes them again from the B log normalisers that the forward pass keeps.
#pragma once

#include <dgm/autodiff/tape.hpp>

namespace dgm {

/// How the products of linear_categorical are computed.
enum class Products {
  kFloat32,
  /// Hidden states, weights and logits' gradients are rounded to bfloat16 (8 bits) before they are
  /// multiplied, sums stay in float: twice the speed where the CPU has bfloat16 dot products
  /// (AVX512_BF16). Elsewhere, and on CUDA, the same as kFloat32.
  kBfloat16IfFaster,
};

/// Log probability of one word a row: y[b] = log p[b, labels[b]].
///
/// hidden    (B, H) f32; B >= 0, H >= 0.
/// weight    (V, H) f32; V >= 1.
/// bias      (V) f32; left out, it is zero. -inf excludes a word: its probability is 0, its gradients are 0.
/// labels    (B) int32 in 0..V-1, on hidden's stream.
/// returns   (B) f32; on CUDA does not synchronise.
///
/// Gradient  with dlogit[b,v] = g[b] ([v = labels[b]] - p[b,v]):
///           dhidden = dlogit weight, dweight = dlogit^T hidden, dbias[v] = sum_b dlogit[b,v].
/// Edges     an excluded label gives -inf and its g counts nowhere, likewise a row all of whose words are
///           excluded. The products of an excluded word must still be finite. A NaN in a hidden state, or a
///           logit of +inf, makes its row NaN; a NaN in weight or bias makes all rows NaN.
///           V = 1 gives 0. On the CPU a label that is no word throws; on CUDA, where looking would mean
///           waiting, it gives NaN and its g counts nowhere.
/// Accuracy  |error| <= kLinearCategoricalError * M with M = 1 + max_v (sum_i |h_i w_vi| + |c_v|), of a gradient
///           <= 2 kLinearCategoricalError * M * the sum of the absolute terms it is the sum of. Products in
///           bfloat16: exact to the same bounds for hidden states and weights that are bfloat16 numbers, but
///           for a rounding of each dlogit: kBfloat16Rounding of the absolute terms. y <= 0 always.
/// Order     fixed: equal bits run to run, on the CPU with any number of threads.
/// Memory    CPU: at H <= 256 about 750 KiB, and 15 KiB a thread (50 in bfloat16); in proportion to H beyond. Nothing
///           grows with V or B, but 12 bytes an entry of the some 256 rows that are worked on at a time. CUDA: 8 bytes
///           a row and chunk of words; for dhidden at most 16 copies of it, where B is small.
/// Throws    ShapeError, DeviceError, ArgumentError that names the first bad label (CPU).
/// Source    recomputed tiles as in Dao et al. 2022, arXiv:2205.14135; for vocabularies Wijmans et al. 2024,
///           arXiv:2411.09009.
Variable linear_categorical(const Variable& hidden, const Variable& weight, const Variable& bias,
                            const Tensor<int32_t>& labels, Products products = Products::kFloat32);
Variable linear_categorical(const Variable& hidden, const Variable& weight, const Tensor<int32_t>& labels,
                            Products products = Products::kFloat32);

/// Log probabilities of any number of words a row: y[e] = log p[b, labels[e]] for e in
/// offsets[b] .. offsets[b + 1] - 1. A sparse table: a row a source word, an entry each target word that occurs
/// with it.
///
/// offsets   (B + 1) int64 on hidden's stream: from 0 to E, not decreasing. Checked on the CPU; on CUDA it
///           must be right (Ragged<int32_t> checks once).
/// labels    (E) int32; a word may come twice in a row.
/// returns   (E) f32. Otherwise as above, with
///           dlogit[b,v] = sum_{e of b} g[e] [labels[e] = v] - (sum_{e of b} g[e]) p[b,v].
Variable linear_categorical(const Variable& hidden, const Variable& weight, const Variable& bias,
                            const Tensor<int64_t>& offsets, const Tensor<int32_t>& labels,
                            Products products = Products::kFloat32);
Variable linear_categorical(const Variable& hidden, const Variable& weight, const Tensor<int64_t>& offsets,
                            const Tensor<int32_t>& labels, Products products = Products::kFloat32);

inline constexpr double kLinearCategoricalError = 1e-6;
inline constexpr double kBfloat16Rounding = 0.00390625;  // 2^-8

}  // namespace dgm
