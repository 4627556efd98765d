// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/train/minibatch.hpp>
#include <dgm/train/optimiser.hpp>

#include <functional>
#include <string>
#include <vector>

namespace dgm {

/// Whether a progress bar is drawn on stderr: where that is a terminal, always, or never.
enum class Progress { automatic, always, never };

struct TrainerOptions {
  int64_t steps = 0;   ///< in all, those before a resume included; this or epochs
  int64_t epochs = 0;  ///< passes through the data, in all
  int64_t batch = 0;   ///< data of a step; 0: all
  MinibatchOptions minibatches = {};
  uint64_t seed = 0;  ///< of the minibatches and of Minibatch::draws

  int64_t report_every = 100;  ///< steps that a point of the history averages
  Progress progress = Progress::automatic;
  /// On a GPU run the first step as it is, capture the second in a graph, and replay that. The loss
  /// function is then called twice only: see Graph. Same bits either way.
  bool graph = true;
  /// Updates that may be skipped because a gradient is not finite before training stops.
  int64_t skips_allowed = 0;

  int64_t validate_every = 0;  ///< steps; 0: never. Also after the last step.
  Goal validation_goal = Goal::minimise;
  int64_t patience = 0;      ///< stop after so many validations without improvement; 0: never
  double min_delta = 0;      ///< what counts as an improvement: more than this
  bool restore_best = true;  ///< end with the parameters of the best validation

  std::string checkpoint = {};      ///< file; empty: none
  int64_t checkpoint_every = 1000;  ///< steps. Also after the last one.
  bool resume = true;               ///< go on from the checkpoint if the file is there
};

/// What happened, for plots and reports.
struct History {
  struct Point {
    int64_t step;          ///< after so many steps
    double loss;           ///< mean over the steps since the point before
    double gradient_norm;  ///< mean of those that are finite; see Optimiser::gradient_norm()
  };
  struct Validation {
    int64_t step;
    double value;
  };
  std::vector<Point> training;
  std::vector<Validation> validation;
  int64_t steps = 0;
  int64_t skipped = 0;     ///< updates left out because the gradient was not finite
  int64_t best_step = -1;  ///< of the best validation; -1: none
  double best_value = 0;   ///< of the best validation
  bool stopped_early = false;
};

/// The training loop: minibatches, loss, gradient, update; reports, validation, early stopping,
/// checkpoints, resume.
///
/// A step never waits for the device; losses are read back in blocks. With equal seed, data and
/// options on the same device a run that was interrupted, however often and even by SIGKILL, and
/// resumed from its checkpoint ends with the same bits as one that was not.
///
///   Parameters parameters;  // ... add()
///   Optimiser optimiser = adam(parameters, {.rate = 1e-2});
///   Trainer trainer(optimiser, data_count, {.epochs = 20, .batch = 128, .seed = 1});
///   trainer.train([&](Tape& tape, const Minibatch& minibatch) { ... return loss; });
class Trainer {
 public:
  /// The loss of a minibatch, a Variable of one element on the tape. Sums over data should be
  /// weighted with minibatch.weights; draws should come from minibatch.draws.
  using Loss = std::function<Variable(Tape& tape, const Minibatch& minibatch)>;
  using Validation = std::function<double()>;

  /// `data` is the number of data. The optimiser and its parameters must outlive the trainer.
  /// Loads options.checkpoint if it is there and options.resume is set, see load().
  /// Throws ArgumentError for options that make no sense.
  Trainer(Optimiser& optimiser, int64_t data, TrainerOptions options);
  ~Trainer();
  Trainer(const Trainer&) = delete;
  Trainer& operator=(const Trainer&) = delete;

  /// Trains until the steps are done or patience ends. Called again it goes on where it ended or
  /// threw.
  /// Throws NumericalError that names the step if a loss is not finite, if more gradients than
  /// options.skips_allowed are not, or if a validation is NaN; the last checkpoint is then untouched.
  /// FileError if a checkpoint cannot be written; the one before is then untouched.
  const History& train(const Loss& loss, const Validation& validation = {});

  const History& history() const { return history_; }
  /// Steps made so far.
  int64_t step() const { return history_.steps; }
  /// Steps there will be if nothing stops the training.
  int64_t total_steps() const { return total_; }

  /// Everything that train() needs to go on, as one safetensors file that Python opens too:
  /// parameters as "parameter.<name>", the optimiser's state, the best parameters so far, counters
  /// and history. Replaces the file at once or not at all.
  /// Throws FileError; NumericalError if a parameter is not finite.
  void save(const std::string& path);
  /// Throws FileError if the file cannot be read, is no such checkpoint, or is of another model,
  /// optimiser, seed, number of data, batch or sampling; nothing is changed then.
  void load(const std::string& path);

 private:
  void step_once(const Loss& loss);
  void read_losses();
  void add_point();
  void validate(const Validation& validation);
  std::map<std::string, std::string> metadata() const;

  Optimiser& optimiser_;
  Parameters& parameters_;
  TrainerOptions options_;
  Draws draws_;
  MinibatchSampler sampler_;
  int64_t total_;
  Tensor<float> ring_;                 // (capacity, 2): loss and gradient norm of the last steps
  int64_t read_ = 0;                   // steps whose losses have been read back
  std::vector<float> pending_losses_;  // since the last point
  std::vector<float> pending_norms_;
  int64_t bad_validations_ = 0;
  std::vector<Tensor<float>> best_;  // flat values of the best validation; empty: none yet
  History history_;
};

}  // namespace dgm
