// SPDX-License-Identifier: Apache-2.0
#include <dgm/train/trainer.hpp>

#include <dgm/core/graph.hpp>
#include <dgm/data/safetensors.hpp>

#include "host/core/dispatch.hpp"
#include "host/train/progress.hpp"
#include "kernels/minibatch.hpp"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

namespace dgm {

namespace {

constexpr int64_t kRing = 1024;  // steps between two reads of the losses, at most
constexpr const char* kFormat = "dgm_cuda training checkpoint";
constexpr const char* kVersion = "1";

int64_t total_steps_of(const TrainerOptions& options, const MinibatchSampler& sampler) {
  check<ArgumentError>(options.steps >= 0 && options.epochs >= 0 && (options.steps > 0) != (options.epochs > 0),
                       "Trainer: steps is ", options.steps, " and epochs is ", options.epochs,
                       "; exactly one of them above 0 is needed");
  constexpr int64_t kMost = int64_t{1} << 30;
  int64_t total = options.steps;
  if (total == 0) {
    check<ArgumentError>(options.epochs < kMost, "Trainer: epochs is ", options.epochs, "; less than 2^30 is needed");
    const bool whole = options.batch != 0 && options.minibatches.sampling == Sampling::epochs &&
                       options.minibatches.last != LastBatch::wrap;
    // Rounded up once at the end, not every epoch: wrapped epochs share batches.
    const double batches = whole ? static_cast<double>(sampler.steps_per_epoch()) * static_cast<double>(options.epochs)
                                 : std::ceil(static_cast<double>(options.epochs) * static_cast<double>(sampler.data()) /
                                             static_cast<double>(sampler.batch()));
    total = batches < static_cast<double>(kMost) ? static_cast<int64_t>(batches) : kMost;
  }
  check<ArgumentError>(total < kMost, "Trainer: ", total, " steps or more; less than 2^30 is needed");
  return total;
}

void check_interval(const char* name, int64_t value, int64_t least) {
  check<ArgumentError>(value >= least, "Trainer: ", name, " is ", value, "; at least ", least, " is needed");
}

std::string number(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof(buffer), "%.5g", value);
  return buffer;
}

StoredTensor stored(const Tensor<float>& tensor) {
  return StoredTensor::of(tensor.to_host(), tensor.shape().extents());
}

// The tensors whose names begin with a prefix, by the rest of the name.
std::map<std::string, Tensor<float>> with_prefix(const SafeTensors& file, const std::string& prefix) {
  std::map<std::string, Tensor<float>> result;
  for (const auto& [name, tensor] : file.tensors) {
    if (name.compare(0, prefix.size(), prefix) != 0) continue;
    result.emplace(name.substr(prefix.size()),
                   Tensor<float>::from(tensor.as<float>(), Shape(tensor.shape), Device::cpu()));
  }
  return result;
}

// Rows of a stored table.
template <class T>
std::vector<T> table(const SafeTensors& file, const char* name, int64_t cols) {
  const StoredTensor& tensor = file.at(name);
  check<ShapeError>(tensor.shape.size() == 2 && tensor.shape[1] == cols, name, " has shape ", Shape(tensor.shape).str(),
                    "; (n, ", cols, ") is needed");
  return tensor.as<T>();
}

// Positions in the checkpoint's counters.
enum Counter : std::size_t {
  kStep,
  kUpdates,
  kSkippedUpdates,
  kLastSkippedUpdate,
  kSkippedSteps,
  kBestStep,
  kBadValidations,
  kStoppedEarly,
  kCounters
};

}  // namespace

Trainer::Trainer(Optimiser& optimiser, int64_t data, TrainerOptions options)
    : optimiser_(optimiser),
      parameters_(optimiser.parameters()),
      options_(std::move(options)),
      draws_(options_.seed, parameters_.stream()),
      sampler_(data, options_.batch, draws_, options_.minibatches),
      total_(total_steps_of(options_, sampler_)),
      ring_(Tensor<float>::zeros({kRing, 2}, parameters_.stream())) {
  check_interval("report_every", options_.report_every, 1);
  check_interval("skips_allowed", options_.skips_allowed, 0);
  check_interval("validate_every", options_.validate_every, 0);
  check_interval("patience", options_.patience, 0);
  check_interval("checkpoint_every", options_.checkpoint_every, 1);
  check<ArgumentError>(options_.min_delta >= 0 && std::isfinite(options_.min_delta), "Trainer: min_delta is ",
                       options_.min_delta, "; a finite number, at least 0, is needed");
  check<ArgumentError>(options_.patience == 0 || options_.validate_every > 0,
                       "Trainer: patience is set but validate_every is 0; validate_every > 0 is needed");
  if (options_.resume && !options_.checkpoint.empty() && std::filesystem::exists(options_.checkpoint)) {
    load(options_.checkpoint);
  }
}

Trainer::~Trainer() = default;

void Trainer::step_once(const Loss& loss_of) {
  parameters_.zero_grad();
  const Minibatch minibatch = sampler_.draw();
  Tape tape;
  const Variable loss = loss_of(tape, minibatch);
  check<ShapeError>(loss.value().size() == 1, "Trainer::train: the loss has shape ", loss.shape().str(),
                    "; exactly 1 element is needed");
  tape.backward(loss);
  optimiser_.step();
  Tensor<int64_t> step = draws_.step();
  run(parameters_.stream(),
      kernels::RecordStep{loss.value().data(), optimiser_.gradient_norm().data(), kRing, ring_.data(), step.data()});
}

void Trainer::read_losses() {
  if (read_ == history_.steps) return;
  const std::vector<float> ring = ring_.to_host();
  const int64_t first = read_;
  read_ = history_.steps;
  for (int64_t step = first; step < history_.steps; ++step) {
    const auto slot = static_cast<std::size_t>(step % kRing);
    const float loss = ring[2 * slot];
    const float norm = ring[2 * slot + 1];
    check<NumericalError>(std::isfinite(loss), "Trainer::train: the loss of step ", step, " is ", loss,
                          "; a smaller learning rate or clip_norm may help");
    if (!std::isfinite(norm)) {
      ++history_.skipped;
      check<NumericalError>(history_.skipped <= options_.skips_allowed, "Trainer::train: the gradient of step ", step,
                            " is not finite (loss ", loss, "); ", history_.skipped, " such steps so far, ",
                            options_.skips_allowed, " allowed");
    }
    pending_losses_.push_back(loss);
    pending_norms_.push_back(norm);
  }
}

void Trainer::add_point() {
  double loss = 0;
  double norm = 0;
  int64_t finite = 0;
  for (const float value : pending_losses_) loss += static_cast<double>(value);
  for (const float value : pending_norms_) {
    if (!std::isfinite(value)) continue;
    norm += static_cast<double>(value);
    ++finite;
  }
  history_.training.push_back({history_.steps, loss / static_cast<double>(pending_losses_.size()),
                               finite > 0 ? norm / static_cast<double>(finite) : INFINITY});
  pending_losses_.clear();
  pending_norms_.clear();
}

void Trainer::validate(const Validation& validation) {
  const double value = validation();
  check<NumericalError>(!std::isnan(value), "Trainer::train: the validation after step ", history_.steps - 1,
                        " is NaN");
  history_.validation.push_back({history_.steps, value});
  const double sign = options_.validation_goal == Goal::minimise ? 1 : -1;
  if (best_.empty() || sign * value < sign * history_.best_value - options_.min_delta) {
    history_.best_value = value;
    history_.best_step = history_.steps;
    bad_validations_ = 0;
    best_ = {parameters_.flat_value().clone()};
    return;
  }
  ++bad_validations_;
  if (options_.patience > 0 && bad_validations_ >= options_.patience) history_.stopped_early = true;
}

const History& Trainer::train(const Loss& loss, const Validation& validation) {
  check<ArgumentError>(options_.validate_every == 0 || static_cast<bool>(validation),
                       "Trainer::train: validate_every is ", options_.validate_every,
                       " but there is no validation function");
  const bool validates = options_.validate_every > 0;
  const bool saves = !options_.checkpoint.empty();
  ProgressBar progress(options_.progress == Progress::always ||
                           (options_.progress == Progress::automatic && ::isatty(STDERR_FILENO) == 1),
                       history_.steps, total_);
  const auto figures = [&] {
    std::string result;
    if (!pending_losses_.empty() || !history_.training.empty()) {
      const double value =
          pending_losses_.empty() ? history_.training.back().loss : static_cast<double>(pending_losses_.back());
      result.append("loss ").append(number(value));
    }
    if (!history_.validation.empty()) {
      result.append("  validation ").append(number(history_.validation.back().value));
      result.append(" (best ").append(number(history_.best_value)).append(")");
    }
    return result;
  };

  // What the graph needs of the step must not move: everything else a step uses is a member.
  const bool captures = options_.graph && parameters_.stream().device().is_cuda();
  std::optional<Graph> graph;
  bool warm = false;  // kernels loaded, workspaces made: a capture finds nothing to be done once
  while (history_.steps < total_ && !history_.stopped_early) {
    if (captures && warm) {
      if (!graph) graph = Graph::capture(parameters_.stream(), [this, &loss] { step_once(loss); });
      graph->launch();
    } else {
      step_once(loss);
      warm = true;
    }
    ++history_.steps;

    const int64_t step = history_.steps;
    const bool last = step == total_;
    const bool reports = step % options_.report_every == 0 || last;
    const bool validates_now = validates && (step % options_.validate_every == 0 || last);
    const bool saves_now = saves && (step % options_.checkpoint_every == 0 || last);
    const bool draws_now = progress.due();
    if (reports || validates_now || saves_now || draws_now || step - read_ == kRing) read_losses();
    if (reports) add_point();
    if (validates_now) validate(validation);
    if (draws_now) progress.draw(step, figures());
    if (history_.stopped_early && !pending_losses_.empty()) add_point();
    if (saves_now || (saves && history_.stopped_early)) save(options_.checkpoint);
  }
  if (validates && options_.restore_best && !best_.empty()) parameters_.flat_value().copy_from(best_[0]);
  if (history_.steps == total_ && progress.due()) progress.draw(history_.steps, figures());
  return history_;
}

std::map<std::string, std::string> Trainer::metadata() const {
  return {{"format", kFormat},
          {"version", kVersion},
          {"optimiser", optimiser_.type()},
          {"seed", std::to_string(options_.seed)},
          {"data", std::to_string(sampler_.data())},
          {"batch", std::to_string(options_.batch)},
          {"sampling", options_.minibatches.sampling == Sampling::epochs ? "epochs" : "with_replacement"},
          {"last_batch", options_.minibatches.last == LastBatch::wrap   ? "wrap"
                         : options_.minibatches.last == LastBatch::drop ? "drop"
                                                                        : "pad"}};
}

void Trainer::save(const std::string& path) {
  read_losses();
  std::map<std::string, StoredTensor> tensors;
  for (const Parameter& parameter : parameters_) {
    const std::vector<float> values = parameter.value.to_host();
    check<NumericalError>(std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }),
                          "Trainer::save: ", parameter.name, " is not finite after step ", history_.steps - 1, "; ",
                          path, " is left as it was");
    tensors.emplace("parameter." + parameter.name, StoredTensor::of(values, parameter.value.shape().extents()));
  }
  const OptimiserState state = optimiser_.state();
  for (const auto& [name, moment] : state.moments) tensors.emplace("optimiser." + name, stored(moment));
  if (!best_.empty()) {
    const std::vector<Tensor<float>> parts = parameters_.split(best_[0]);
    std::size_t part = 0;
    for (const Parameter& parameter : parameters_) tensors.emplace("best." + parameter.name, stored(parts[part++]));
  }
  std::vector<int64_t> counters(kCounters);
  counters[kStep] = history_.steps;
  counters[kUpdates] = state.updates;
  counters[kSkippedUpdates] = state.skipped;
  counters[kLastSkippedUpdate] = state.last_skipped;
  counters[kSkippedSteps] = history_.skipped;
  counters[kBestStep] = history_.best_step;
  counters[kBadValidations] = bad_validations_;
  counters[kStoppedEarly] = history_.stopped_early ? 1 : 0;
  tensors.emplace("trainer.counters", StoredTensor::of(counters, {kCounters}));
  tensors.emplace("trainer.best_value", StoredTensor::scalar(history_.best_value));

  std::vector<float> pending;
  for (std::size_t i = 0; i < pending_losses_.size(); ++i) {
    pending.insert(pending.end(), {pending_losses_[i], pending_norms_[i]});
  }
  tensors.emplace("trainer.pending", StoredTensor::of(pending, {static_cast<int64_t>(pending_losses_.size()), 2}));
  std::vector<double> points;
  for (const History::Point& point : history_.training) {
    points.insert(points.end(), {static_cast<double>(point.step), point.loss, point.gradient_norm});
  }
  tensors.emplace("history.training", StoredTensor::of(points, {static_cast<int64_t>(history_.training.size()), 3}));
  std::vector<double> validations;
  for (const History::Validation& validation : history_.validation) {
    validations.insert(validations.end(), {static_cast<double>(validation.step), validation.value});
  }
  tensors.emplace("history.validation",
                  StoredTensor::of(validations, {static_cast<int64_t>(history_.validation.size()), 2}));
  write_safetensors(path, tensors, metadata());
}

void Trainer::load(const std::string& path) {
  const SafeTensors file = read_safetensors(path);
  const auto found_format = file.metadata.find("format");
  check<FileError>(found_format != file.metadata.end() && found_format->second == kFormat, path,
                   ": is no training checkpoint");
  for (const auto& [key, wanted] : metadata()) {
    const auto found = file.metadata.find(key);
    check<FileError>(found != file.metadata.end() && found->second == wanted, path, ": is a checkpoint with ", key, " ",
                     found == file.metadata.end() ? "unknown" : found->second, "; this training has ", key, " ",
                     wanted);
  }
  try {
    // Everything is read and checked before anything is changed.
    const std::vector<int64_t> counters = file.at("trainer.counters").as<int64_t>();
    check<ShapeError>(counters.size() == kCounters, "trainer.counters holds ", counters.size(), " numbers; ",
                      std::size_t{kCounters}, " are needed");
    check<ArgumentError>(0 <= counters[kStep] && counters[kStep] < (int64_t{1} << 30), "its step is ", counters[kStep]);
    History history;
    history.steps = counters[kStep];
    history.skipped = counters[kSkippedSteps];
    history.best_step = counters[kBestStep];
    history.stopped_early = counters[kStoppedEarly] != 0;
    const std::vector<double> best_value = file.at("trainer.best_value").as<double>();
    check<ShapeError>(best_value.size() == 1, "trainer.best_value holds ", best_value.size(), " numbers; 1 is needed");
    history.best_value = best_value[0];
    const std::vector<float> pending = table<float>(file, "trainer.pending", 2);
    const std::vector<double> points = table<double>(file, "history.training", 3);
    for (std::size_t i = 0; i < points.size(); i += 3) {
      history.training.push_back({static_cast<int64_t>(points[i]), points[i + 1], points[i + 2]});
    }
    const std::vector<double> validations = table<double>(file, "history.validation", 2);
    for (std::size_t i = 0; i < validations.size(); i += 2) {
      history.validation.push_back({static_cast<int64_t>(validations[i]), validations[i + 1]});
    }
    std::vector<Tensor<float>> best;
    if (history.best_step >= 0) {
      const auto values = with_prefix(file, "best.");
      best.push_back(Tensor<float>::zeros(parameters_.flat_value().shape(), parameters_.stream()));
      std::vector<Tensor<float>> parts = parameters_.split(best[0]);
      std::size_t part = 0;
      for (const Parameter& parameter : parameters_) {
        const auto found = values.find(parameter.name);
        check<ArgumentError>(found != values.end(), "best.", parameter.name, " is missing");
        parts[part++].copy_from(found->second);
      }
    }
    OptimiserState state;
    state.type = optimiser_.type();
    state.moments = with_prefix(file, "optimiser.");
    state.updates = counters[kUpdates];
    state.skipped = counters[kSkippedUpdates];
    state.last_skipped = counters[kLastSkippedUpdate];
    const auto values = with_prefix(file, "parameter.");

    const OptimiserState before = optimiser_.state();
    optimiser_.load_state(state);
    try {
      parameters_.load_values(values);
    } catch (...) {
      optimiser_.load_state(before);
      throw;
    }
    draws_.set_step(history.steps);
    read_ = history.steps;
    pending_losses_.clear();
    pending_norms_.clear();
    for (std::size_t i = 0; i < pending.size(); i += 2) {
      pending_losses_.push_back(pending[i]);
      pending_norms_.push_back(pending[i + 1]);
    }
    bad_validations_ = counters[kBadValidations];
    best_ = std::move(best);
    history_ = std::move(history);
  } catch (const FileError&) {
    throw;
  } catch (const ArgumentError& error) {
    throw FileError(text(path, ": ", error.what()));
  }
}

}  // namespace dgm
