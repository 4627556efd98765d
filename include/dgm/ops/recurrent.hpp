// SPDX-License-Identifier: Apache-2.0
// Recurrent layers over ragged batches in packed order (dgm/ops/sequences.hpp): no sequence is padded.
#pragma once

#include <dgm/ops/sequences.hpp>

#include <optional>

namespace dgm {

/// Where the steps' inputs come from, beside the sequences' values.
struct RecurrentOptions {
  /// The row of `input` that each packed row takes, (T) int32; null: packed row p takes row p. With input a table of
  /// projected embeddings, a row a symbol, it takes the place of the lookup; a sequence that comes several times shares
  /// its rows. A number that is no row gives zeros and takes no gradient, on every device.
  const Tensor<int32_t>* rows = nullptr;
  /// Added to the input of every step of a sequence, (B, G H): what the sequence depends on as a whole.
  std::optional<Variable> context = {};
  /// The state before the first step, (B, H); none: zeros.
  std::optional<Variable> h0 = {};
};

struct LstmOptions : RecurrentOptions {
  std::optional<Variable> c0 = {};
};

struct LstmStates {
  Variable h;       ///< (T, H), after every step, in packed order
  Tensor<float> c;  ///< (B, H), cells after each sequence's last step, for going on from there; no gradient
};

/// Long short-term memory. With a_t = input_t + context + weight h_{t-1}, cut into four parts of H,
///
///   i, f, o = sigmoid(a^i, a^f, a^o), g = tanh(a^g),  c_t = f c_{t-1} + i g,  h_t = o tanh(c_t).
///
/// layout    of B sequences with T steps together.
/// input     (N, 4H) f32, parts in the order i f g o: what the inputs add to the gates, with the bias; for instance
///           affine(pack(x, layout), weight_x, bias). N = T unless options.rows is given.
/// weight    (4H, H), H >= 1, from the state to the gates.
/// returns   the states; on the layout's stream; does not synchronise.
///
/// Gradient  by input, weight, context, h0 and c0, through h alone. Kept for it: 6H numbers a step, gates, cells and
///           states; without a gradient states only, so that memory is H numbers a step.
/// Edges     an empty sequence has no states, and a gradient of zero; its c is c0. NaN stays in its sequence.
/// Accuracy  |error of h| <= kRecurrentError over 50 steps where sum_j |weight[g,j]| <= 8, of gradients
///           kRecurrentError * (1 + the sum of the absolute terms); beyond, as the recurrence amplifies it.
/// Order     values: equal bits with any number of threads; gradients of weight: as affine.
/// Throws    ShapeError, DeviceError.
/// Source    Hochreiter & Schmidhuber 1997; forget gates: Gers, Schmidhuber & Cummins 2000.
LstmStates lstm(const SequenceLayout& layout, const Variable& input, const Variable& weight,
                const LstmOptions& options = {});

/// Gated recurrent unit. With b_t = weight h_{t-1} + bias,
///
///   r, z = sigmoid(input^r + b^r, input^z + b^z), n = tanh(input^n + r b^n),  h_t = (1 - z) n + z h_{t-1}
///
/// (context added to input). Parts in the order r z n: input (N, 3H), weight (3H, H), bias (3H).
/// returns   h (T, H). Kept for the gradient: 5H numbers a step. Otherwise as lstm.
/// Source    Cho et al. 2014; the reset gate behind the product, as cuDNN has it.
Variable gru(const SequenceLayout& layout, const Variable& input, const Variable& weight, const Variable& bias,
             const RecurrentOptions& options = {});

inline constexpr double kRecurrentError = 2e-5;

}  // namespace dgm
