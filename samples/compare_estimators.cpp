// SPDX-License-Identifier: Apache-2.0
// Which estimator of grad log p(x) to trust, and with how many draws: every one of them on a model that is small enough
// for the exact gradient,
//
//   gaussian   z ~ N(0, I), x | z ~ N(w . z + c, exp(log_noise)^2): the marginal is known in closed form;
//   bits       z_d ~ Bernoulli(sigmoid(prior_d)), the same likelihood: the marginal is a sum over 2^D codes.
//
// The proposal q(z | x) is the posterior, taken coordinate by coordinate, and then spoilt: moved by --shift standard
// deviations and widened by --scale (bits: their logits). Bias and variance are those of the gradient by the model's
// parameters; the proposal's own gradient has another aim for each estimator, so of it the signal to noise is shown.
//
//   compare_estimators --plot bias.png
//   compare_estimators --model bits --estimators score,score-loo,vimco --samples 2,8,32
//   compare_estimators --scale 0.3        # a proposal that misses the posterior: k-hat tells
#include <dgm/data/file.hpp>
#include <dgm/data/plot.hpp>
#include <dgm/data/text_table.hpp>
#include <dgm/inference/compare.hpp>
#include <dgm/inference/elbo.hpp>
#include <dgm/inference/hamiltonian.hpp>
#include <dgm/inference/importance.hpp>
#include <dgm/inference/score_function.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/reductions.hpp>

#include "samples/support/command.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <random>

namespace {

using namespace dgm;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

struct Options {
  std::string model = "gaussian";
  std::vector<std::string> estimators;
  std::vector<int64_t> samples = {1, 4, 16, 64};
  int64_t repetitions = 300;
  int64_t data = 4;
  int64_t latent = 2;
  double shift = 0.7;
  double scale = 1.3;
  uint64_t seed = 1;
  std::string device = "auto";
  bool parameters = false;
  std::string plot;
  std::string json;
};

// ---- the models ---------------------------------------------------------------------------------

class Model : public LatentJoint {
 public:
  // Parameters and data are drawn from the seed; the data from the model.
  Model(const Options& options, const Stream& stream)
      : bits_(options.model == "bits"), dims_(options.latent), stream_(stream), x_(draw(options)) {}

  int64_t batch() const override { return x_.shape()[0]; }
  const Stream& stream() const override { return stream_; }
  Parameters& parameters() const { return parameters_; }

  std::unique_ptr<VectorDistribution> prior(Tape& tape) const override {
    const auto zeros = Tensor<float>::zeros({batch(), dims_}, stream_);
    if (bits_) return std::make_unique<BernoulliVector>(zeros + tape.watch(parameters_["prior"]));
    return std::make_unique<DiagonalGaussian>(DiagonalGaussian::standard(batch(), dims_, stream_));
  }
  Variable log_likelihood(Tape& tape, const Variable& z) const override {
    const Variable mean = sum(z * tape.watch(parameters_["w"]), -1) + tape.watch(parameters_["c"]);  // (B, S)
    return normal_log_density(mean - x_, tape.watch(parameters_["log_noise"]));
  }

  // log p(x_b, z) for all 2^D codes.
  Variable table(Tape& tape) const {
    const Tensor<float> z = codes();
    return prior(tape)->log_prob(z) + log_likelihood(tape, z);
  }
  // Of z Gaussian: log N(x; c, |w|^2 + noise^2), summed over the data.
  Variable log_marginal(Tape& tape) const {
    const Variable variance =
        sum(square(tape.watch(parameters_["w"]))) + exp(tape.watch(parameters_["log_noise"]) * 2.0f);
    return sum(normal_log_density(x_ - tape.watch(parameters_["c"]), log(variance) * 0.5f));
  }

  // The spoilt posterior; its parameters start with "q".
  Proposal make_proposal(double shift, double scale) const {
    const std::vector<float> w = parameters_["w"].value.to_host();
    const double c = parameters_["c"].value.item();
    const double noise = std::exp(2.0 * parameters_["log_noise"].value.item());
    const std::vector<float> x = x_.to_host();
    const auto rows = static_cast<std::size_t>(batch());
    const auto dims = static_cast<std::size_t>(dims_);
    const Shape shape = {batch(), dims_};
    if (bits_) {
      Tape unused;
      const std::vector<float> log_joint = table(unused).value().to_host();
      std::vector<float> logits;
      const std::size_t count = log_joint.size() / rows;
      for (std::size_t b = 0; b < rows; ++b) {
        for (std::size_t d = 0; d < dims; ++d) {
          double on = 0, off = 0;
          for (std::size_t code = 0; code < count; ++code) {
            (code >> d & 1 ? on : off) += std::exp(double{log_joint[b * count + code]});
          }
          logits.push_back(static_cast<float>((std::log(on / off) + shift) / scale));
        }
      }
      parameters_.add("q logits", Tensor<float>::from(logits, shape, stream_));
      return [this](Tape& tape) { return std::make_unique<BernoulliVector>(tape.watch(parameters_["q logits"])); };
    }
    double total = noise;
    for (const float weight : w) total += double{weight} * weight;
    std::vector<float> means, log_scales;
    for (std::size_t b = 0; b < rows; ++b) {
      for (std::size_t d = 0; d < dims; ++d) {
        const double deviation = std::sqrt(1 - double{w[d]} * w[d] / total);
        means.push_back(static_cast<float>(w[d] * (x[b] - c) / total + shift * deviation));
        log_scales.push_back(static_cast<float>(std::log(scale * deviation)));
      }
    }
    parameters_.add("q mean", Tensor<float>::from(means, shape, stream_));
    parameters_.add("q log_scale", Tensor<float>::from(log_scales, shape, stream_));
    return [this](Tape& tape) {
      return std::make_unique<DiagonalGaussian>(tape.watch(parameters_["q mean"]),
                                                tape.watch(parameters_["q log_scale"]));
    };
  }

 private:
  static Variable normal_log_density(const Variable& gap, const Variable& log_scale) {
    constexpr float kHalfLogTwoPi = 0.918938533f;
    return square(gap) * exp(log_scale * -2.0f) * -0.5f - log_scale - kHalfLogTwoPi;
  }

  Tensor<float> draw(const Options& options) {
    std::mt19937_64 generator(options.seed);
    std::normal_distribution<double> normal;
    const auto numbers = [&](int64_t count, double scale) {
      std::vector<float> values(static_cast<std::size_t>(count));
      for (float& value : values) value = static_cast<float>(scale * normal(generator));
      return values;
    };
    const std::vector<float> w = numbers(dims_, 1.5);
    parameters_.add("w", Tensor<float>::from(w, {dims_}, stream_));
    parameters_.add("c", Tensor<float>::from({0.3f}, {1}, stream_));
    parameters_.add("log_noise", Tensor<float>::from({-0.2f}, {1}, stream_));
    if (bits_) parameters_.add("prior", Tensor<float>::from(numbers(dims_, 0.5), {dims_}, stream_));
    std::vector<float> x;
    for (int64_t b = 0; b < options.data; ++b) {
      double mean = 0.3;
      for (const float weight : w) mean += weight * (bits_ ? static_cast<double>(generator() & 1) : normal(generator));
      x.push_back(static_cast<float>(mean + std::exp(-0.2) * normal(generator)));
    }
    return Tensor<float>::from(x, {options.data, 1}, stream_);
  }

  Tensor<float> codes() const {
    std::vector<float> all;
    for (int64_t b = 0; b < batch(); ++b) {
      for (int64_t code = 0; code < int64_t{1} << dims_; ++code) {
        for (int64_t d = 0; d < dims_; ++d) all.push_back(static_cast<float>(code >> d & 1));
      }
    }
    return Tensor<float>::from(all, {batch(), int64_t{1} << dims_, dims_}, stream_);
  }

  bool bits_;
  int64_t dims_;
  Stream stream_;
  mutable Parameters parameters_;
  Tensor<float> x_;
};

// The exact gradient of a marginal that is known.
class ClosedForm : public Estimator {
 public:
  explicit ClosedForm(const Model& model) : model_(model) {}
  std::string name() const override { return "exact"; }
  Estimate operator()(Tape& tape, const Draws&) const override {
    const Variable value = model_.log_marginal(tape);
    return {value, value.value()};
  }

 private:
  const Model& model_;
};

// ---- the estimators -----------------------------------------------------------------------------

struct Kind {
  std::string name;
  bool gaussian, bits;  // what it works for
  int64_t fewest;       // draws
};
const std::vector<Kind> kKinds = {
    {"exact", true, true, 1},     {"posterior", false, true, 1}, {"importance", true, true, 1},
    {"rws", true, true, 1},       {"iwae", true, false, 1},      {"dreg", true, false, 1},
    {"elbo", true, false, 1},     {"score", true, true, 1},      {"score-mean", true, true, 1},
    {"score-loo", true, true, 2}, {"vimco", true, true, 2},      {"hmc", true, false, 1},
};
const Kind& kind_of(const std::string& name) {
  return *std::find_if(kKinds.begin(), kKinds.end(), [&](const Kind& kind) { return kind.name == name; });
}

std::unique_ptr<Estimator> make_estimator(const std::string& name, int64_t samples, const Model& model,
                                          const Proposal& q, const FiniteJoint* table) {
  const auto importance = [&](const Proposal& proposal, ImportanceGradient gradient) {
    return std::make_unique<ImportanceSampling>(model, proposal, samples, gradient);
  };
  const auto score = [&](Baseline baseline) {
    return std::make_unique<ScoreFunction>(model, q, ScoreFunctionOptions{.samples = samples, .baseline = baseline});
  };
  if (name == "exact" && table != nullptr) return std::make_unique<Exact>(*table);
  if (name == "exact") return std::make_unique<ClosedForm>(model);
  if (name == "posterior") return std::make_unique<PosteriorSampling>(*table, samples);
  if (name == "importance") return importance({}, ImportanceGradient::posterior_weighted);
  if (name == "rws") return importance(q, ImportanceGradient::posterior_weighted);
  if (name == "iwae") return importance(q, ImportanceGradient::iwae);
  if (name == "dreg") return importance(q, ImportanceGradient::dreg);
  if (name == "elbo") return std::make_unique<ReparameterisedElbo>(model, q, ElboOptions{.samples = samples});
  if (name == "score") return score(Baseline::none);
  if (name == "score-mean") return score(Baseline::running_mean);
  if (name == "score-loo") return score(Baseline::leave_one_out);
  if (name == "vimco") return score(Baseline::vimco);
  return std::make_unique<HamiltonianMonteCarlo>(model, q,
                                                 HamiltonianOptions{.chains = samples, .warm_up = 15, .leaps = 4});
}

// ---- what is found ------------------------------------------------------------------------------

struct Line {
  std::string estimator;
  int64_t samples = 0;
  EstimatorReport report;
  // Of the model's parameters alone.
  double bias = 0, standard_error = 0, variance = 0, signal_to_noise = 0;
  double proposal_signal_to_noise = kNan;
};

Line make_line(const std::string& estimator, int64_t samples, EstimatorReport report) {
  Line line;
  line.estimator = estimator;
  line.samples = samples;
  double bias = 0, gradient = 0, signal = 0, noise = 0;
  for (const ParameterReport& parameter : report.parameters) {
    if (parameter.name.starts_with("q ")) {
      signal += parameter.mean_norm * parameter.mean_norm;
      noise += parameter.variance;
    } else {
      bias += parameter.bias * parameter.bias;
      gradient += parameter.gradient_norm * parameter.gradient_norm;
      line.variance += parameter.variance;
    }
  }
  line.bias = std::sqrt(bias);
  line.standard_error = std::sqrt(line.variance / static_cast<double>(report.repetitions));
  line.signal_to_noise = std::sqrt(gradient / line.variance);
  if (noise > 0) line.proposal_signal_to_noise = std::sqrt(signal / noise);
  line.report = std::move(report);
  return line;
}

std::string table_of(const std::vector<Line>& lines) {
  TextTable table({"estimator", "S", "|bias|", "std.err.", "variance", "signal/noise", "q's signal/noise", "ESS",
                   "k-hat", "accepted", "µs/step"});
  const auto or_dash = [](double value, int digits) { return std::isnan(value) ? "-" : general(value, digits); };
  bool misses = false;
  for (const Line& line : lines) {
    table.row({line.estimator, std::to_string(line.samples), general(line.bias, 3), general(line.standard_error, 3),
               general(line.variance, 4), general(line.signal_to_noise, 4), or_dash(line.proposal_signal_to_noise, 4),
               or_dash(line.report.effective_sample_size, 4), or_dash(line.report.pareto_k, 2),
               or_dash(line.report.acceptance_rate, 3), fixed(line.report.seconds * 1e6, 1)});
    misses = misses || line.report.pareto_k > 0.7;
  }
  return table.str() +
         (misses ? "k-hat above 0.7: the proposal misses the posterior, and the figures of such lines are too good\n"
                 : "");
}

// One curve for all estimators that share it: with equal draws many give the model the same gradient.
struct Curve {
  std::string name;
  std::vector<double> samples, values, errors;
};

std::vector<Curve> curves_of(const std::vector<Line>& lines, const std::vector<std::string>& estimators,
                             double Line::*value) {
  std::vector<Curve> curves;
  for (const std::string& name : estimators) {
    Curve curve = {name, {}, {}, {}};
    for (const Line& line : lines) {
      if (line.estimator != name || !(line.variance > 0) || !std::isfinite(line.*value)) continue;
      curve.samples.push_back(static_cast<double>(line.samples));
      curve.values.push_back(line.*value);
      curve.errors.push_back(line.standard_error);
    }
    if (curve.samples.empty()) continue;
    const auto same = std::find_if(curves.begin(), curves.end(), [&](const Curve& other) {
      if (other.samples != curve.samples) return false;
      for (std::size_t i = 0; i < curve.values.size(); ++i) {
        if (std::abs(other.values[i] - curve.values[i]) > 1e-3 * other.values[i]) return false;
      }
      return true;
    });
    if (same != curves.end()) {
      same->name += ", " + name;
    } else {
      curves.push_back(std::move(curve));
    }
  }
  return curves;
}

void draw_plot(const std::string& path, const std::vector<Line>& lines, const Options& options) {
  Plot plot("grad log p(x), " + options.model + " model");
  plot.columns(1);
  Panel& bias = plot.panel("bias; dashed: what variance alone comes to", "S", "|mean - exact|").log_x().log_y();
  int color = 0;
  for (const Curve& curve : curves_of(lines, options.estimators, &Line::bias)) {
    bias.line(curve.samples, curve.values, curve.name, {.color = color});
    bias.line(curve.samples, curve.errors, "", {.color = color++, .dashed = true});
  }
  Panel& variance = plot.panel("variance", "S", "trace of the covariance").log_x().log_y();
  for (const Curve& curve : curves_of(lines, options.estimators, &Line::variance)) {
    variance.line(curve.samples, curve.values, curve.name);
  }
  Panel& signal = plot.panel("gradient of the proposal", "S", "signal to noise").log_x().log_y();
  for (const Curve& curve : curves_of(lines, options.estimators, &Line::proposal_signal_to_noise)) {
    signal.line(curve.samples, curve.values, curve.name);
  }
  plot.panel_size(900, 360).save(path);
}

nlohmann::json to_json(const Line& line) {
  nlohmann::json json = {{"estimator", line.estimator},
                         {"samples", line.samples},
                         {"repetitions", line.report.repetitions},
                         {"bias", line.bias},
                         {"standard_error", line.standard_error},
                         {"variance", line.variance},
                         {"signal_to_noise", line.signal_to_noise},
                         {"proposal_signal_to_noise", line.proposal_signal_to_noise},
                         {"effective_sample_size", line.report.effective_sample_size},
                         {"pareto_k", line.report.pareto_k},
                         {"acceptance_rate", line.report.acceptance_rate},
                         {"seconds", line.report.seconds}};
  for (const ParameterReport& parameter : line.report.parameters) {
    json["parameters"][parameter.name] = {{"gradient_norm", parameter.gradient_norm},
                                          {"bias", parameter.bias},
                                          {"standard_error", parameter.bias_standard_error},
                                          {"variance", parameter.variance},
                                          {"signal_to_noise", parameter.signal_to_noise}};
  }
  return json;
}

void work(Options options) {
  samples::check_outputs({options.json});
  samples::check_picture(options.plot);
  const bool bits = options.model == "bits";
  if (bits && options.latent > 12) throw ArgumentError("--latent: at most 12 bits are summed over");
  if (options.estimators.empty()) {
    for (const Kind& kind : kKinds) {
      if (bits ? kind.bits : kind.gaussian) options.estimators.push_back(kind.name);
    }
  }
  for (const std::string& name : options.estimators) {
    if (!(bits ? kind_of(name).bits : kind_of(name).gaussian)) {
      throw ArgumentError("--estimators: " + name + " does not work for --model " + options.model + ", whose z is " +
                          (bits ? "discrete" : "continuous"));
    }
  }
  const Model model(options, Device::parse(options.device));
  const Proposal q = model.make_proposal(options.shift, options.scale);
  std::optional<TabulatedJoint> table;
  if (bits) table.emplace([&](Tape& tape) { return model.table(tape); }, model.batch(), model.stream());
  const auto finite = table ? &*table : nullptr;
  const std::unique_ptr<Estimator> exact = make_estimator("exact", 1, model, q, finite);

  samples::ProgressLine progress;
  std::vector<Line> lines;
  std::vector<EstimatorReport> reports;
  const Draws draws = Draws(options.seed, model.stream()).at(1);
  for (const std::string& name : options.estimators) {
    for (const int64_t samples : options.samples) {
      if (samples < kind_of(name).fewest) continue;
      progress.show(name + ", S = " + std::to_string(samples));
      const auto estimator = make_estimator(name, samples, model, q, finite);
      reports.push_back(
          compare({estimator.get()}, *exact, model.parameters(), draws, {.repetitions = options.repetitions}).at(0));
      lines.push_back(make_line(name, name == "exact" ? 0 : samples, reports.back()));
      if (name == "exact") break;  // which draws nothing
    }
  }
  progress.clear();

  std::cout << options.model << " model: " << model.batch() << " data, z of " << options.latent
            << (bits ? " bits" : " numbers") << "; " << options.repetitions << " repetitions; |exact gradient| = "
            << general(lines.empty() ? kNan : lines.front().report.gradient_norm, 4) << "\n"
            << table_of(lines);
  if (options.parameters) std::cout << "\n" << parameter_table(reports);
  if (!options.plot.empty()) draw_plot(options.plot, lines, options);
  if (!options.json.empty()) {
    nlohmann::json json = {{"model", options.model}, {"device", model.stream().device().name()}};
    for (const Line& line : lines) json["lines"].push_back(to_json(line));
    write_file(options.json, json.dump(2) + "\n");
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  std::vector<std::string> names;
  std::string list;
  for (const Kind& kind : kKinds) {
    names.push_back(kind.name);
    list += (list.empty() ? "" : ", ") + kind.name;
  }
  CLI::App app("Compares estimators of the gradient of a log marginal with the exact one.", "compare_estimators");
  app.add_option("--model", options.model, "gaussian or bits: what z is")
      ->check(CLI::IsMember({"gaussian", "bits"}))
      ->capture_default_str();
  app.add_option("--estimators", options.estimators, "Of " + list + " (default: all that work for the model)")
      ->delimiter(',')
      ->check(CLI::IsMember(names));
  app.add_option("--samples", options.samples, "Draws of each datum, S (hmc: chains)")
      ->delimiter(',')
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--repetitions", options.repetitions, "Estimates of each")
      ->check(CLI::Range(2, 100'000'000))
      ->capture_default_str();
  app.add_option("--data", options.data, "Number of data, drawn from the model")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--latent", options.latent, "Coordinates of z")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_option("--shift", options.shift, "Of the proposal from the posterior, in standard deviations")
      ->check(CLI::Range(-100.0, 100.0))
      ->capture_default_str();
  app.add_option("--scale", options.scale, "Of the proposal, in the posterior's")
      ->check(CLI::Range(1e-3, 1e3))
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of parameters, data and draws")->capture_default_str();
  app.add_option("--device", options.device, "cpu, cuda:N or auto")->capture_default_str();
  app.add_flag("--parameters", options.parameters, "A line for each parameter too");
  app.add_option("--plot", options.plot, "Bias and variance against S, as .png or .svg");
  app.add_option("--json", options.json, "The table, as JSON");
  return samples::run(app, argc, argv, [&] { work(options); });
}
