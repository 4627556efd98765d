// SPDX-License-Identifier: Apache-2.0
#include <dgm/data/text_table.hpp>
#include <dgm/inference/compare.hpp>

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
  double total_variance() const {
    double sum = 0;
    for (std::size_t i = 0; i < mean_.size(); ++i) sum += variance(i);
    return sum;
  }

 private:
  int64_t count_ = 0;
  std::vector<double> mean_;
  std::vector<double> squares_;
};

std::vector<float> gradient_of(const Estimator& estimator, const FiniteJoint& joint, Parameters& parameters,
                               const Draws& draws) {
  parameters.zero_grad();
  Tape tape;
  tape.backward(estimator(tape, joint, draws).objective);
  return parameters.flat_grad().to_host();
}

Moments moments_of(const Estimator& estimator, const FiniteJoint& joint, Parameters& parameters, Draws draws,
                   int64_t repetitions, std::vector<double>* seconds) {
  Moments moments(static_cast<std::size_t>(parameters.flat_grad().size()));
  for (int64_t r = 0; r < repetitions; ++r) {
    draws.set_step(r);
    const auto start = std::chrono::steady_clock::now();
    moments.add(gradient_of(estimator, joint, parameters, draws));
    if (seconds != nullptr) {
      seconds->push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
  }
  return moments;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

}  // namespace

std::vector<EstimatorReport> compare(const std::vector<const Estimator*>& estimators, const FiniteJoint& joint,
                                     Parameters& parameters, Draws draws, const CompareOptions& options) {
  check<ArgumentError>(!estimators.empty(), "compare: estimators is empty; at least 1 is needed");
  check<ArgumentError>(options.repetitions >= 2, "compare: repetitions is ", options.repetitions,
                       "; at least 2 are needed");
  check<ArgumentError>(!parameters.empty(), "compare: parameters is empty; at least 1 is needed");

  const std::vector<float> exact = gradient_of(Exact(), joint, parameters, draws);
  double norm = 0;
  for (const float g : exact) norm += double{g} * g;
  norm = std::sqrt(norm);
  // Its own site, so that no estimator is compared with its own draws.
  constexpr int kReferenceSite = 65533;
  const double single_draw_variance =
      moments_of(PosteriorSampling(1), joint, parameters, draws.at(kReferenceSite), options.repetitions, nullptr)
          .total_variance();

  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  std::vector<EstimatorReport> reports;
  for (const Estimator* const estimator : estimators) {
    std::vector<double> seconds;
    const Moments moments = moments_of(*estimator, joint, parameters, draws, options.repetitions, &seconds);
    EstimatorReport report;
    report.name = estimator->name();
    report.repetitions = options.repetitions;
    report.gradient_norm = norm;
    report.variance = moments.total_variance();
    report.bias_standard_error = std::sqrt(report.variance / static_cast<double>(options.repetitions));
    double squares = 0;
    for (std::size_t i = 0; i < exact.size(); ++i) {
      const double gap = moments.mean(i) - exact[i];
      squares += gap * gap;
      const double error = std::sqrt(moments.variance(i) / static_cast<double>(options.repetitions));
      if (error > 0) report.largest_z_score = std::max(report.largest_z_score, std::abs(gap) / error);
    }
    report.bias = std::sqrt(squares);
    report.signal_to_noise = report.variance > 0 ? norm / std::sqrt(report.variance) : kInfinity;
    report.effective_sample_size = report.variance > 0 ? single_draw_variance / report.variance : kInfinity;
    report.seconds = median(std::move(seconds));
    reports.push_back(std::move(report));
  }
  parameters.zero_grad();
  draws.set_step(0);
  return reports;
}

std::string comparison_table(const std::vector<EstimatorReport>& reports) {
  TextTable table({"estimator", "|bias|", "std.err.", "max z", "variance", "signal/noise", "ESS", "µs/step"});
  for (const EstimatorReport& report : reports) {
    table.row({report.name, general(report.bias, 3), general(report.bias_standard_error, 3),
               fixed(report.largest_z_score, 2), general(report.variance, 4), general(report.signal_to_noise, 4),
               general(report.effective_sample_size, 4), fixed(report.seconds * 1e6, 1)});
  }
  return table.str();
}

}  // namespace dgm
