// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/text_table.hpp>
#include <dgm/inference/compare.hpp>
#include <dgm/ops/importance_weights.hpp>

#include "host/core/check.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>

namespace dgm {

namespace {

// Mean and variance of vectors seen one at a time (Welford 1962): no cancellation however many.
class Moments {
 public:
  explicit Moments(std::size_t size) : mean_(size), squares_(size) {}
  void add(const std::vector<float>& value) {
    ++count_;
    for (std::size_t i = 0; i < mean_.size(); ++i) {
      const double gap = value[i] - mean_[i];
      mean_[i] += gap / static_cast<double>(count_);
      squares_[i] += gap * (value[i] - mean_[i]);
    }
  }
  double mean(std::size_t i) const { return mean_[i]; }
  double variance(std::size_t i) const { return squares_[i] / static_cast<double>(count_ - 1); }

 private:
  int64_t count_ = 0;
  std::vector<double> mean_;
  std::vector<double> squares_;
};

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// The estimates of one estimator.
struct Run {
  explicit Run(std::size_t size) : moments(size) {}
  Moments moments;
  std::vector<double> seconds;
  double effective_sample_sizes = 0;  // sum over repetitions and data
  int64_t weighted = 0;               // terms of that sum
  double acceptance_rates = 0;        // sum over repetitions and data
  int64_t chained = 0;                // terms of that sum
  int64_t batch = 0;
  std::vector<std::vector<float>> log_weights;  // of each repetition, (B, S)
};

std::vector<float> gradient_of(const Estimator& estimator, Parameters& parameters, const Draws& draws, Run* run) {
  parameters.zero_grad();
  Tape tape;
  const Estimate estimate = estimator(tape, draws);
  tape.backward(estimate.objective);
  std::vector<float> gradient = parameters.flat_grad().to_host();
  if (run == nullptr) return gradient;
  if (estimate.effective_sample_size) {
    for (const float value : estimate.effective_sample_size->to_host()) {
      run->effective_sample_sizes += value;
      ++run->weighted;
    }
  }
  if (estimate.acceptance_rate) {
    for (const float value : estimate.acceptance_rate->to_host()) {
      run->acceptance_rates += value;
      ++run->chained;
    }
  }
  if (estimate.log_weights) {
    constexpr int64_t kMost = 16384;
    const Shape& shape = estimate.log_weights->shape();
    run->batch = shape[0];
    if (static_cast<int64_t>(run->log_weights.size() + 1) * shape[1] <= kMost) {
      run->log_weights.push_back(estimate.log_weights->to_host());
    }
  }
  return gradient;
}

Run run_estimator(const Estimator& estimator, Parameters& parameters, Draws draws, int64_t repetitions) {
  Run run(static_cast<std::size_t>(parameters.flat_grad().size()));
  for (int64_t r = 0; r < repetitions; ++r) {
    draws.set_step(r);
    const auto start = std::chrono::steady_clock::now();
    const std::vector<float> gradient = gradient_of(estimator, parameters, draws, &run);
    run.seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    run.moments.add(gradient);
  }
  return run;
}

// The largest k-hat of a datum over all repetitions' draws together.
double pareto_k_of(const Run& run) {
  if (run.log_weights.empty() || run.batch == 0) return kNan;
  const auto data = static_cast<std::size_t>(run.batch);
  const std::size_t samples = run.log_weights.front().size() / data;
  std::vector<float> all;
  for (std::size_t b = 0; b < data; ++b) {
    for (const std::vector<float>& some : run.log_weights) {
      const auto row = some.begin() + static_cast<std::ptrdiff_t>(b * samples);
      all.insert(all.end(), row, row + static_cast<std::ptrdiff_t>(samples));
    }
  }
  const auto width = static_cast<int64_t>(all.size() / data);
  double largest = -kInfinity;
  for (const float k : pareto_shape(Tensor<float>::from(all, {run.batch, width}, Device::cpu())).to_host()) {
    if (std::isnan(k)) return kNan;
    largest = std::max(largest, double{k});
  }
  return largest;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// Of the elements begin..end-1 of the gradient.
ParameterReport report_of(const Moments& moments, const std::vector<float>& exact, std::size_t begin, std::size_t end,
                          int64_t repetitions) {
  ParameterReport report;
  double squares = 0;
  double gaps = 0;
  double means = 0;
  for (std::size_t i = begin; i < end; ++i) {
    const double gap = moments.mean(i) - exact[i];
    squares += double{exact[i]} * exact[i];
    gaps += gap * gap;
    means += moments.mean(i) * moments.mean(i);
    report.variance += moments.variance(i);
  }
  report.gradient_norm = std::sqrt(squares);
  report.mean_norm = std::sqrt(means);
  report.bias = std::sqrt(gaps);
  report.bias_standard_error = std::sqrt(report.variance / static_cast<double>(repetitions));
  report.signal_to_noise = report.variance > 0 ? report.gradient_norm / std::sqrt(report.variance) : kInfinity;
  return report;
}

}  // namespace

std::vector<EstimatorReport> compare(const std::vector<const Estimator*>& estimators, const Estimator& exact,
                                     Parameters& parameters, Draws draws, const CompareOptions& options) {
  check<ArgumentError>(!estimators.empty(), "compare: estimators is empty; at least 1 is needed");
  check<ArgumentError>(options.repetitions >= 2, "compare: repetitions is ", options.repetitions,
                       "; at least 2 are needed");
  check<ArgumentError>(!parameters.empty(), "compare: parameters is empty; at least 1 is needed");

  const std::vector<float> gradient = gradient_of(exact, parameters, draws, nullptr);
  const auto whole = [&](const Moments& moments) {
    return report_of(moments, gradient, 0, gradient.size(), options.repetitions);
  };
  double single_draw_variance = kNan;
  if (options.posterior_draw != nullptr) {
    // Its own site, so that no estimator is compared with its own draws.
    constexpr int kReferenceSite = 65533;
    single_draw_variance =
        whole(run_estimator(*options.posterior_draw, parameters, draws.at(kReferenceSite), options.repetitions).moments)
            .variance;
  }

  std::vector<EstimatorReport> reports;
  for (const Estimator* const estimator : estimators) {
    const Run run = run_estimator(*estimator, parameters, draws, options.repetitions);
    const ParameterReport all = whole(run.moments);
    EstimatorReport report;
    report.name = estimator->name();
    report.repetitions = options.repetitions;
    report.gradient_norm = all.gradient_norm;
    report.bias = all.bias;
    report.bias_standard_error = all.bias_standard_error;
    report.variance = all.variance;
    report.signal_to_noise = all.signal_to_noise;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      const double error = std::sqrt(run.moments.variance(i) / static_cast<double>(options.repetitions));
      const double gap = run.moments.mean(i) - gradient[i];
      if (error > 0) report.largest_z_score = std::max(report.largest_z_score, std::abs(gap) / error);
    }
    if (options.posterior_draw != nullptr) {
      report.effective_sample_size = all.variance > 0 ? single_draw_variance / all.variance : kInfinity;
    } else {
      report.effective_sample_size =
          run.weighted > 0 ? run.effective_sample_sizes / static_cast<double>(run.weighted) : kNan;
    }
    report.pareto_k = pareto_k_of(run);
    report.acceptance_rate = run.chained > 0 ? run.acceptance_rates / static_cast<double>(run.chained) : kNan;
    report.seconds = median(run.seconds);
    const Tensor<float> flat = parameters.flat_grad();
    const std::vector<Tensor<float>> parts = parameters.split(flat);
    for (std::size_t i = 0; const Parameter& parameter : parameters) {
      const Tensor<float>& part = parts[i++];
      const auto begin = static_cast<std::size_t>(part.data() - flat.data());
      report.parameters.push_back(
          report_of(run.moments, gradient, begin, begin + static_cast<std::size_t>(part.size()), options.repetitions));
      report.parameters.back().name = parameter.name;
    }
    reports.push_back(std::move(report));
  }
  parameters.zero_grad();
  draws.set_step(0);
  return reports;
}

std::vector<EstimatorReport> compare(const std::vector<const Estimator*>& estimators, const FiniteJoint& joint,
                                     Parameters& parameters, Draws draws, CompareOptions options) {
  const PosteriorSampling single(joint, 1);
  options.posterior_draw = &single;
  return compare(estimators, Exact(joint), parameters, std::move(draws), options);
}

std::string comparison_table(const std::vector<EstimatorReport>& reports) {
  TextTable table(
      {"estimator", "|bias|", "std.err.", "max z", "variance", "signal/noise", "ESS", "k-hat", "accepted", "µs/step"});
  std::string warnings;
  const auto or_dash = [](double value, int digits) { return std::isnan(value) ? "-" : general(value, digits); };
  for (const EstimatorReport& report : reports) {
    table.row({report.name, general(report.bias, 3), general(report.bias_standard_error, 3),
               fixed(report.largest_z_score, 2), general(report.variance, 4), general(report.signal_to_noise, 4),
               or_dash(report.effective_sample_size, 4), or_dash(report.pareto_k, 2),
               or_dash(report.acceptance_rate, 3), fixed(report.seconds * 1e6, 1)});
    if (report.pareto_k > 0.7) {
      warnings += text(report.name, ": k-hat is ", general(report.pareto_k, 2),
                       ", above 0.7: the proposal misses the posterior, and the figures of this line are too good\n");
    }
  }
  return table.str() + warnings;
}

std::string parameter_table(const std::vector<EstimatorReport>& reports) {
  TextTable table({"estimator", "parameter", "|g|", "|bias|", "std.err.", "variance", "signal/noise"});
  for (const EstimatorReport& report : reports) {
    for (const ParameterReport& parameter : report.parameters) {
      table.row({report.name, parameter.name, general(parameter.gradient_norm, 4), general(parameter.bias, 3),
                 general(parameter.bias_standard_error, 3), general(parameter.variance, 4),
                 general(parameter.signal_to_noise, 4)});
    }
  }
  return table.str();
}

}  // namespace dgm
