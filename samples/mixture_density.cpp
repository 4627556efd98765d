// SPDX-License-Identifier: Apache-2.0
// Regression that says how sure it is, and where there are several answers: a mixture density network,
//
//   p(x | y) = sum_k pi_k(y) N(x; mean_k(y), scale_k(y)^2),
//
// whose weights, means and scales a neural network computes from y (Bishop 1994). The sum over the
// component is exact, so the network is trained by minibatch gradient on the likelihood itself.
//
//   mixture_density --data diamonds.csv --target carat --log price --plot density.png
#include <dgm/autodiff/reshape.hpp>
#include <dgm/data/file.hpp>
#include <dgm/data/plot.hpp>
#include <dgm/data/standardisation.hpp>
#include <dgm/data/table.hpp>
#include <dgm/data/text_table.hpp>
#include <dgm/nn/mlp.hpp>
#include <dgm/ops/activations.hpp>
#include <dgm/ops/conditional_mixture.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/train/trainer.hpp>

#include "samples/support/command.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <random>

namespace {

using namespace dgm;

struct Options {
  std::string data;
  std::string target;
  std::vector<std::string> log;
  int64_t components = 5;
  bool compare = false;
  int64_t hidden = 64;
  int64_t epochs = 100;
  int64_t batch = 128;
  int64_t patience = 15;
  double learning_rate = 3e-3;
  uint64_t seed = 1;
  std::string device = "auto";
  int threads = 0;
  std::string checkpoint;
  std::string plot;
  std::string json;
};

// ---- the model ----------------------------------------------------------------------------------

class MixtureDensityNetwork {
 public:
  MixtureDensityNetwork(int64_t inputs, int64_t hidden, int64_t components, uint64_t seed, const Stream& stream)
      : components_(components),
        body_(parameters_, "body", {inputs, hidden, hidden}, stream,
              {.activation = dgm::tanh, .weight_values = Initialiser::glorot_uniform(), .seed = seed}),
        logits_(parameters_, "logits", hidden, components, stream, {.seed = seed}),
        mean_(parameters_, "mean", hidden, components, stream,
              {.bias_values = Initialiser::uniform(1.5f), .seed = seed}),
        log_scale_(parameters_, "log_scale", hidden, components, stream, {.seed = seed}) {}

  struct Mixture {
    Variable logits;     // (N, K)
    Variable mean;       // (N, K, 1)
    Variable log_scale;  // (N, K, 1)
  };
  Mixture operator()(Tape& tape, const Variable& y) const {
    const Variable h = dgm::tanh(body_(tape, y));
    const Shape shape = {y.shape()[0], components_, 1};
    // Scales between exp(-7) and exp(3) of the target's deviation: no component narrows on one point.
    return {logits_(tape, h), reshape(mean_(tape, h), shape), reshape(clamp(log_scale_(tape, h), -7.0f, 3.0f), shape)};
  }
  /// log p(x_n | y_n), (N).
  Variable log_density(Tape& tape, const Variable& x, const Variable& y) const {
    const Mixture mixture = (*this)(tape, y);
    return conditional_mixture_log_marginal(x, mixture.logits, mixture.mean, mixture.log_scale);
  }
  Parameters& parameters() { return parameters_; }
  int64_t components() const { return components_; }

 private:
  int64_t components_;
  Parameters parameters_;
  Mlp body_;
  Linear logits_;
  Linear mean_;
  Linear log_scale_;
};

// ---- data ---------------------------------------------------------------------------------------

struct Part {
  Tensor<float> x;  // (N, 1) targets
  Tensor<float> y;  // (N, D) inputs
  Table table;      // the same in the data's units: inputs, then the target
};

struct Data {
  std::vector<std::string> names;  // of the inputs, then the target
  Standardisation inputs;
  Standardisation target;
  Part train;
  Part validation;
  Part test;
};

Table columns_of(const Table& table, std::size_t begin, std::size_t end) {
  Table part = {table.rows, end - begin, {}, {}};
  for (std::size_t n = 0; n < table.rows; ++n) {
    const auto row = table.row(n).subspan(begin, end - begin);
    part.values.insert(part.values.end(), row.begin(), row.end());
  }
  return part;
}

// The target last, logarithms taken, rows in random order: 80 % to train, 10 % to validate, 10 % to test.
Data load(const Options& options, const Stream& stream) {
  Table table = read_table(options.data);
  const auto column = [&](const std::string& name) {
    const auto found = std::find(table.names.begin(), table.names.end(), name);
    if (found == table.names.end()) throw ArgumentError(options.data + ": has no column \"" + name + "\"");
    return static_cast<std::size_t>(found - table.names.begin());
  };
  if (table.cols < 2) throw ArgumentError(options.data + ": has 1 column; inputs and a target are needed");
  if (table.names.empty()) {
    for (std::size_t d = 0; d < table.cols; ++d) table.names.push_back("column " + std::to_string(d + 1));
  }
  const std::size_t target = options.target.empty() ? table.cols - 1 : column(options.target);
  std::vector<bool> logarithm(table.cols);
  for (const std::string& name : options.log) logarithm[column(name)] = true;
  std::vector<std::size_t> order;
  for (std::size_t d = 0; d < table.cols; ++d) {
    if (d != target) order.push_back(d);
  }
  order.push_back(target);
  std::vector<std::string> names;
  for (const std::size_t d : order) names.push_back((logarithm[d] ? "log " : "") + table.names[d]);

  std::vector<std::size_t> rows(table.rows);
  std::mt19937_64 random(options.seed);
  for (std::size_t n = 0; n < rows.size(); ++n) {
    rows[n] = n;
    std::swap(rows[n], rows[random() % (n + 1)]);
  }
  const std::size_t tenth = table.rows / 10;
  if (tenth == 0) {
    throw ArgumentError(options.data + ": has " + std::to_string(table.rows) + " rows; at least 10 are needed");
  }
  const auto part = [&](std::size_t begin, std::size_t end) {
    Table result = {end - begin, table.cols, {}, names};
    for (std::size_t i = begin; i < end; ++i) {
      for (const std::size_t d : order) {
        const double value = table.at(rows[i], d);
        if (logarithm[d] && !(value > 0)) {
          throw ArgumentError(options.data + ": row " + std::to_string(rows[i] + 1) + ": " + table.names[d] + " is " +
                              general(value) + ", which has no logarithm");
        }
        result.values.push_back(logarithm[d] ? std::log(value) : value);
      }
    }
    return result;
  };
  const Table train = part(2 * tenth, table.rows);
  const std::size_t inputs = table.cols - 1;
  const Standardisation y = Standardisation::of(columns_of(train, 0, inputs));
  const Standardisation x = Standardisation::of(columns_of(train, inputs, table.cols));
  const auto tensors = [&](const Table& content) {
    const auto count = static_cast<int64_t>(content.rows);
    const auto width = static_cast<int64_t>(inputs);
    return Part{Tensor<float>::from(x.apply(columns_of(content, inputs, content.cols)), {count, 1}, stream),
                Tensor<float>::from(y.apply(columns_of(content, 0, inputs)), {count, width}, stream), content};
  };
  return {names, y, x, tensors(train), tensors(part(0, tenth)), tensors(part(tenth, 2 * tenth))};
}

// ---- training and what comes of it --------------------------------------------------------------

// Mean log density of a part, in nats a row, for densities in the data's units.
double mean_log_density(const MixtureDensityNetwork& network, const Part& part, const Data& data) {
  Tape tape;
  return mean(network.log_density(tape, part.x, part.y)).value().item() - data.target.log_volume();
}

History train(MixtureDensityNetwork& network, const Data& data, const Options& options, const std::string& checkpoint) {
  const int64_t rows = data.train.x.shape()[0];
  const int64_t batch = std::min(options.batch, rows);
  const int64_t steps_per_epoch = (rows + batch - 1) / batch;
  Optimiser optimiser =
      adam(network.parameters(),
           {.rate = Schedule::cosine(options.learning_rate, options.epochs * steps_per_epoch), .clip_norm = 5});
  Trainer trainer(optimiser, rows,
                  {.epochs = options.epochs,
                   .batch = batch,
                   .seed = options.seed,
                   .report_every = steps_per_epoch,
                   .validate_every = steps_per_epoch,
                   .validation_goal = Goal::maximise,
                   .patience = options.patience,
                   .checkpoint = checkpoint,
                   .checkpoint_every = 10 * steps_per_epoch});
  return trainer.train(
      [&](Tape& tape, const Minibatch& minibatch) {
        const Variable log_density = network.log_density(tape, gather_rows(data.train.x, minibatch.indices),
                                                         gather_rows(data.train.y, minibatch.indices));
        return mean(log_density) * -1.0f;
      },
      [&] { return mean_log_density(network, data.validation, data); });
}

// p(x | y) as shades where there is one input, with the points of the test part; and the training curve.
void plot(const std::string& path, const MixtureDensityNetwork& network, const Data& data, const History& history) {
  Plot picture;
  const Table& test = data.test.table;
  if (data.inputs.shift.size() == 1) {
    constexpr std::size_t kCells = 120;
    const std::vector<double> y = test.column(0);
    const std::vector<double> x = test.column(1);
    const auto [y_low, y_high] = std::minmax_element(y.begin(), y.end());
    const auto [x_low, x_high] = std::minmax_element(x.begin(), x.end());
    const auto cell = [](double low, double high, std::size_t i) {
      return low + (high - low) * (static_cast<double>(i) + 0.5) / kCells;
    };
    Table inputs = {kCells * kCells, 1, {}, {}};
    Table targets = inputs;
    for (std::size_t r = 0; r < kCells; ++r) {
      for (std::size_t c = 0; c < kCells; ++c) {
        inputs.values.push_back(cell(*y_low, *y_high, c));
        targets.values.push_back(cell(*x_low, *x_high, r));
      }
    }
    const auto count = static_cast<int64_t>(inputs.rows);
    const Stream& stream = data.test.x.stream();
    Tape tape;
    const auto values = network
                            .log_density(tape, Tensor<float>::from(data.target.apply(targets), {count, 1}, stream),
                                         Tensor<float>::from(data.inputs.apply(inputs), {count, 1}, stream))
                            .value()
                            .to_host();
    // Square roots: the narrow modes would leave everything else white.
    std::vector<double> shades;
    for (const float value : values) shades.push_back(std::exp(0.5 * value));
    picture.panel("p(x | y), shade by its square root, and the test rows", data.names[0], data.names[1])
        .density(shades, kCells, kCells, {*y_low, *y_high}, {*x_low, *x_high})
        .points(y, x);
  }
  std::vector<double> steps;
  std::vector<double> training;
  for (const History::Point& point : history.training) {
    steps.push_back(static_cast<double>(point.step));
    training.push_back(-point.loss - data.target.log_volume());
  }
  std::vector<double> validation_steps;
  std::vector<double> validation;
  for (const History::Validation& point : history.validation) {
    validation_steps.push_back(static_cast<double>(point.step));
    validation.push_back(point.value);
  }
  picture.panel("training", "step", "log-likelihood a row")
      .line(steps, training, "train")
      .line(validation_steps, validation, "validation");
  picture.save(path);
}

void work(const Options& options) {
  samples::check_outputs({options.checkpoint, options.json});
  samples::check_picture(options.plot);
  if (options.threads > 0) set_cpu_threads(options.threads);
  const Stream stream = Device::parse(options.device);
  const Data data = load(options, stream);
  std::cout << data.train.table.rows << " rows to train, " << data.validation.table.rows << " to validate, "
            << data.test.table.rows << " to test; p(" << data.names.back() << " | ";
  for (std::size_t d = 0; d + 1 < data.names.size(); ++d) std::cout << (d > 0 ? ", " : "") << data.names[d];
  std::cout << ") on " << stream.device().name() << "\n\n";

  TextTable table({"components", "parameters", "epochs", "train", "validation", "test"});
  nlohmann::json json = nlohmann::json::array();
  std::vector<int64_t> sizes = {options.components};
  if (options.compare && options.components != 1) sizes.insert(sizes.begin(), 1);
  for (const int64_t components : sizes) {
    const auto inputs = static_cast<int64_t>(data.inputs.shift.size());
    MixtureDensityNetwork network(inputs, options.hidden, components, options.seed, stream);
    const bool last = components == options.components;
    const History history = train(network, data, options, last ? options.checkpoint : "");
    const double scores[] = {mean_log_density(network, data.train, data),
                             mean_log_density(network, data.validation, data),
                             mean_log_density(network, data.test, data)};
    const int64_t batch = std::min<int64_t>(options.batch, data.train.x.shape()[0]);
    const int64_t steps_per_epoch = (data.train.x.shape()[0] + batch - 1) / batch;
    table.row({std::to_string(components), grouped(network.parameters().count()),
               std::to_string(history.steps / steps_per_epoch), fixed(scores[0], 4), fixed(scores[1], 4),
               fixed(scores[2], 4)});
    json.push_back({{"components", components},
                    {"parameters", network.parameters().count()},
                    {"steps", history.steps},
                    {"train", scores[0]},
                    {"validation", scores[1]},
                    {"test", scores[2]}});
    if (last && !options.plot.empty()) plot(options.plot, network, data, history);
  }
  std::cout << "log-likelihood in nats a row, of " << data.names.back() << " in its own units; higher is better\n\n"
            << table.str();
  if (!options.json.empty()) write_file(options.json, json.dump(2) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a mixture density network: the distribution of one column given the others.", "mixture_density");
  app.add_option("--data", options.data, "Table: CSV, text or .npy, gzip or not")->required();
  app.add_option("--target", options.target, "Column to predict, by name (default: the last)");
  app.add_option("--log", options.log, "Columns to take the logarithm of")->delimiter(',');
  app.add_option("-k,--components", options.components, "Components of the mixture")
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  app.add_flag("--compare", options.compare, "Train a single Gaussian, too, and print both");
  app.add_option("--hidden", options.hidden, "Units of each of the two hidden layers")
      ->check(CLI::Range(1, 100000))
      ->capture_default_str();
  app.add_option("--epochs", options.epochs, "Passes through the data at most")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "Rows a step")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--patience", options.patience, "Stop after so many epochs without a better validation; 0: never")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--learning-rate", options.learning_rate, "Adam's, falling along a cosine")
      ->check(CLI::Range(1e-8, 1.0))
      ->capture_default_str();
  samples::add_compute_options(app, options);
  app.add_option("--checkpoint", options.checkpoint, "Keep the training here, and go on from it if it is there");
  app.add_option("--plot", options.plot, "Draw density and training curve here (.png or .svg)");
  app.add_option("--json", options.json, "Write the scores here as JSON");
  return samples::run(app, argc, argv, [&] { work(options); });
}
