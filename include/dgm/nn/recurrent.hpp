// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/parameters.hpp>
#include <dgm/nn/initialiser.hpp>
#include <dgm/ops/recurrent.hpp>

#include <cstdint>
#include <string>

namespace dgm {

struct RecurrentLayerOptions {
  Initialiser input_values = Initialiser::glorot_uniform();
  Initialiser state_values = Initialiser::glorot_uniform();
  /// Of an LSTM: what the bias of the forget gate starts at, so that cells keep what they hold until they learn better
  /// (Jozefowicz, Zaremba & Sutskever 2015). All other biases start at 0.
  float forget_bias = 1.0f;
  /// Of the initial values; the parameters' order in their set tells them apart.
  uint64_t seed = 0;
};

/// A trained LSTM layer over ragged batches, see dgm::lstm.
///
/// Its parameters "<name>.input_weight" (4 hidden, inputs), "<name>.state_weight" (4 hidden, hidden) and "<name>.bias"
/// (4 hidden), parts in the order i f g o, live in the set that it is made with and that must outlive it. A small
/// handle: copies are the same layer. Layers are stacked by giving one the states of another, with dropout() between
/// them where it is wanted.
///
/// In every call the parameters are watched by the tape; without one (null) they are constants, and a gradient still
/// flows to what they are applied to.
class Lstm {
 public:
  /// Throws ArgumentError if a name is taken or an extent is not positive.
  Lstm(Parameters& parameters, const std::string& name, int64_t inputs, int64_t hidden, const Stream& stream,
       const RecurrentLayerOptions& options = {});

  int64_t hidden() const { return state_weight_->value.shape()[1]; }

  /// x (T, inputs) in packed order.
  LstmStates operator()(Tape* tape, const SequenceLayout& layout, const Variable& x,
                        const LstmOptions& options = {}) const;
  /// The same in two parts: what inputs (..., inputs) add to the gates, with the bias, and the steps from there. With a
  /// table of embeddings projected once and options.rows the product does not grow with the length of the sequences.
  Variable project(Tape* tape, const Variable& x) const;
  LstmStates steps(Tape* tape, const SequenceLayout& layout, const Variable& projected,
                   const LstmOptions& options = {}) const;

 private:
  Parameter* input_weight_;
  Parameter* state_weight_;
  Parameter* bias_;
};

/// A trained GRU layer over ragged batches, see dgm::gru. Its parameters are "<name>.input_weight" (3 hidden, inputs),
/// "<name>.state_weight" (3 hidden, hidden), "<name>.bias" and "<name>.state_bias" (3 hidden), parts in the order
/// r z n. Otherwise as Lstm.
class Gru {
 public:
  Gru(Parameters& parameters, const std::string& name, int64_t inputs, int64_t hidden, const Stream& stream,
      const RecurrentLayerOptions& options = {});

  int64_t hidden() const { return state_weight_->value.shape()[1]; }

  Variable operator()(Tape* tape, const SequenceLayout& layout, const Variable& x,
                      const RecurrentOptions& options = {}) const;
  Variable project(Tape* tape, const Variable& x) const;
  Variable steps(Tape* tape, const SequenceLayout& layout, const Variable& projected,
                 const RecurrentOptions& options = {}) const;

 private:
  Parameter* input_weight_;
  Parameter* state_weight_;
  Parameter* bias_;
  Parameter* state_bias_;
};

}  // namespace dgm
