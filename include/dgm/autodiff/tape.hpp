// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/tensor.hpp>

#include <functional>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

namespace dgm {

class Tape;

/// A named tensor that is trained. Ops never write it; optimisers do.
struct Parameter {
  std::string name;
  Tensor<float> value;
  Tensor<float> grad;  ///< same shape; what backward() adds to
};

/// A value that a gradient may flow through: a tensor and, unless it is a constant, its place on a
/// tape. Every differentiable op takes and returns Variables; with constants alone it just
/// computes.
class Variable {
 public:
  /// A constant. Implicit, so that a tensor will do wherever no gradient is wanted.
  Variable(Tensor<float> value) : value_(std::move(value)) {}  // NOLINT(google-explicit-constructor)

  const Tensor<float>& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  const Stream& stream() const { return value_.stream(); }
  /// Whether a gradient flows here.
  bool requires_grad() const { return tape_ != nullptr; }
  /// The tape this is on; null for a constant.
  Tape* tape() const { return tape_; }
  /// The same value as a constant: no gradient flows through it.
  Variable detach() const { return Variable(value_); }

 private:
  friend class Tape;
  Variable(Tensor<float> value, Tape* tape, int node) : value_(std::move(value)), tape_(tape), node_(node) {}
  Tensor<float> value_;
  Tape* tape_ = nullptr;
  int node_ = -1;
};

/// What an op's backward function writes to: the gradients of its inputs, by their position in the
/// list given to record().
class Gradients {
 public:
  /// Whether input i is on the tape: a gradient that is not wanted should not be computed.
  bool wanted(int input) const;
  /// Adds to the gradient of input i; ignored if it is not wanted. The tensor must not be written
  /// afterwards: the first contribution is kept, not copied.
  /// Throws ShapeError if the shape is not the input's.
  void add(int input, Tensor<float> gradient);

 private:
  friend class Tape;
  Gradients(Tape& tape, int node) : tape_(tape), node_(node) {}
  Tape& tape_;
  int node_;
};

/// Reverse-mode differentiation: ops on watched values are recorded in order, backward() runs
/// their gradients in reverse. One tape serves one training step.
///
/// A tape must outlive the Variables on it, and is used by one thread at a time. Sums of gradients
/// are taken in the order of recording, so equal runs give equal bits.
class Tape {
 public:
  using Backward = std::function<void(const Tensor<float>& gradient, Gradients& inputs)>;

  Tape();
  ~Tape();
  /// A tape on which parameters are constants: for the gradient by other values alone, of a model that watches its
  /// parameters itself.
  static Tape without_parameters() { return Tape(false); }
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;

  /// A leaf whose gradient is read with grad().
  Variable watch(const Tensor<float>& value);
  /// A leaf whose gradient backward() adds to parameter.grad. Watching it twice gives the same leaf. On a tape
  /// without_parameters() a constant.
  Variable watch(Parameter& parameter);

  /// For ops: the Variable of a value computed from inputs. Returns a constant if no input is on a
  /// tape; else records backward, which is given the gradient of the value and adds to the inputs'.
  /// Throws ArgumentError if the inputs are on different tapes.
  static Variable record(Tensor<float> value, std::initializer_list<Variable> inputs, Backward backward);
  static Variable record(Tensor<float> value, const std::vector<Variable>& inputs, Backward backward);

  /// Runs the gradients of a one-element result; the result's own gradient is 1.
  /// Throws ShapeError if it has not exactly one element, ArgumentError if it is not on this tape.
  /// A tape runs backward once.
  void backward(const Variable& result);
  /// The same for a result of any shape with a given gradient.
  void backward(const Variable& result, Tensor<float> gradient);
  /// Gradient of a watched value, after backward(): zeros if the result does not depend on it.
  /// Throws ArgumentError for a constant or before backward().
  Tensor<float> grad(const Variable& variable) const;

 private:
  friend class Gradients;
  struct Node;
  explicit Tape(bool parameters);
  Variable append(Tensor<float> value, std::vector<int> inputs, Backward backward, Parameter* parameter);
  std::vector<Node> nodes_;
  bool done_ = false;
  bool parameters_ = true;
};

}  // namespace dgm
