// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/tape.hpp>

#include "host/core/check.hpp"
#include "host/core/dispatch.hpp"
#include "kernels/accumulate.hpp"

#include <optional>

namespace dgm {

struct Tape::Node {
  Shape shape;
  Stream stream;
  std::vector<int> inputs;  // -1 for a constant
  Backward backward;        // empty for a leaf
  Parameter* parameter = nullptr;
  std::optional<Tensor<float>> gradient;
  bool gradient_is_own = false;  // no one else reads it, so that it may be added to in place
};

Tape::Tape() = default;
Tape::Tape(bool parameters) : parameters_(parameters) {}
Tape::~Tape() = default;

bool Gradients::wanted(int input) const {
  return tape_.nodes_[static_cast<std::size_t>(node_)].inputs.at(static_cast<std::size_t>(input)) >= 0;
}

void Gradients::add(int input, Tensor<float> gradient) {
  const int at = tape_.nodes_[static_cast<std::size_t>(node_)].inputs.at(static_cast<std::size_t>(input));
  if (at < 0) return;
  Tape::Node& node = tape_.nodes_[static_cast<std::size_t>(at)];
  check<ShapeError>(gradient.shape() == node.shape, "Gradients::add: the gradient of input ", input, " has shape ",
                    gradient.shape().str(), "; ", node.shape.str(), " is needed");
  if (!node.gradient) {
    node.gradient = std::move(gradient);
    node.gradient_is_own = false;
    return;
  }
  if (!node.gradient_is_own) {
    node.gradient = node.gradient->clone();
    node.gradient_is_own = true;
  }
  run(node.stream, kernels::Accumulate{gradient.data(), gradient.size(), node.gradient->data()});
}

Variable Tape::append(Tensor<float> value, std::vector<int> inputs, Backward backward, Parameter* parameter) {
  check<ArgumentError>(!done_, "Tape: backward() has run; a new step needs a new tape");
  const int node = static_cast<int>(nodes_.size());
  nodes_.push_back(
      Node{value.shape(), value.stream(), std::move(inputs), std::move(backward), parameter, std::nullopt, false});
  return Variable(std::move(value), this, node);
}

Variable Tape::watch(const Tensor<float>& value) { return append(value, {}, {}, nullptr); }

Variable Tape::watch(Parameter& parameter) {
  if (!parameters_) return parameter.value;
  for (std::size_t i = 0; i < nodes_.size(); ++i) {
    if (nodes_[i].parameter == &parameter) return Variable(parameter.value, this, static_cast<int>(i));
  }
  return append(parameter.value, {}, {}, &parameter);
}

Variable Tape::record(Tensor<float> value, std::initializer_list<Variable> inputs, Backward backward) {
  return record(std::move(value), std::vector<Variable>(inputs), std::move(backward));
}

Variable Tape::record(Tensor<float> value, const std::vector<Variable>& inputs, Backward backward) {
  Tape* tape = nullptr;
  std::vector<int> nodes;
  nodes.reserve(inputs.size());
  for (const Variable& input : inputs) {
    if (input.tape_ != nullptr) {
      check<ArgumentError>(tape == nullptr || tape == input.tape_, "Tape::record: the inputs are on different tapes");
      tape = input.tape_;
    }
    nodes.push_back(input.node_);
  }
  if (tape == nullptr) return Variable(std::move(value));
  return tape->append(std::move(value), std::move(nodes), std::move(backward), nullptr);
}

void Tape::backward(const Variable& result) {
  check<ShapeError>(result.value().size() == 1, "Tape::backward: the result has shape ", result.shape().str(),
                    "; exactly 1 element is needed, or a gradient beside it");
  auto one = Tensor<float>::empty(result.shape(), result.stream());
  run(result.stream(), kernels::Fill{1.0f, 1, one.data()});
  backward(result, std::move(one));
}

void Tape::backward(const Variable& result, Tensor<float> gradient) {
  check<ArgumentError>(result.tape_ == this, "Tape::backward: the result is not on this tape",
                       result.tape_ == nullptr ? " but a constant" : "");
  check<ArgumentError>(!done_, "Tape::backward: it has run already; a new step needs a new tape");
  check<ShapeError>(gradient.shape() == result.shape(), "Tape::backward: the gradient has shape ",
                    gradient.shape().str(), "; the result's ", result.shape().str(), " is needed");
  done_ = true;
  nodes_[static_cast<std::size_t>(result.node_)].gradient = std::move(gradient);
  for (int i = result.node_; i >= 0; --i) {
    Node& node = nodes_[static_cast<std::size_t>(i)];
    if (!node.gradient) continue;
    if (node.backward) {
      Gradients inputs(*this, i);
      node.backward(*node.gradient, inputs);
      // What the closure kept and the gradient itself are not needed again.
      node.backward = {};
      node.gradient.reset();
    } else if (node.parameter != nullptr) {
      run(node.stream, kernels::Accumulate{node.gradient->data(), node.gradient->size(), node.parameter->grad.data()});
    }
  }
}

Tensor<float> Tape::grad(const Variable& variable) const {
  check<ArgumentError>(variable.tape_ == this, "Tape::grad: the variable is not on this tape");
  check<ArgumentError>(done_, "Tape::grad: backward() has not run");
  const Node& node = nodes_[static_cast<std::size_t>(variable.node_)];
  check<ArgumentError>(node.inputs.empty(), "Tape::grad: the variable is an op's result; watched values keep theirs");
  return node.gradient ? *node.gradient : Tensor<float>::zeros(node.shape, node.stream);
}

}  // namespace dgm
