// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/autodiff/parameters.hpp>
#include <dgm/train/schedule.hpp>

#include <map>
#include <string>
#include <vector>

namespace dgm {

/// Whether a step goes down or up the gradient. Weight decay pulls towards zero in both.
enum class Goal { minimise, maximise };

// Common to all options below:
//   clip_norm        g <- g * min(1, clip_norm / |g|) with |g| the Euclidean norm over all
//                    parameters together; 0: off. Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063.
//   clip_value       every element of g clamped to [-clip_value, clip_value]; 0: off. Not together
//                    with clip_norm.
//   skip_non_finite  an update whose gradient holds a NaN or an infinity anywhere, or whose norm
//                    after clipping is above 1.8e19 (its square no f32), is skipped and counted:
//                    parameters, moments and the schedule stay as they were. Costs one read of the
//                    gradient, which clip_norm needs anyway.

/// g <- g + weight_decay w;  v <- momentum v + g;  d = v, or g + momentum v with Nesterov;
/// w <- w - rate d. Without momentum d = g.
/// Source    Sutskever, Martens, Dahl & Hinton 2013, "On the importance of initialization and
///           momentum in deep learning", in the form that keeps v free of the rate.
struct SgdOptions {
  Schedule rate = 0.01;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  Goal goal = Goal::minimise;
  double clip_norm = 0;
  double clip_value = 0;
  bool skip_non_finite = true;
};

/// g <- g + weight_decay w;  m <- beta1 m + (1 - beta1) g;  v <- beta2 v + (1 - beta2) g^2;
/// w <- w - rate / (1 - beta1^t) m / (sqrt(v / (1 - beta2^t)) + epsilon), at the t-th update.
/// Source    Kingma & Ba 2015, arXiv:1412.6980, algorithm 1.
struct AdamOptions {
  Schedule rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
  Goal goal = Goal::minimise;
  double clip_norm = 0;
  double clip_value = 0;
  bool skip_non_finite = true;
};

/// Adam whose decay does not pass through the moments: w <- w - rate weight_decay w beside Adam's
/// step of the plain gradient.
/// Source    Loshchilov & Hutter 2019, arXiv:1711.05101, algorithm 2, with the schedule in the rate.
struct AdamWOptions {
  Schedule rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0.01;
  Goal goal = Goal::minimise;
  double clip_norm = 0;
  double clip_value = 0;
  bool skip_non_finite = true;
};

/// What a checkpoint keeps of an optimiser.
struct OptimiserState {
  std::string type;  ///< "sgd", "adam" or "adamw"
  /// "<moment>.<parameter>": velocity of sgd with momentum; first and second of adam and adamw.
  std::map<std::string, Tensor<float>> moments;
  int64_t updates = 0;        ///< made: the t of bias correction and schedule
  int64_t skipped = 0;        ///< calls of step() that found a gradient that is not finite
  int64_t last_skipped = -1;  ///< the last such call, counted from 0; -1: none
};

/// Updates all parameters at once, from their gradients: one kernel over the flat buffers.
///
/// Everything a step needs, its number and the learning rate included, is on the device: step()
/// never synchronises and can be captured in a graph. The Parameters must outlive the optimiser,
/// and none may be added once it is made. Move-only.
///
/// Accuracy  one update is off by at most kOptimiserError * max(|w|, |change of w|) from exact
///           arithmetic on the same f32 parameters, gradients and moments.
class Optimiser {
 public:
  /// One update from the parameters' gradients, which it leaves as they are.
  /// Throws ArgumentError if parameters were added since the optimiser was made.
  void step();

  const std::string& type() const { return type_; }
  Parameters& parameters() const { return *parameters_; }
  /// Euclidean norm of the gradient of the last step() before clipping; 0 if neither clip_norm nor
  /// skip_non_finite needs it; not finite if and only if the update was skipped, where
  /// skip_non_finite is set. On the device, written by each step.
  const Tensor<float>& gradient_norm() const { return norm_; }
  /// Learning rate of the last step(); on the device.
  const Tensor<float>& learning_rate() const { return rate_; }

  /// Copies, after waiting for the stream.
  OptimiserState state() const;
  /// Throws ArgumentError that names what does not fit (type, missing, unexpected or misshapen
  /// moments); nothing is changed then.
  void load_state(const OptimiserState& state);

 private:
  friend Optimiser sgd(Parameters&, const SgdOptions&);
  friend Optimiser adam(Parameters&, const AdamOptions&);
  friend Optimiser adamw(Parameters&, const AdamWOptions&);
  struct Settings {
    Schedule rate;
    double weight_decay;
    Goal goal;
    double clip_norm;
    double clip_value;
    bool skip_non_finite;
    double momentum = 0;
    bool nesterov = false;
    double beta1 = 0;
    double beta2 = 0;
    double epsilon = 0;
  };
  Optimiser(Parameters& parameters, std::string type, std::vector<std::string> moments, const Settings& settings);

  Parameters* parameters_;
  std::string type_;
  Settings settings_;
  std::vector<std::string> moment_names_;
  std::vector<Tensor<float>> moments_;  // in the layout of the flat value
  Tensor<int64_t> counters_;
  Tensor<double> partial_;
  Tensor<float> scalars_;  // a kernels::StepScalars
  Tensor<float> norm_;     // these two: parts of it
  Tensor<float> rate_;
};

inline constexpr double kOptimiserError = 1e-6;

/// Throws ArgumentError for an option out of its range: momentum, beta1 and beta2 in [0, 1),
/// epsilon > 0, weight_decay, clip_norm and clip_value >= 0 and finite, nesterov only with momentum,
/// clip_norm and clip_value not both; or if there are no parameters.
Optimiser sgd(Parameters& parameters, const SgdOptions& options = {});
Optimiser adam(Parameters& parameters, const AdamOptions& options = {});
Optimiser adamw(Parameters& parameters, const AdamWOptions& options = {});

}  // namespace dgm
