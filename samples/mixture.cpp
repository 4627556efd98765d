// SPDX-License-Identifier: Apache-2.0
// Clusters and densities from a table of numbers: a mixture of Gaussians,
//
//   p(x) = sum_k pi_k N(x; mean_k, Sigma_k),
//
// fitted by expectation-maximisation or by stochastic gradient ascent on the same exact marginal.
//
//   mixture --data penguins_bill.csv --components 3 --plot clusters.png
#include <dgm/data/array.hpp>
#include <dgm/data/file.hpp>
#include <dgm/data/plot.hpp>
#include <dgm/data/table.hpp>
#include <dgm/data/text_table.hpp>
#include <dgm/models/fit_mixture.hpp>
#include <dgm/models/standardised_mixture.hpp>

#include "samples/support/command.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <optional>
#include <span>
#include <type_traits>

namespace {

using namespace dgm;

struct Options {
  std::string data;
  std::vector<std::string> columns;
  int64_t components = 3;
  std::string covariance = "full";
  std::string method = "em";
  int restarts = 10;
  uint64_t seed = 1;
  std::string device = "auto";
  int threads = 0;
  std::string save;
  std::string load;
  std::string assignments;
  std::string plot;
  std::string score;
  std::string scores;
  std::string json;
};

// ---- fitting ------------------------------------------------------------------------------------

struct Training {
  std::vector<double> history;   // total log-likelihood as the best run went, in the data's units
  std::vector<double> restarts;  // the same, at the end of each run
  bool converged = false;
};

// The columns are standardised first; the variance floor of 1e-6 is then a millionth of a column's variance.
StandardisedMixture fit(const Options& options, const Table& table, const Stream& stream, Training* training) {
  Standardisation standardisation = Standardisation::of(table);
  const auto rows = static_cast<int64_t>(table.rows);
  const auto x = Tensor<float>::from(standardisation.apply(table), {rows, static_cast<int64_t>(table.cols)}, stream);
  const Covariance covariance = options.covariance == "full" ? Covariance::full : Covariance::diagonal;

  // log p(x) = log p(standardised x) - log volume, for each row.
  const double shift = standardisation.log_volume() * static_cast<double>(rows);

  samples::ProgressLine progress;
  const auto report = [&](int restart, int iteration, double log_likelihood) {
    progress.show("run " + std::to_string(restart + 1) + "/" + std::to_string(options.restarts) + ", iteration " +
                  std::to_string(iteration) + ": log-likelihood " + fixed(log_likelihood - shift, 3));
  };
  MixtureFit result = options.method == "em"
                          ? fit_mixture_em(x, options.components, covariance,
                                           {.restarts = options.restarts, .seed = options.seed, .progress = report})
                          : fit_mixture_sgd(x, options.components, covariance,
                                            {.restarts = options.restarts, .seed = options.seed, .progress = report});
  progress.clear();
  for (double& value : result.history) value -= shift;
  for (double& value : result.restarts) value -= shift;
  *training = {std::move(result.history), std::move(result.restarts), result.converged};
  return {std::move(result.model), std::move(standardisation), table.names};
}

// ---- what is told -------------------------------------------------------------------------------

struct Report {
  double log_likelihood = 0;
  double aic = 0;
  double bic = 0;
  std::vector<int64_t> sizes;  // rows assigned to each component
};

Report describe(const StandardisedMixture& model, const Table& table, const std::vector<int32_t>& assigned) {
  Report report;
  for (const double value : model.log_prob(table)) report.log_likelihood += value;
  report.aic = model.mixture.aic(report.log_likelihood);
  report.bic = model.mixture.bic(report.log_likelihood, static_cast<int64_t>(table.rows));
  report.sizes.resize(static_cast<std::size_t>(model.mixture.components()));
  for (const int32_t k : assigned) {
    if (k >= 0) ++report.sizes[static_cast<std::size_t>(k)];
  }
  return report;
}

std::string column_name(const StandardisedMixture& model, std::size_t d) {
  return model.columns.empty() ? "column " + std::to_string(d + 1) : model.columns[d];
}

void print(const StandardisedMixture& model, const Table& table, const Report& report,
           const std::optional<Training>& training, const Options& options) {
  const auto components = static_cast<std::size_t>(model.mixture.components());
  const auto dims = static_cast<std::size_t>(model.mixture.dims());
  constexpr std::size_t kMostColumns = 6;
  std::vector<std::string> header = {"component", "weight", "rows"};
  for (std::size_t d = 0; d < std::min(dims, kMostColumns); ++d) header.push_back(column_name(model, d));
  if (dims > kMostColumns) header.push_back("...");
  TextTable components_table(header);
  const std::vector<double> weights = model.weights();
  const std::vector<double> means = model.means();
  const std::vector<double> covariances = model.covariances();
  for (std::size_t k = 0; k < components; ++k) {
    std::vector<std::string> cells = {std::to_string(k), fixed(weights[k], 4),
                                      grouped(static_cast<long long>(report.sizes[k]))};
    for (std::size_t d = 0; d < std::min(dims, kMostColumns); ++d) {
      const double deviation = std::sqrt(covariances[(k * dims + d) * dims + d]);
      cells.push_back(general(means[k * dims + d], 5) + " ± " + general(deviation, 3));
    }
    if (dims > kMostColumns) cells.push_back("");
    components_table.row(cells);
  }
  std::cout << table.rows << " rows of " << dims << " columns, " << components << " components, "
            << (model.mixture.covariance() == Covariance::full ? "full" : "diagonal") << " covariance, on "
            << model.mixture.stream().device().name() << "\n\n"
            << components_table.str() << "\nlog-likelihood  " << fixed(report.log_likelihood, 3) << "  ("
            << fixed(report.log_likelihood / static_cast<double>(table.rows), 4) << " a row)\n"
            << "BIC             " << fixed(report.bic, 2)
            << "   (-2 log L + p log N, p = " << model.mixture.degrees_of_freedom() << "; lower is better)\n"
            << "AIC             " << fixed(report.aic, 2) << "\n";
  if (!training) return;
  const auto best = std::max_element(training->restarts.begin(), training->restarts.end());
  const auto reached = std::count_if(training->restarts.begin(), training->restarts.end(),
                                     [&](double value) { return value > *best - 0.01; });
  std::cout << "runs            " << training->restarts.size() << ", of which " << reached
            << " within 0.01 of the best; the best "
            << (training->converged ? "converged" : "had not converged when it was stopped") << "\n"
            << "variance floor  1e-6 of each column's variance, "
            << (options.method == "em" ? "added to every component's\n" : "below which no component's goes\n");
}

nlohmann::json to_json(const StandardisedMixture& model, const Table& table, const Report& report,
                       const std::optional<Training>& training) {
  nlohmann::json json = {{"rows", table.rows},
                         {"dims", model.mixture.dims()},
                         {"components", model.mixture.components()},
                         {"covariance", model.mixture.covariance() == Covariance::full ? "full" : "diag"},
                         {"device", model.mixture.stream().device().name()},
                         {"columns", model.columns},
                         {"log_likelihood", report.log_likelihood},
                         {"log_likelihood_per_row", report.log_likelihood / static_cast<double>(table.rows)},
                         {"degrees_of_freedom", model.mixture.degrees_of_freedom()},
                         {"bic", report.bic},
                         {"aic", report.aic},
                         {"weights", model.weights()},
                         {"means", model.means()},
                         {"covariances", model.covariances()},
                         {"assigned_rows", report.sizes}};
  if (training) {
    json["converged"] = training->converged;
    json["restarts"] = training->restarts;
    json["history"] = training->history;
  }
  return json;
}

// Points by component in the two columns of largest spread between the components, and the way there.
void plot(const std::string& path, const StandardisedMixture& model, const Table& table,
          const std::vector<int32_t>& assigned, const std::optional<Training>& training) {
  const auto components = static_cast<std::size_t>(model.mixture.components());
  const auto dims = static_cast<std::size_t>(model.mixture.dims());
  const std::vector<double> weights = model.weights();
  const std::vector<double> standard_means = model.mixture.means();
  std::vector<double> between(dims);
  for (std::size_t d = 0; d < dims; ++d) {
    for (std::size_t k = 0; k < components; ++k) {
      between[d] += weights[k] * standard_means[k * dims + d] * standard_means[k * dims + d];
    }
  }
  std::vector<std::size_t> order(dims);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return between[a] > between[b]; });
  std::size_t first = order[0];
  std::size_t second = dims > 1 ? order[1] : 0;
  if (first > second) std::swap(first, second);

  std::vector<std::string> names;
  for (std::size_t k = 0; k < components; ++k) names.push_back("component " + std::to_string(k));
  Plot picture;
  const std::vector<double> means = model.means();
  const std::vector<double> covariances = model.covariances();
  const auto entry = [&](std::size_t k, std::size_t a, std::size_t b) {
    return covariances[(k * dims + a) * dims + b];
  };
  if (dims >= 2) {
    Panel& panel = picture.panel("clusters, with 1 and 2 standard deviations", column_name(model, first),
                                 column_name(model, second));
    panel.points_by_class(table.column(first), table.column(second), assigned, names);
    for (std::size_t k = 0; k < components; ++k) {
      panel.ellipse(
          {means[k * dims + first], means[k * dims + second]},
          {entry(k, first, first), entry(k, first, second), entry(k, second, first), entry(k, second, second)},
          {.color = static_cast<int>(k)});
    }
  } else {
    // One column: the density, over a histogram's worth of room on either side.
    const std::vector<double> x = table.column(0);
    const auto [low, high] = std::minmax_element(x.begin(), x.end());
    const double margin = 0.1 * std::max(*high - *low, 1e-9);
    constexpr std::size_t kPoints = 400;
    Table grid = {kPoints, 1, {}, {}};
    for (std::size_t i = 0; i < kPoints; ++i) {
      grid.values.push_back(*low - margin + (*high - *low + 2 * margin) * static_cast<double>(i) / (kPoints - 1));
    }
    std::vector<double> density = model.log_prob(grid);
    for (double& value : density) value = std::exp(value);
    Panel& panel = picture.panel("density", column_name(model, 0), "p(x)");
    panel.line(grid.values, density, "mixture").points_by_class(x, std::vector<double>(x.size()), assigned, names);
  }
  if (training) {
    picture
        .panel("training, best of " + std::to_string(training->restarts.size()) + " runs", "iteration",
               "log-likelihood")
        .curve(training->history);
  }
  picture.save(path);
}

// One value a row, exactly: .npy for NumPy, else text with a line each.
template <class T>
void write_rows(const std::string& path, const std::vector<T>& values) {
  if (path.ends_with(".npy")) {
    write_npy(path, std::span<const T>(values), {static_cast<int64_t>(values.size())});
  } else if constexpr (std::is_same_v<T, double>) {
    write_csv(path, {values.size(), 1, values, {}});
  } else {
    std::string lines;
    for (const T value : values) lines += std::to_string(value) + "\n";
    write_file(path, lines);
  }
}

void check_columns(const std::string& path, const Table& table, std::size_t wanted, const std::string& by) {
  if (table.cols == wanted) return;
  throw ShapeError(path + ": has " + std::to_string(table.cols) + " columns; " + std::to_string(wanted) +
                   " are needed for " + by);
}

void work(const Options& options) {
  samples::check_outputs({options.save, options.assignments, options.scores, options.json});
  samples::check_picture(options.plot);
  if (options.threads > 0) set_cpu_threads(options.threads);
  const Stream stream = Device::parse(options.device);

  // All files are read first: one that is wrong must not show after the fit.
  std::optional<StandardisedMixture> model;
  std::optional<Table> data;
  std::optional<Table> held_out;
  if (!options.load.empty()) model.emplace(StandardisedMixture::load(options.load, stream));
  if (!options.data.empty()) data = read_table(options.data, {.columns = options.columns});
  if (!options.score.empty()) held_out = read_table(options.score, {.columns = options.columns});
  const std::size_t dims = model ? static_cast<std::size_t>(model->mixture.dims()) : data->cols;
  const std::string& by = model ? options.load : options.data;
  if (data) check_columns(options.data, *data, dims, by);
  if (held_out) check_columns(options.score, *held_out, dims, by);

  std::optional<Training> training;
  if (!model) {
    if (data->rows < static_cast<std::size_t>(options.components)) {
      throw ArgumentError(options.data + ": has " + std::to_string(data->rows) + " rows for " +
                          std::to_string(options.components) + " components; at least as many rows are needed");
    }
    training.emplace();
    model.emplace(fit(options, *data, stream, &*training));
  }
  if (!options.save.empty()) model->save(options.save);

  nlohmann::json json = nlohmann::json::object();
  std::vector<int32_t> assigned;
  if (data) {
    assigned = model->mixture.assignments(model->standardised(*data));
    const Report report = describe(*model, *data, assigned);
    print(*model, *data, report, training, options);
    json = to_json(*model, *data, report, training);
    if (!options.plot.empty()) plot(options.plot, *model, *data, assigned, training);
  } else if (held_out) {
    assigned = model->mixture.assignments(model->standardised(*held_out));
  }
  if (held_out) {
    const std::vector<double> scores = model->log_prob(*held_out);
    const double total = std::accumulate(scores.begin(), scores.end(), 0.0);
    const double per_row = total / static_cast<double>(scores.size());
    std::cout << "\nheld out        " << scores.size() << " rows of " << options.score << ": log-likelihood "
              << fixed(total, 3) << "  (" << fixed(per_row, 4) << " a row)\n";
    json["held_out"] = {{"rows", scores.size()}, {"log_likelihood", total}, {"log_likelihood_per_row", per_row}};
    if (!options.scores.empty()) write_rows(options.scores, scores);
  }
  if (!options.assignments.empty()) write_rows(options.assignments, assigned);
  if (!options.json.empty()) write_file(options.json, json.dump(2) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Fits a mixture of Gaussians to a table of numbers, and clusters or scores with it.", "mixture");
  auto* const data = app.add_option("--data", options.data,
                                    "Table to fit (or, with --load, to assign): CSV, text or .npy, gzip or not");
  app.add_option("--columns", options.columns, "Columns to use, by name or number from 1 (default: all)")
      ->delimiter(',');
  app.add_option("-k,--components", options.components, "Number of components")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--covariance", options.covariance, "diag or full")
      ->check(CLI::IsMember({"diag", "full"}))
      ->capture_default_str();
  app.add_option("--method", options.method, "em, or sgd: Adam on minibatches of the exact marginal")
      ->check(CLI::IsMember({"em", "sgd"}))
      ->capture_default_str();
  app.add_option("--restarts", options.restarts, "Runs from different k-means++ centres; the best is kept")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  samples::add_compute_options(app, options);
  app.add_option("--save", options.save, "Write the model here (.safetensors)");
  auto* const load = app.add_option("--load", options.load, "Use this model instead of fitting one");
  auto* const assignments =
      app.add_option("--assignments", options.assignments,
                     "Write the most probable component of each row of --data here (of --score where there is no "
                     "--data): a line a row, or .npy");
  app.add_option("--plot", options.plot, "Draw clusters and training curve here (.png or .svg)")->needs(data);
  auto* const score = app.add_option("--score", options.score, "Print the log-likelihood of this held-out table");
  app.add_option("--scores", options.scores,
                 "Write the log-likelihood of each row of --score here: a line a row, or .npy")
      ->needs(score);
  auto* const json = app.add_option("--json", options.json, "Write the report here as JSON");
  app.callback([&] {
    if (data->empty() && load->empty()) throw CLI::RequiredError("--data or --load");
    for (const auto* const option : {assignments, json}) {
      if (!option->empty() && data->empty() && score->empty()) {
        throw CLI::RequiredError(option->get_name() + " needs --data or --score, which");
      }
    }
  });
  return samples::run(app, argc, argv, [&] { work(options); });
}
