// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/parameters.hpp>

#include "host/core/check.hpp"

namespace dgm {

namespace {

// A parameter in the flat buffer is aligned as one of its own would be, so that kernels may load
// vectors from it.
constexpr int64_t kAlignment = 256 / sizeof(float);

int64_t padded(int64_t count) { return (count + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

Parameter& Parameters::add(std::string name, const Tensor<float>& initial) {
  check<ArgumentError>(!name.empty(), "Parameters::add: the name is empty");
  check<ArgumentError>(!contains(name), "Parameters::add: there is a parameter \"", name, "\" already");
  check<DeviceError>(empty() || initial.stream() == stream(), "Parameters::add: ", name, " is on ",
                     initial.device().name(), " but ", empty() ? "" : parameters_.front().name, " is on ",
                     empty() ? "" : stream().device().name(), "; all parameters must be on one stream");
  Parameter parameter = {name, initial.clone(), Tensor<float>::zeros(initial.shape(), initial.stream())};
  flat_.clear();
  index_.emplace(std::move(name), parameters_.size());
  return parameters_.emplace_back(std::move(parameter));
}

Parameter& Parameters::operator[](const std::string& name) {
  return const_cast<Parameter&>(static_cast<const Parameters&>(*this)[name]);
}

const Parameter& Parameters::operator[](const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) {
    std::string names;
    for (const Parameter& parameter : parameters_) names += (names.empty() ? "" : ", ") + parameter.name;
    throw ArgumentError(text("Parameters: there is no \"", name, "\" among: ", names.empty() ? "none" : names));
  }
  return parameters_[found->second];
}

int64_t Parameters::count() const {
  int64_t count = 0;
  for (const Parameter& parameter : parameters_) count += parameter.value.size();
  return count;
}

const Stream& Parameters::stream() const {
  check<ArgumentError>(!empty(), "Parameters: there are none yet; add() one first");
  return parameters_.front().value.stream();
}

void Parameters::zero_grad() {
  if (empty()) return;
  Tensor<float> grad = flat_grad();
  detail::fill_zero(grad.data(), grad.stream(), static_cast<std::size_t>(grad.size()) * sizeof(float));
}

Tensor<float> Parameters::flat_value() {
  flatten();
  return flat_[0];
}

Tensor<float> Parameters::flat_grad() {
  flatten();
  return flat_[1];
}

void Parameters::flatten() {
  if (!flat_.empty()) return;
  int64_t total = 0;
  for (const Parameter& parameter : parameters_) total += padded(parameter.value.size());
  std::vector<Tensor<float>> flat(2, Tensor<float>::zeros({total}, stream()));
  flat[1] = Tensor<float>::zeros({total}, stream());
  int64_t begin = 0;
  for (Parameter& parameter : parameters_) {
    const int64_t end = begin + parameter.value.size();
    const auto move_into = [&](const Tensor<float>& all, Tensor<float>& one) {
      Tensor<float> slice = all.rows(begin, end).reshape(one.shape());
      slice.copy_from(one);
      one = std::move(slice);
    };
    move_into(flat[0], parameter.value);
    move_into(flat[1], parameter.grad);
    begin = padded(end);
  }
  flat_ = std::move(flat);
}

std::map<std::string, Tensor<float>> Parameters::copy_values() const {
  std::map<std::string, Tensor<float>> values;
  for (const Parameter& parameter : parameters_) values.emplace(parameter.name, parameter.value.clone());
  return values;
}

void Parameters::load_values(const std::map<std::string, Tensor<float>>& values) {
  std::string missing;
  std::string unexpected;
  for (const Parameter& parameter : parameters_) {
    if (values.count(parameter.name) == 0) missing += (missing.empty() ? "" : ", ") + parameter.name;
  }
  for (const auto& [name, value] : values) {
    if (!contains(name)) unexpected += (unexpected.empty() ? "" : ", ") + name;
  }
  check<ArgumentError>(
      missing.empty() && unexpected.empty(), "Parameters::load_values: ", missing.empty() ? "" : "missing: " + missing,
      missing.empty() || unexpected.empty() ? "" : "; ", unexpected.empty() ? "" : "unexpected: " + unexpected);
  for (const auto& [name, value] : values) {
    const Shape& wanted = (*this)[name].value.shape();
    check<ShapeError>(value.shape() == wanted, "Parameters::load_values: ", name, " has shape ", value.shape().str(),
                      "; ", wanted.str(), " is needed");
  }
  for (const auto& [name, value] : values) (*this)[name].value.copy_from(value);
}

}  // namespace dgm
