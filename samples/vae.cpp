// SPDX-License-Identifier: Apache-2.0
// Images from a few numbers: a continuous latent vector z, from which a network computes every pixel,
//
//   p(x) = ∫ N(z; 0, I) prod_d Bernoulli(x_d; sigmoid(f_d(z))) dz,
//
// or with Categorical(level of x_d; softmax(f_d(z))) for pixels of several grey levels (--pixels categorical).
// The integral has no closed form: the model is trained on an estimate of its gradient (--estimator), with a second
// network for the proposal q(z | x), and judged by importance sampling.
//
//   vae --latent 2 --generate generated.png --latent-plot latent.png
#include <dgm/autodiff/reshape.hpp>
#include <dgm/data/file.hpp>
#include <dgm/data/image.hpp>
#include <dgm/data/plot.hpp>
#include <dgm/data/table.hpp>
#include <dgm/data/text_table.hpp>
#include <dgm/inference/elbo.hpp>
#include <dgm/inference/hamiltonian.hpp>
#include <dgm/inference/importance.hpp>
#include <dgm/inference/wake_sleep.hpp>
#include <dgm/models/variational_autoencoder.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/ops/vector_sample.hpp>
#include <dgm/train/trainer.hpp>

#include "samples/support/command.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>

namespace {

using namespace dgm;

struct Options {
  std::string data = DGM_DIGITS;
  std::string valid;
  std::string labels;
  std::string estimator = "elbo";
  int64_t samples = 0;
  int64_t latent = 50;
  std::vector<int64_t> hidden = {200, 200};
  int64_t epochs = 100;
  int64_t batch = 100;
  double rate = 1e-3;
  std::string pixels = "binary";
  int64_t levels = 0;
  std::string binarise;
  double free_bits = 0;
  int64_t kl_warmup = 0;
  int64_t patience = 0;
  int64_t evaluate = 1000;
  int64_t width = 0;
  uint64_t seed = 1;
  std::string device = "auto";
  int threads = 0;
  std::string save;
  std::string load;
  std::string checkpoint;
  std::string generate;
  std::string reconstruct;
  std::string latent_plot;
  std::string json;
};

// Sites of the draws.
constexpr int kPixelSite = 1;
constexpr int kStaticSite = 2;  // and 3, of the held-out images
constexpr int kGenerateSite = 4;

// ---- data ---------------------------------------------------------------------------------------

struct Images {
  Tensor<float> grey;                 // (N, D) in [0, 1]
  std::optional<Tensor<float>> odds;  // of the grey levels as probabilities: what dynamic pixels are drawn from
  int64_t count() const { return grey.shape()[0]; }
};

struct Data {
  double white = 1;    // the value that is 1
  int64_t levels = 2;  // of grey
  Images train;
  Images valid;
  std::vector<double> means;      // of the training pixels
  std::vector<int32_t> labels;    // of the held-out rows; empty: none
  int64_t height = 0, width = 0;  // of an image; 0: unknown
};

Tensor<float> log_odds(const Tensor<float>& grey) {
  const Variable p = grey;
  return (log(p) - log(1.0f - p)).value();  // -inf and inf for pixels that are certain
}

// Pixels drawn once, as the seed says.
Tensor<float> drawn_once(const Tensor<float>& grey, uint64_t seed, int site) {
  const Draws draws(seed, grey.stream());
  return bernoulli_sample(log_odds(grey), draws.at(site)).reshape(grey.shape());
}

Tensor<float> to_grey(const Table& table, double white, const std::string& path, const Stream& stream) {
  std::vector<float> values(table.values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double value = table.values[i];
    if (value < 0 || value > white) {
      throw ArgumentError(path + ": row " + std::to_string(i / table.cols + 1) + ", column " +
                          std::to_string(i % table.cols + 1) + " is " + general(value) + "; pixels from 0 to " +
                          general(white) + " are needed");
    }
    values[i] = static_cast<float>(value / white);
  }
  return Tensor<float>::from(values, {static_cast<int64_t>(table.rows), static_cast<int64_t>(table.cols)}, stream);
}

Table some_rows(const Table& table, const std::vector<std::size_t>& rows) {
  Table result = {rows.size(), table.cols, {}, {}};
  for (const std::size_t n : rows) {
    const auto row = table.row(n);
    result.values.insert(result.values.end(), row.begin(), row.end());
  }
  return result;
}

// The nearest of so many levels.
Tensor<float> rounded(const Tensor<float>& grey, int64_t levels) {
  std::vector<float> values = grey.to_host();
  const auto n = static_cast<float>(levels - 1);
  for (float& value : values) value = std::round(value * n) / n;
  return Tensor<float>::from(values, grey.shape(), grey.stream());
}

// Without --valid every tenth row is held out.
// white and levels: of a model that is loaded.
Data load(const Options& options, std::optional<double> white, std::optional<int64_t> levels, const Stream& stream) {
  const Table all = read_table(options.data);
  std::optional<Table> valid;
  if (!options.valid.empty()) {
    valid = read_table(options.valid);
    if (valid->cols != all.cols) {
      throw ArgumentError(options.valid + ": has " + std::to_string(valid->cols) + " columns but " + options.data +
                          " has " + std::to_string(all.cols));
    }
  }
  std::vector<std::size_t> train_rows;
  std::vector<std::size_t> valid_rows;
  for (std::size_t n = 0; n < all.rows; ++n) (!valid && n % 10 == 9 ? valid_rows : train_rows).push_back(n);
  if (!valid && valid_rows.empty()) {
    throw ArgumentError(options.data + ": has " + std::to_string(all.rows) +
                        " rows; at least 10 are needed, of which one is held out, or --valid");
  }
  const Table train = some_rows(all, train_rows);
  if (!valid) valid = some_rows(all, valid_rows);

  const double largest = *std::max_element(all.values.begin(), all.values.end());
  const double scale = white.value_or(largest <= 1 ? 1 : largest);
  const std::string& valid_path = options.valid.empty() ? options.data : options.valid;
  Tensor<float> train_grey = to_grey(train, scale, options.data, stream);
  Tensor<float> valid_grey = to_grey(*valid, scale, valid_path, stream);
  if (!levels) {
    // As many as the values of the data, if these are small whole numbers.
    constexpr double kMostOfTheData = 31;
    const int64_t own = scale > 1 && scale <= kMostOfTheData ? std::lround(scale) + 1 : 16;
    levels = options.pixels == "binary" ? 2 : options.levels > 0 ? options.levels : own;
  }
  const std::string binarise = *levels > 2 ? "none" : options.binarise.empty() ? "dynamic" : options.binarise;
  if (*levels > 2) {
    train_grey = rounded(train_grey, *levels);
    valid_grey = rounded(valid_grey, *levels);
  }
  const std::vector<float> means = mean(train_grey, 0).value().to_host();
  Data data = {scale, *levels, {train_grey, std::nullopt}, {valid_grey, std::nullopt}, {means.begin(), means.end()}, {},
               0,     0};
  if (binarise == "static") data.train.grey = drawn_once(train_grey, options.seed, kStaticSite);
  if (binarise == "dynamic") data.train.odds = log_odds(train_grey);
  // Those that are held out are drawn once, so that what is compared is about the same pixels each time.
  if (binarise != "none") data.valid.grey = drawn_once(valid_grey, options.seed, kStaticSite + 1);

  if (!options.labels.empty()) {
    const Table labels = read_table(options.labels);
    const std::size_t wanted = options.valid.empty() ? all.rows : valid->rows;
    if (labels.cols != 1 || labels.rows != wanted) {
      throw ArgumentError(options.labels + ": has " + std::to_string(labels.rows) + " rows of " +
                          std::to_string(labels.cols) + " columns; a label for each of the " + std::to_string(wanted) +
                          " rows of " + valid_path + " is needed");
    }
    for (std::size_t n = 0; n < labels.rows; ++n) {
      const double label = labels.values[n];
      if (!(label >= 0 && label < 1000) || label != std::floor(label)) {
        throw ArgumentError(options.labels + ": row " + std::to_string(n + 1) + " is " + general(label) +
                            "; a class from 0 to 999 is needed");
      }
      if (!options.valid.empty() || n % 10 == 9) data.labels.push_back(static_cast<int32_t>(label));
    }
  }

  const auto pixels = static_cast<int64_t>(all.cols);
  data.width = options.width;
  if (data.width == 0) {
    const auto side = static_cast<int64_t>(std::lround(std::sqrt(static_cast<double>(pixels))));
    if (side * side == pixels) data.width = side;
  }
  if (data.width > 0 && pixels % data.width == 0) data.height = pixels / data.width;
  const bool pictures = !(options.generate.empty() && options.reconstruct.empty());
  if (data.height == 0 && (pictures || options.width > 0)) {
    throw ArgumentError(options.data + ": its rows of " + std::to_string(pixels) +
                        " pixels are no images; --width, one that divides this, is needed");
  }
  return data;
}

// ---- training -----------------------------------------------------------------------------------

int64_t samples_of(const Options& options) {
  if (options.samples > 0) return options.samples;
  return options.estimator == "elbo" || options.estimator == "wake-sleep" || options.estimator == "hmc" ? 1 : 50;
}

// kl_weight: rank 0, for the ELBO.
Estimate estimate(const AutoencoderBatch& batch, const Options& options, std::optional<Tensor<float>> kl_weight,
                  Tape& tape, const Draws& draws) {
  if (options.estimator == "elbo") {
    const ElboOptions elbo = {.samples = samples_of(options),
                              .free_bits = static_cast<float>(options.free_bits),
                              .kl_weight = std::move(kl_weight)};
    return ReparameterisedElbo(batch, batch.proposal(), elbo)(tape, draws);
  }
  if (options.estimator == "wake-sleep") {
    return WakeSleep(batch, batch.proposal(), batch.sleep(), samples_of(options))(tape, draws);
  }
  if (options.estimator == "hmc") {
    const HamiltonianOptions chains = {.chains = samples_of(options), .warm_up = 10, .leaps = 5};
    return HamiltonianMonteCarlo(batch, batch.proposal(), chains)(tape, draws);
  }
  const ImportanceGradient gradient = options.estimator == "iwae"   ? ImportanceGradient::iwae
                                      : options.estimator == "dreg" ? ImportanceGradient::dreg
                                                                    : ImportanceGradient::posterior_weighted;
  return ImportanceSampling(batch, batch.proposal(), samples_of(options), gradient)(tape, draws);
}

// The mean bound of the held-out rows, in nats an image. Always with the same draws.
double validation_bound(const VariationalAutoencoder& model, const Images& images, Options options) {
  // Neither dreams nor chains are about the bound of one draw: by that the best epoch would be one of the first.
  if (options.estimator == "wake-sleep" || options.estimator == "hmc") {
    options.samples = std::max<int64_t>(50, options.samples);
    options.estimator = "reweighted-wake-sleep";
  }
  const Draws draws(options.seed + 1, images.grey.stream());
  double total = 0;
  const int64_t rows = std::max<int64_t>(1, 20'000 / samples_of(options));
  for (int64_t begin = 0; begin < images.count(); begin += rows) {
    const AutoencoderBatch batch(model, images.grey.rows(begin, std::min(images.count(), begin + rows)));
    Tape tape;
    total += static_cast<double>(sum(estimate(batch, options, std::nullopt, tape, draws).log_marginal).value().item());
  }
  return total / static_cast<double>(images.count());
}

History train(VariationalAutoencoder& model, const Data& data, const Options& options) {
  const int64_t rows = data.train.count();
  const int64_t size = std::min(options.batch, rows);
  const int64_t steps_per_epoch = (rows + size - 1) / size;
  Optimiser optimiser = adam(
      model.parameters(), {.rate = Schedule::cosine(options.rate, options.epochs * steps_per_epoch), .epsilon = 1e-4});
  Trainer trainer(optimiser, rows,
                  {.epochs = options.epochs,
                   .batch = size,
                   .seed = options.seed,
                   .report_every = steps_per_epoch,
                   .validate_every = steps_per_epoch,
                   .validation_goal = Goal::maximise,
                   .patience = options.patience,
                   .checkpoint = options.checkpoint,
                   .checkpoint_every = steps_per_epoch});
  // Steps made, counted on the device, for the weight of the KL.
  auto steps = Tensor<float>::full({}, static_cast<float>(trainer.step()), model.stream());
  return trainer.train(
      [&](Tape& tape, const Minibatch& minibatch) {
        Tensor<float> x = data.train.odds ? bernoulli_sample(gather_rows(*data.train.odds, minibatch.indices),
                                                             minibatch.draws.at(kPixelSite), 1, &minibatch.indices)
                                                .reshape({size, model.pixels()})
                                          : gather_rows(data.train.grey, minibatch.indices);
        std::optional<Tensor<float>> kl_weight;
        if (options.kl_warmup > 0) {
          const auto warmup = static_cast<float>(options.kl_warmup * steps_per_epoch);
          kl_weight = clamp(steps / warmup, 0, 1).value();
          steps.copy_from((steps + 1.0f).value());
        }
        const AutoencoderBatch batch(model, std::move(x), &minibatch.indices);
        const Estimate made = estimate(batch, options, kl_weight, tape, minibatch.draws);
        // The value is the bound, whatever the objective's is; the gradient is the objective's.
        const Variable gradient = (made.objective.detach() - made.objective) / static_cast<float>(size);
        return gradient - mean(made.log_marginal);
      },
      [&] { return validation_bound(model, data.valid, options); });
}

// ---- what comes of it ---------------------------------------------------------------------------

std::vector<float> decoded(const VariationalAutoencoder& model, const Tensor<float>& z) {
  return model.expected_pixels(model.logits(nullptr, z).value()).to_host();
}

std::size_t scale_for(int64_t side) { return static_cast<std::size_t>(std::max<int64_t>(2, 64 / side)); }

void generate(const std::string& path, const VariationalAutoencoder& model, const Data& data, uint64_t seed) {
  constexpr std::size_t kSide = 10;
  const Draws draws(seed, model.stream());
  const auto prior = DiagonalGaussian::standard(kSide * kSide, model.latent(), model.stream());
  const Tensor<float> z = prior.sample(draws.at(kGenerateSite), 1).value();
  write_png_grid(path, decoded(model, z), kSide, kSide, static_cast<std::size_t>(data.height),
                 static_cast<std::size_t>(data.width), scale_for(data.width));
}

// Held-out images above what the model makes of their latent vectors.
void reconstruct(const std::string& path, const VariationalAutoencoder& model, const Data& data) {
  constexpr int64_t kCols = 10;
  const int64_t count = std::min<int64_t>(data.valid.count(), 5 * kCols);
  const Tensor<float> x = data.valid.grey.rows(0, count);
  const std::vector<float> images = x.to_host();
  const std::vector<float> copies = decoded(model, model.posterior(nullptr, x).mode());
  const auto rows = static_cast<std::size_t>((count + kCols - 1) / kCols);
  const auto line = static_cast<std::size_t>(kCols * model.pixels());
  std::vector<float> grid;
  for (std::size_t r = 0; r < rows; ++r) {
    for (const std::vector<float>* const part : {&images, &copies}) {
      for (std::size_t i = r * line; i < (r + 1) * line; ++i) grid.push_back(i < part->size() ? (*part)[i] : 1.0f);
    }
  }
  write_png_grid(path, grid, 2 * rows, kCols, static_cast<std::size_t>(data.height),
                 static_cast<std::size_t>(data.width), scale_for(data.width));
}

// Where the held-out images lie in two dimensions, and what the model makes of each place.
void plot_latent(const std::string& path, const VariationalAutoencoder& model, const Data& data,
                 const std::optional<History>& history) {
  Plot picture;
  const std::vector<float> z = model.posterior(nullptr, data.valid.grey).mode().to_host();
  std::vector<double> first;
  std::vector<double> second;
  for (std::size_t n = 0; n < z.size(); n += 2) {
    first.push_back(z[n]);
    second.push_back(z[n + 1]);
  }
  Panel& points = picture.panel("posterior means of the held-out images", "z_1", "z_2");
  if (data.labels.empty()) {
    points.points(first, second);
  } else {
    std::vector<std::string> names;
    for (int32_t k = 0; k <= *std::max_element(data.labels.begin(), data.labels.end()); ++k) {
      names.push_back(std::to_string(k));
    }
    points.points_by_class(first, second, data.labels, names);
  }
  if (data.height > 0) {
    constexpr int64_t kSide = 15;
    constexpr double kReach = 3;
    std::vector<float> grid;
    for (int64_t r = 0; r < kSide; ++r) {
      for (int64_t c = 0; c < kSide; ++c) {
        const auto place = [](int64_t i) { return static_cast<float>(kReach * (2.0 * (i + 0.5) / kSide - 1)); };
        grid.insert(grid.end(), {place(c), place(r)});
      }
    }
    const std::vector<float> images = decoded(model, Tensor<float>::from(grid, {kSide * kSide, 2}, model.stream()));
    const int64_t height = kSide * data.height;
    const int64_t width = kSide * data.width;
    std::vector<double> shades(static_cast<std::size_t>(height * width));
    for (int64_t y = 0; y < height; ++y) {
      for (int64_t x = 0; x < width; ++x) {
        const int64_t image = y / data.height * kSide + x / data.width;
        // Row 0 of the picture is at the bottom, that of an image at its top.
        const int64_t row = data.height - 1 - y % data.height;
        shades[static_cast<std::size_t>(y * width + x)] =
            images[static_cast<std::size_t>((image * data.height + row) * data.width + x % data.width)];
      }
    }
    picture.panel("E[x | z]", "z_1", "z_2")
        .density(shades, static_cast<std::size_t>(height), static_cast<std::size_t>(width), {-kReach, kReach},
                 {-kReach, kReach});
  }
  if (history) {
    std::vector<double> epochs[2];
    std::vector<double> bounds[2];
    const auto per_epoch = static_cast<double>(history->training.front().step);
    for (const auto& point : history->training) {
      epochs[0].push_back(static_cast<double>(point.step) / per_epoch);
      bounds[0].push_back(-point.loss);
    }
    for (const auto& point : history->validation) {
      epochs[1].push_back(static_cast<double>(point.step) / per_epoch);
      bounds[1].push_back(point.value);
    }
    picture.panel("training", "epoch", "bound, nats an image")
        .line(epochs[0], bounds[0], "train")
        .line(epochs[1], bounds[1], "held out");
  }
  picture.save(path);
}

struct Score {
  double nats = 0;  // -log p(x), mean over the held-out images
  double standard_error = 0;
  std::optional<double> unreliable = {};  // share of the images whose k-hat is above 0.7
};

Score score(const VariationalAutoencoder& model, const Images& images, const Options& options) {
  samples::ProgressLine progress;
  const auto evidence = model.evidence(images.grey, options.evaluate, options.seed + 2, [&](int64_t done) {
    progress.show("evaluation: " + std::to_string(done) + "/" + std::to_string(images.count()) + " images");
  });
  progress.clear();
  const auto count = static_cast<double>(images.count());
  Score result;
  for (const double value : evidence.log_marginal) result.nats -= value / count;
  double squares = 0;
  for (const double value : evidence.log_marginal) squares += (value + result.nats) * (value + result.nats);
  result.standard_error = std::sqrt(squares / std::max(1.0, count - 1) / count);
  int64_t bad = 0;
  int64_t known = 0;
  for (const float k : evidence.pareto_k) {
    known += std::isfinite(k) ? 1 : 0;
    bad += std::isfinite(k) && k > 0.7f ? 1 : 0;
  }
  if (known > 0) result.unreliable = static_cast<double>(bad) / static_cast<double>(known);
  return result;
}

void work(const Options& options) {
  samples::check_outputs({options.save, options.checkpoint, options.json});
  samples::check_picture(options.latent_plot);
  for (const std::string& path : {options.generate, options.reconstruct}) {
    samples::check_outputs({path});
    if (!path.empty() && !path.ends_with(".png")) throw FileError(path + ": images are written as .png");
  }
  if (options.estimator != "elbo" && (options.free_bits > 0 || options.kl_warmup > 0)) {
    throw ArgumentError("--free-bits and --kl-warmup are about the KL of --estimator elbo");
  }
  if (options.pixels == "binary" && options.levels > 0) throw ArgumentError("--levels is about --pixels categorical");
  if (options.pixels == "categorical" && !options.binarise.empty() && options.binarise != "none") {
    throw ArgumentError("--binarise is about --pixels binary");
  }
  if (options.threads > 0) set_cpu_threads(options.threads);
  const Stream stream = Device::parse(options.device);

  std::optional<VariationalAutoencoder> model;
  std::optional<double> white;
  if (!options.load.empty()) {
    std::map<std::string, std::string> notes;
    model.emplace(VariationalAutoencoder::load(options.load, stream, &notes));
    try {
      white = std::stod(notes["white"]);
    } catch (const std::logic_error&) {
      throw FileError(options.load + ": does not say which value is white");
    }
  }
  const int64_t latent = model ? model->latent() : options.latent;
  if (!options.latent_plot.empty() && latent != 2) {
    throw ArgumentError("--latent-plot draws 2 dimensions but there are " + std::to_string(latent) +
                        "; --latent 2 is needed");
  }
  const Data data = load(options, white, model ? std::optional(model->levels()) : std::nullopt, stream);
  const int64_t pixels = data.train.grey.shape()[1];
  if (model && model->pixels() != pixels) {
    throw ArgumentError(options.data + ": has " + std::to_string(pixels) + " columns; " +
                        std::to_string(model->pixels()) + " are needed for " + options.load);
  }
  const std::string hidden = [&] {
    std::string text;
    for (const int64_t width : model ? model->hidden() : options.hidden) text += "-" + std::to_string(width);
    return text;
  }();
  std::cout << data.train.count() << " images to train, " << data.valid.count() << " held out; " << pixels << hidden
            << "-" << latent << (data.levels > 2 ? ", " + std::to_string(data.levels) + " grey levels" : "") << " on "
            << stream.device().name() << "\n";

  nlohmann::json json = {
      {"pixels", pixels}, {"latent", latent}, {"levels", data.levels}, {"device", stream.device().name()}};
  std::optional<History> history;
  if (!model) {
    model.emplace(pixels, latent, options.hidden, options.seed, stream, data.levels);
    model->set_pixel_means(data.means);
    const auto start = std::chrono::steady_clock::now();
    history = train(*model, data, options);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const auto epochs = [&](int64_t steps) {
      const auto seen = static_cast<double>(steps * std::min(options.batch, data.train.count()));
      return std::lround(seen / static_cast<double>(data.train.count()));
    };
    std::cout << options.estimator << " (S = " << samples_of(options) << "), " << epochs(history->steps)
              << " epochs in " << fixed(seconds, 1) << " s: bound " << fixed(-history->training.back().loss, 3)
              << " in the last epoch, " << fixed(history->best_value, 3) << " held out after epoch "
              << epochs(history->best_step) << "\n";
    json["estimator"] = options.estimator;
    json["samples"] = samples_of(options);
    json["steps"] = history->steps;
    json["seconds"] = seconds;
    json["best_epoch"] = epochs(history->best_step);
    json["best_bound"] = history->best_value;
    for (const auto& point : history->training) json["training"].push_back(-point.loss);
    for (const auto& point : history->validation) json["validation"].push_back(point.value);
  }
  if (!options.save.empty()) model->save(options.save, {{"white", general(data.white, 17)}});

  if (options.evaluate > 0) {
    const Score result = score(*model, data.valid, options);
    std::cout << "-log p(x) of the held-out images, by " << options.evaluate << " draws: " << fixed(result.nats, 3)
              << " ± " << fixed(result.standard_error, 3) << " nats an image\n";
    json["evaluate"] = options.evaluate;
    json["nats"] = result.nats;
    json["standard_error"] = result.standard_error;
    if (result.unreliable) {
      json["unreliable"] = *result.unreliable;
      if (*result.unreliable > 0.05) {
        std::cout << "  k-hat is above 0.7 for " << fixed(100 * *result.unreliable, 1)
                  << " % of them: the proposal misses part of their posterior, and the figure may be too high\n";
      }
    }
  }
  if (!options.generate.empty()) generate(options.generate, *model, data, options.seed);
  if (!options.reconstruct.empty()) reconstruct(options.reconstruct, *model, data);
  if (!options.latent_plot.empty()) plot_latent(options.latent_plot, *model, data, history);
  if (!options.json.empty()) write_file(options.json, json.dump(2) + "\n");
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("Trains a variational autoencoder on images, and generates, reconstructs and scores them.", "vae");
  app.add_option("--data", options.data, "Images, a row each: idx, .npy, CSV or text, gzip or not (default: digits)");
  app.add_option("--valid", options.valid, "Held-out images (default: every tenth row of the data)");
  app.add_option("--labels", options.labels, "A class for each row of --valid or, without it, of --data: colours");
  app.add_option("--estimator", options.estimator, "elbo, iwae, dreg, wake-sleep, reweighted-wake-sleep or hmc")
      ->check(CLI::IsMember({"elbo", "iwae", "dreg", "wake-sleep", "reweighted-wake-sleep", "hmc"}))
      ->capture_default_str();
  app.add_option("--samples", options.samples,
                 "Draws of z for each image (default: 1 for elbo, wake-sleep and hmc, else 50)")
      ->check(CLI::Range(1, 100'000));
  app.add_option("--latent", options.latent, "Dimensions of z")->check(CLI::Range(1, 100'000))->capture_default_str();
  app.add_option("--hidden", options.hidden, "Units of the hidden layers")
      ->delimiter(',')
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--epochs", options.epochs, "Passes through the data at most")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--batch", options.batch, "Images a step")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_option("--rate", options.rate, "Adam's, falling along a cosine")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--pixels", options.pixels, "binary, or categorical: a probability for each grey level")
      ->check(CLI::IsMember({"binary", "categorical"}))
      ->capture_default_str();
  app.add_option("--levels", options.levels, "Grey levels of categorical pixels (default: those of the data, else 16)")
      ->check(CLI::Range(3, 256));
  app.add_option("--binarise", options.binarise,
                 "Bits from grey levels: none, static (drawn once) or dynamic (default: each time; held-out ones once)")
      ->check(CLI::IsMember({"none", "static", "dynamic"}));
  app.add_option("--free-bits", options.free_bits, "Nats of KL that each coordinate has for nothing (elbo)")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--kl-warmup", options.kl_warmup, "Epochs in which the weight of the KL rises from 0 to 1 (elbo)")
      ->check(CLI::Range(0, 1'000'000));
  app.add_option("--patience", options.patience, "Stop after so many epochs without a better held-out bound; 0: never")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--evaluate", options.evaluate, "Draws for each held-out image's -log p(x); 0: not at all")
      ->check(CLI::Range(0, 1'000'000))
      ->capture_default_str();
  app.add_option("--width", options.width, "Of an image (default: images are square)")->check(CLI::Range(1, 100'000));
  samples::add_compute_options(app, options);
  app.add_option("--save", options.save, "Write the model here");
  app.add_option("--load", options.load, "Take this model instead of training one");
  app.add_option("--checkpoint", options.checkpoint, "Keep the training here, and go on from it if it is there");
  app.add_option("--generate", options.generate, "Draw 100 images from the model here (.png)");
  app.add_option("--reconstruct", options.reconstruct, "Draw held-out images and their reconstructions here (.png)");
  app.add_option("--latent-plot", options.latent_plot, "Draw the 2-d latent space here (.png or .svg)");
  app.add_option("--json", options.json, "Write the figures here as JSON");
  return samples::run(app, argc, argv, [&] { work(options); });
}
