// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/data/safetensors.hpp>
#include <dgm/models/variational_autoencoder.hpp>
#include <dgm/ops/activations.hpp>
#include <dgm/ops/columns.hpp>
#include <dgm/ops/densities.hpp>
#include <dgm/ops/elementwise.hpp>
#include <dgm/ops/importance_weights.hpp>
#include <dgm/ops/log_softmax.hpp>
#include <dgm/ops/log_sum_exp.hpp>
#include <dgm/ops/reductions.hpp>
#include <dgm/ops/vector_sample.hpp>

#include "host/core/check.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>

namespace dgm {

namespace {

constexpr const char* kFormat = "dgm.variational_autoencoder.1";
constexpr int64_t kMostForPareto = 16384;

std::vector<int64_t> widths(int64_t first, std::vector<int64_t> hidden, int64_t last) {
  hidden.insert(hidden.begin(), first);
  hidden.push_back(last);
  return hidden;
}

int64_t outputs(int64_t pixels, int64_t levels) { return levels == 2 ? pixels : pixels * levels; }

Tensor<float> level_numbers(int64_t levels, const Stream& stream) {
  check<ArgumentError>(levels >= 2 && levels <= 65536, "VariationalAutoencoder: levels is ", levels,
                       "; from 2 to 65536 are needed");
  std::vector<float> numbers(static_cast<std::size_t>(levels));
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  return Tensor<float>::from(numbers, {levels}, stream);
}

Variable apply(const Mlp& layers, Tape* tape, const Variable& x) {
  return tape != nullptr ? layers(*tape, x) : layers(x);
}

}  // namespace

VariationalAutoencoder::VariationalAutoencoder(int64_t pixels, int64_t latent, const std::vector<int64_t>& hidden,
                                               uint64_t seed, const Stream& stream, int64_t levels)
    : pixels_(pixels), latent_(latent), hidden_(hidden), level_numbers_(level_numbers(levels, stream)) {
  check<ArgumentError>(pixels >= 1, "VariationalAutoencoder: pixels is ", pixels, "; at least 1 is needed");
  check<ArgumentError>(latent >= 1, "VariationalAutoencoder: latent is ", latent, "; at least 1 is needed");
  const MlpOptions options = {.activation = tanh, .weight_values = Initialiser::glorot_uniform(), .seed = seed};
  encoder_.emplace(parameters_, "encoder", widths(pixels, hidden, 2 * latent), stream, options);
  const std::vector<int64_t> reversed(hidden.rbegin(), hidden.rend());
  decoder_.emplace(parameters_, "decoder", widths(latent, reversed, outputs(pixels, levels)), stream, options);
}

void VariationalAutoencoder::set_pixel_means(std::span<const double> means) {
  check<ShapeError>(static_cast<int64_t>(means.size()) == pixels_,
                    "VariationalAutoencoder::set_pixel_means: ", means.size(), " means for ", pixels_, " pixels");
  std::vector<float> logits;
  for (const double mean : means) {
    const double p = std::clamp(mean, 0.001, 0.999);
    const double odds = std::log(p / (1 - p));
    if (levels() == 2) {
      logits.push_back(static_cast<float>(odds));
      continue;
    }
    const auto n = static_cast<double>(levels() - 1);
    for (double g = 0; g <= n; ++g) {
      const double ways = std::lgamma(n + 1) - std::lgamma(g + 1) - std::lgamma(n - g + 1);
      logits.push_back(static_cast<float>(ways + g * odds + n * std::log(1 - p)));
    }
  }
  auto& bias = decoder_->layers().back().bias()->value;
  bias.copy_from(Tensor<float>::from(logits, bias.shape(), stream()));
}

DiagonalGaussian VariationalAutoencoder::posterior(Tape* tape, const Variable& x) const {
  const Variable both = apply(*encoder_, tape, x);
  return {columns(both, 0, latent_), columns(both, latent_, 2 * latent_)};
}

Variable VariationalAutoencoder::logits(Tape* tape, const Variable& z) const { return apply(*decoder_, tape, z); }

Variable VariationalAutoencoder::log_likelihood(const Tensor<float>& x, const Variable& logits) const {
  if (levels() == 2) return bernoulli_log_density(x, logits);
  const int64_t rows = x.shape()[0];
  // One where a level is x's, zero elsewhere: sum_g one_g f_g is the chosen logit.
  const Variable numbers = reshape(x * static_cast<float>(levels() - 1), {rows, pixels_, 1});
  const Variable chosen = clamp(1.0f - abs(numbers - level_numbers_), 0.0f, 1.0f);
  const Shape shape = logits.shape();
  const Variable each = log_sum_exp(reshape(logits, {rows, shape[1], pixels_, levels()}));
  return sum(logits * reshape(chosen, {rows, 1, shape[2]}), -1) - sum(each, -1);
}

Tensor<float> VariationalAutoencoder::expected_pixels(const Tensor<float>& logits) const {
  if (levels() == 2) return sigmoid(logits).value();
  const Variable p = softmax(logits.reshape({logits.shape()[0], pixels_, levels()}));
  const Variable grey = Variable(level_numbers_) / static_cast<float>(levels() - 1);
  return sum(p * grey, -1).value();
}

Tensor<float> VariationalAutoencoder::draw_pixels(const Tensor<float>& logits, const Draws& draws) const {
  const int64_t rows = logits.shape()[0];
  if (levels() == 2) return bernoulli_sample(logits, draws).reshape({rows, pixels_});
  // The largest of a pixel's logits and Gumbel noise is drawn with the softmax's probability; 1 there, 0 elsewhere.
  const Variable noisy = reshape(gumbel_sample(logits, draws), {rows, pixels_, levels()});
  const Variable below = noisy - reshape(row_max(noisy), {rows, pixels_, 1});
  const Variable grey = Variable(level_numbers_) / static_cast<float>(levels() - 1);
  return sum(clamp(below * 1e30f + 1.0f, 0.0f, 1.0f) * grey, -1).value();
}

VariationalAutoencoder::Evidence VariationalAutoencoder::evidence(const Tensor<float>& x, int64_t samples,
                                                                  uint64_t seed,
                                                                  const std::function<void(int64_t)>& progress) const {
  check<ArgumentError>(samples >= 1, "VariationalAutoencoder::evidence: samples is ", samples,
                       "; at least 1 is needed");
  check<ShapeError>(x.shape().rank() == 2 && x.shape()[1] == pixels_, "VariationalAutoencoder::evidence: x has shape ",
                    x.shape().str(), "; (B, ", pixels_, ") is needed");
  // A part's draws are a step of their own. On a CPU a part is to stay in its caches.
  constexpr int64_t kDraws = 100;
  const int64_t rows_at_once = stream().device().is_cuda() ? 512 : 20;
  const int64_t rows = x.shape()[0];
  Draws draws(seed, stream());
  Evidence result;
  for (int64_t begin = 0; begin < rows; begin += rows_at_once) {
    const int64_t end = std::min(rows, begin + rows_at_once);
    const int64_t count = end - begin;
    std::vector<int64_t> numbers(static_cast<std::size_t>(count));
    std::iota(numbers.begin(), numbers.end(), begin);
    const auto data = Tensor<int64_t>::from(numbers, {count}, stream());
    const Tensor<float> part = x.rows(begin, end);
    const DiagonalGaussian q = posterior(nullptr, part);
    std::vector<float> log_weights(static_cast<std::size_t>(count * samples));
    for (int64_t s = 0; s < samples; s += kDraws) {
      const int64_t drawn = std::min(kDraws, samples - s);
      draws.set_step(s / kDraws);
      const Variable z = q.sample(draws, drawn, &data);
      const std::vector<float> likelihood = log_likelihood(part, logits(nullptr, z)).value().to_host();
      const std::vector<float> prior = standard_gaussian_log_density(z).value().to_host();
      const std::vector<float> proposal = q.log_prob(z).value().to_host();
      for (int64_t b = 0; b < count; ++b) {
        for (int64_t i = 0; i < drawn; ++i) {
          const auto from = static_cast<std::size_t>(b * drawn + i);
          log_weights[static_cast<std::size_t>(b * samples + s + i)] = likelihood[from] + prior[from] - proposal[from];
        }
      }
    }
    for (int64_t b = 0; b < count; ++b) {
      const std::span<const float> row(log_weights.data() + b * samples, static_cast<std::size_t>(samples));
      double largest = -INFINITY;
      for (const float l : row) largest = std::isnan(l) ? NAN : std::max(largest, static_cast<double>(l));
      double total = 0;
      for (const float l : row) total += std::exp(static_cast<double>(l) - largest);
      result.log_marginal.push_back(largest == -INFINITY ? largest
                                                         : largest + std::log(total / static_cast<double>(samples)));
    }
    if (samples <= kMostForPareto) {
      const auto shapes = pareto_shape(Tensor<float>::from(log_weights, {count, samples}, stream())).to_host();
      result.pareto_k.insert(result.pareto_k.end(), shapes.begin(), shapes.end());
    }
    if (progress) progress(end);
  }
  return result;
}

void VariationalAutoencoder::save(const std::string& path, const std::map<std::string, std::string>& notes) const {
  std::map<std::string, StoredTensor> tensors;
  for (const Parameter& parameter : parameters_) {
    tensors.emplace(parameter.name, StoredTensor::of(parameter.value.to_host(), parameter.value.shape().extents()));
  }
  std::map<std::string, std::string> metadata = notes;
  metadata["format"] = kFormat;
  metadata["pixels"] = std::to_string(pixels_);
  metadata["latent"] = std::to_string(latent_);
  metadata["levels"] = std::to_string(levels());
  metadata["hidden"] = nlohmann::json(hidden_).dump();
  write_safetensors(path, tensors, metadata);
}

VariationalAutoencoder VariationalAutoencoder::load(const std::string& path, const Stream& stream,
                                                    std::map<std::string, std::string>* notes) {
  SafeTensors file = read_safetensors(path);
  check<FileError>(file.metadata["format"] == kFormat, path, ": is no variational autoencoder: its format is \"",
                   file.metadata["format"], "\"; \"", kFormat, "\" is needed");
  try {
    const auto number = [&](const char* key) { return nlohmann::json::parse(file.metadata[key]).get<int64_t>(); };
    const auto hidden = nlohmann::json::parse(file.metadata["hidden"]).get<std::vector<int64_t>>();
    // The file's own tensors say how large the model is: widths that they do not bear out are not made room for.
    int64_t stored = 0;
    std::map<std::string, Tensor<float>> values;
    for (const auto& [name, tensor] : file.tensors) {
      values.emplace(name, Tensor<float>::from(tensor.as<float>(), Shape(tensor.shape), stream));
      stored += values.at(name).size();
    }
    const std::vector<int64_t> encoder = widths(number("pixels"), hidden, number("latent"));
    for (std::size_t i = 0; i + 1 < encoder.size(); ++i) {
      check<FileError>(encoder[i] >= 1 && encoder[i + 1] >= 1 && encoder[i] <= stored / encoder[i + 1], path,
                       ": its widths do not fit its tensors");
    }
    const int64_t levels = file.metadata.contains("levels") ? number("levels") : 2;
    check<FileError>(levels >= 2 && outputs(1, levels) <= stored / encoder.front(), path,
                     ": its grey levels do not fit its tensors");
    VariationalAutoencoder model(encoder.front(), encoder.back(), hidden, 0, stream, levels);
    model.parameters().load_values(values);
    if (notes != nullptr) *notes = std::move(file.metadata);
    return model;
  } catch (const ArgumentError& error) {
    throw FileError(text(path, ": ", error.what()));
  } catch (const nlohmann::json::exception& error) {
    throw FileError(text(path, ": its widths cannot be read: ", error.what()));
  }
}

AutoencoderBatch::AutoencoderBatch(const VariationalAutoencoder& model, Tensor<float> x, const Tensor<int64_t>* data)
    : model_(model), x_(std::move(x)) {
  check<ShapeError>(x_.shape().rank() == 2 && x_.shape()[1] == model.pixels(), "AutoencoderBatch: x has shape ",
                    x_.shape().str(), "; (B, ", model.pixels(), ") is needed");
  if (data != nullptr) data_ = *data;
}

std::unique_ptr<VectorDistribution> AutoencoderBatch::prior(Tape&) const {
  return std::make_unique<DiagonalGaussian>(DiagonalGaussian::standard(batch(), model_.latent(), stream()));
}

Variable AutoencoderBatch::log_likelihood(Tape& tape, const Variable& z) const {
  return model_.log_likelihood(x_, model_.logits(&tape, z));
}

Proposal AutoencoderBatch::proposal() const {
  return [this](Tape& tape) { return std::make_unique<DiagonalGaussian>(model_.posterior(&tape, x_)); };
}

Sleep AutoencoderBatch::sleep() const {
  return [this](Tape& tape, const Draws& draws) {
    const Tensor<float> z = DiagonalGaussian::standard(batch(), model_.latent(), stream())
                                .sample(draws, 1)
                                .value()
                                .reshape({batch(), model_.latent()});
    const Tensor<float> x = model_.draw_pixels(model_.logits(nullptr, z).value(), draws.at(kSleepSite + 1));
    return model_.posterior(&tape, x).log_prob(z);
  };
}

}  // namespace dgm
