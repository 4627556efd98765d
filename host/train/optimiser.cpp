// SPDX-License-Identifier: Apache-2.0
#include <dgm/train/optimiser.hpp>

#include "host/core/dispatch.hpp"
#include "host/train/schedule_args.hpp"
#include "kernels/optimiser.hpp"

#include <cmath>
#include <cstddef>
#include <limits>

namespace dgm {

namespace {

using kernels::StepScalars;

constexpr int64_t kScalars = sizeof(StepScalars) / sizeof(float);
static_assert(sizeof(StepScalars) == kScalars * sizeof(float));

int64_t position(std::size_t offset) { return static_cast<int64_t>(offset / sizeof(float)); }

void check_fraction(const std::string& function, const char* name, double value) {
  check<ArgumentError>(value >= 0 && value < 1, function, ": ", name, " is ", value, "; 0 <= ", name, " < 1 is needed");
}

void check_amount(const std::string& function, const char* name, double value) {
  check<ArgumentError>(std::isfinite(value) && value >= 0, function, ": ", name, " is ", value,
                       "; a finite number, at least 0, is needed");
}

int64_t chunks_of(int64_t size) { return (size + kernels::kNormChunk - 1) / kernels::kNormChunk; }

}  // namespace

Optimiser::Optimiser(Parameters& parameters, std::string type, std::vector<std::string> moments,
                     const Settings& settings)
    : parameters_(&parameters),
      type_(std::move(type)),
      settings_(settings),
      moment_names_(std::move(moments)),
      counters_(Tensor<int64_t>::from({0, 0, -1}, {kernels::kUpdateCounters}, parameters.stream())),
      partial_(Tensor<double>::zeros({chunks_of(parameters.flat_value().size())}, parameters.stream())),
      scalars_(Tensor<float>::zeros({kScalars}, parameters.stream())),
      norm_(scalars_.rows(position(offsetof(StepScalars, norm)), position(offsetof(StepScalars, norm)) + 1)),
      rate_(scalars_.rows(position(offsetof(StepScalars, rate)), position(offsetof(StepScalars, rate)) + 1)) {
  check_fraction(type_, "momentum", settings.momentum);
  check_fraction(type_, "beta1", settings.beta1);
  check_fraction(type_, "beta2", settings.beta2);
  check<ArgumentError>(type_ == "sgd" || (std::isfinite(settings.epsilon) && settings.epsilon > 0), type_,
                       ": epsilon is ", settings.epsilon, "; a finite number above 0 is needed");
  check<ArgumentError>(!settings.nesterov || settings.momentum > 0, type_,
                       ": nesterov is set but momentum is 0; momentum > 0 is needed");
  check_amount(type_, "weight_decay", settings.weight_decay);
  check_amount(type_, "clip_norm", settings.clip_norm);
  check_amount(type_, "clip_value", settings.clip_value);
  check<ArgumentError>(settings.clip_norm == 0 || settings.clip_value == 0, type_, ": clip_norm is ",
                       settings.clip_norm, " and clip_value is ", settings.clip_value, "; at most one may be set");
  for (std::size_t i = 0; i < moment_names_.size(); ++i) {
    moments_.push_back(Tensor<float>::zeros(parameters.flat_value().shape(), parameters.stream()));
  }
}

void Optimiser::step() {
  const Stream& stream = parameters_->stream();
  Tensor<float> value = parameters_->flat_value();
  const Tensor<float> grad = parameters_->flat_grad();
  check<ArgumentError>(
      chunks_of(value.size()) == partial_.size() && (moments_.empty() || moments_[0].shape() == value.shape()),
      "Optimiser::step: parameters were added since the optimiser was made");
  auto* const scalars = reinterpret_cast<StepScalars*>(scalars_.data());
  const Settings& s = settings_;

  const bool norm_wanted = s.clip_norm > 0 || s.skip_non_finite;
  if (norm_wanted) run(stream, kernels::GradientNorm{grad.data(), grad.size(), partial_.data()});
  run(stream, kernels::UpdateScalars{schedule_args(s.rate), s.beta1, s.beta2, norm_wanted ? partial_.data() : nullptr,
                                     partial_.size(), s.clip_norm, s.skip_non_finite, counters_.data(), scalars});

  const kernels::GradientArgs gradient = {
      grad.data(), s.clip_value > 0 ? static_cast<float>(s.clip_value) : std::numeric_limits<float>::infinity(),
      s.goal == Goal::maximise};
  const auto decay = static_cast<float>(s.weight_decay);
  if (type_ == "sgd") {
    run(stream, kernels::SgdUpdate{gradient, scalars, decay, static_cast<float>(s.momentum), s.nesterov, value.size(),
                                   value.data(), moments_.empty() ? nullptr : moments_[0].data()});
  } else {
    run(stream, kernels::AdamUpdate{gradient, scalars, decay, type_ == "adamw", static_cast<float>(1 - s.beta1),
                                    static_cast<float>(1 - s.beta2), static_cast<float>(s.epsilon), value.size(),
                                    value.data(), moments_[0].data(), moments_[1].data()});
  }
}

OptimiserState Optimiser::state() const {
  OptimiserState state;
  state.type = type_;
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    const std::vector<Tensor<float>> parts = parameters_->split(moments_[i]);
    std::size_t part = 0;
    for (const Parameter& parameter : *parameters_) {
      state.moments.emplace(moment_names_[i] + "." + parameter.name, parts[part++].clone());
    }
  }
  const std::vector<int64_t> counters = counters_.to_host();
  state.updates = counters[kernels::kUpdates];
  state.skipped = counters[kernels::kSkipped];
  state.last_skipped = counters[kernels::kLastSkipped];
  return state;
}

void Optimiser::load_state(const OptimiserState& state) {
  check<ArgumentError>(state.type == type_, "Optimiser::load_state: the state is of ", state.type, "; ", type_,
                       " is needed");
  check<ArgumentError>(state.updates >= 0 && state.skipped >= 0 && state.last_skipped >= -1,
                       "Optimiser::load_state: a counter is negative");
  std::vector<std::pair<Tensor<float>, const Tensor<float>*>> copies;
  for (std::size_t i = 0; i < moments_.size(); ++i) {
    const std::vector<Tensor<float>> parts = parameters_->split(moments_[i]);
    std::size_t part = 0;
    for (const Parameter& parameter : *parameters_) {
      const std::string name = moment_names_[i] + "." + parameter.name;
      const auto found = state.moments.find(name);
      check<ArgumentError>(found != state.moments.end(), "Optimiser::load_state: ", name, " is missing");
      check<ShapeError>(found->second.shape() == parameter.value.shape(), "Optimiser::load_state: ", name,
                        " has shape ", found->second.shape().str(), "; ", parameter.value.shape().str(), " is needed");
      copies.emplace_back(parts[part++], &found->second);
    }
  }
  if (copies.size() != state.moments.size()) {
    for (const auto& [name, tensor] : state.moments) {
      bool known = false;
      for (const auto& [to, from] : copies) known = known || from == &tensor;
      check<ArgumentError>(known, "Optimiser::load_state: ", name, " is unexpected");
    }
  }
  for (auto& [to, from] : copies) to.copy_from(*from);
  counters_.copy_from(Tensor<int64_t>::from({state.updates, state.skipped, state.last_skipped},
                                            {kernels::kUpdateCounters}, counters_.stream()));
}

Optimiser sgd(Parameters& parameters, const SgdOptions& o) {
  std::vector<std::string> moments;
  if (o.momentum > 0) moments = {"velocity"};
  return Optimiser(
      parameters, "sgd", std::move(moments),
      {o.rate, o.weight_decay, o.goal, o.clip_norm, o.clip_value, o.skip_non_finite, o.momentum, o.nesterov, 0, 0, 0});
}

Optimiser adam(Parameters& parameters, const AdamOptions& o) {
  return Optimiser(parameters, "adam", {"first", "second"},
                   {o.rate, o.weight_decay, o.goal, o.clip_norm, o.clip_value, o.skip_non_finite, 0, false, o.beta1,
                    o.beta2, o.epsilon});
}

Optimiser adamw(Parameters& parameters, const AdamWOptions& o) {
  return Optimiser(parameters, "adamw", {"first", "second"},
                   {o.rate, o.weight_decay, o.goal, o.clip_norm, o.clip_value, o.skip_non_finite, 0, false, o.beta1,
                    o.beta2, o.epsilon});
}

}  // namespace dgm
