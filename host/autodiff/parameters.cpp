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
  stream_ = initial.stream();
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
  return *stream_;
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

int64_t Parameters::padded_count() const {
  int64_t total = 0;
  for (const Parameter& parameter : parameters_) total += padded(parameter.value.size());
  return total;
}

std::vector<Tensor<float>> Parameters::split(const Tensor<float>& flat) const {
  check<ShapeError>(flat.shape() == Shape{padded_count()}, "Parameters::split: flat has shape ", flat.shape().str(),
                    "; (", padded_count(), ",) is needed");
  std::vector<Tensor<float>> parts;
  int64_t begin = 0;
  for (const Parameter& parameter : parameters_) {
    const int64_t size = parameter.value.size();
    parts.push_back(flat.rows(begin, begin + size).reshape(parameter.value.shape()));
    begin += padded(size);
  }
  return parts;
}

void Parameters::flatten() {
  if (!flat_.empty()) return;
  const auto gather = [&](Tensor<float> Parameter::*member) {
    const auto flat = Tensor<float>::zeros({padded_count()}, stream());
    std::vector<Tensor<float>> parts = split(flat);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      Tensor<float>& one = parameters_[i].*member;
      parts[i].copy_from(one);
      one = parts[i];
    }
    return flat;
  };
  const Tensor<float> value = gather(&Parameter::value);
  flat_ = {value, gather(&Parameter::grad)};
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
