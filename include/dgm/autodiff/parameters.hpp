// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/tape.hpp>

#include <deque>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>

namespace dgm {

/// The named tensors of a model, in the order in which they were added, all on one stream.
///
/// Their values lie in one flat buffer and their gradients in another, so that an optimiser is one
/// kernel however many layers there are. Each parameter begins at a multiple of 256 bytes; what
/// lies between is zero and stays zero.
///
/// A Parameter& stays valid for the life of the set. Its `value` and `grad` handles are pointed at
/// the flat buffers by the first call that needs them after an add(): read them from the Parameter
/// each time, keep no copies of the handles. Move-only.
class Parameters {
 public:
  Parameters() = default;
  Parameters(Parameters&&) = default;
  Parameters& operator=(Parameters&&) = default;

  /// Adds a parameter with a copy of `initial` as its value and a gradient of zeros.
  /// Throws ArgumentError if the name is empty or taken, DeviceError if `initial` is not on the
  /// stream of the parameters added before.
  Parameter& add(std::string name, const Tensor<float>& initial);

  /// Throws ArgumentError that lists the names there are.
  Parameter& operator[](const std::string& name);
  const Parameter& operator[](const std::string& name) const;
  bool contains(const std::string& name) const { return index_.count(name) > 0; }

  /// Number of parameters.
  int64_t size() const { return static_cast<int64_t>(parameters_.size()); }
  bool empty() const { return parameters_.empty(); }
  /// Number of elements of all parameters together, without the padding of the flat buffers.
  int64_t count() const;
  /// Throws ArgumentError if there are no parameters yet.
  const Stream& stream() const;

  auto begin() { return parameters_.begin(); }
  auto end() { return parameters_.end(); }
  auto begin() const { return parameters_.begin(); }
  auto end() const { return parameters_.end(); }

  /// Queued on the stream; does not synchronise.
  void zero_grad();

  /// All values, rank 1, shared with the parameters: writing here writes them.
  /// Throws ArgumentError if there are no parameters.
  Tensor<float> flat_value();
  /// All gradients in the same layout.
  Tensor<float> flat_grad();
  /// An array in the layout of flat_value() as one tensor a parameter, in their order and of their
  /// shapes, sharing its storage. Throws ShapeError if it has not that layout's size.
  std::vector<Tensor<float>> split(const Tensor<float>& flat) const;

  /// Copies of the values by name.
  std::map<std::string, Tensor<float>> copy_values() const;
  /// Sets the values by name, from any device. Throws ArgumentError that lists the names missing
  /// and those unexpected, ShapeError that names the parameter; nothing is changed then.
  void load_values(const std::map<std::string, Tensor<float>>& values);

 private:
  void flatten();
  int64_t padded_count() const;
  std::deque<Parameter> parameters_;  // a deque, so that references survive add()
  std::unordered_map<std::string, std::size_t> index_;
  std::optional<Stream> stream_;     // kept here: a tensor's reference to its stream ends with its buffer
  std::vector<Tensor<float>> flat_;  // value and gradient; empty until flattened
};

}  // namespace dgm
