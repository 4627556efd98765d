// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/inference/latent_joint.hpp>
#include <dgm/inference/wake_sleep.hpp>
#include <dgm/nn/mlp.hpp>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// Images, or any vectors of numbers in [0, 1], from a latent vector z:
///
///   p(x) = ∫ N(z; 0, I) prod_d Bernoulli(x_d; sigmoid(f_d(z))) dz,
///
/// or, of G > 2 grey levels, prod_d Categorical(level of x_d; softmax(f_d(z))) with G logits a pixel; and
/// with a proposal q(z | x) = N(mean(x), diag(scale(x)^2)) for inference. f and q are networks with tanh between their
/// affine layers, whose weights start as Glorot & Bengio (2010) do.
///
/// Its parameters are "encoder.<i>.weight", ".bias" and "decoder.<i>.weight", ".bias"; the encoder's last layer gives
/// the mean, then the logarithm of the scale. Move-only.
/// Source    Kingma & Welling 2014; Rezende, Mohamed & Wierstra 2014; the layers of Burda et al. 2016.
class VariationalAutoencoder {
 public:
  /// hidden: widths of the encoder's layers; the decoder has them in reverse.
  /// levels: 2 for Bernoulli pixels; G > 2 for levels 0, 1/(G-1), ..., 1, each with a probability of its own.
  /// Throws ArgumentError unless pixels, latent and all widths are at least 1 and levels at least 2.
  VariationalAutoencoder(int64_t pixels, int64_t latent, const std::vector<int64_t>& hidden, uint64_t seed,
                         const Stream& stream, int64_t levels = 2);

  int64_t pixels() const { return pixels_; }
  int64_t latent() const { return latent_; }
  int64_t levels() const { return level_numbers_.size(); }
  const std::vector<int64_t>& hidden() const { return hidden_; }
  const Stream& stream() const { return parameters_.stream(); }
  Parameters& parameters() { return parameters_; }

  /// Starts the decoder at the pixels' means (their logits, in its last bias), moved into [0.001, 0.999]; levels start
  /// at the binomial distribution of that mean. Throws ShapeError unless there is one mean for each pixel.
  void set_pixel_means(std::span<const double> means);

  /// q(z | x) for x (B, pixels). With a tape its parameters are trained, without they are constants.
  DiagonalGaussian posterior(Tape* tape, const Variable& x) const;
  /// f(z) (..., pixels) for z (..., latent); tape as above. Of G > 2 levels (..., pixels * G), a pixel's side by side.
  Variable logits(Tape* tape, const Variable& z) const;
  /// log p(x_b | z_bs) for x (B, pixels) and the logits of z, (B, S, ...); (B, S). An x between two levels counts as
  /// both, by its distance (between 0 and 1: the same of Bernoulli pixels).
  Variable log_likelihood(const Tensor<float>& x, const Variable& logits) const;
  /// E[x | z], (n, pixels) for logits (n, ...).
  Tensor<float> expected_pixels(const Tensor<float>& logits) const;
  /// x ~ p(x | z), (n, pixels) for logits (n, ...).
  Tensor<float> draw_pixels(const Tensor<float>& logits, const Draws& draws) const;

  struct Evidence {
    /// log (1/S) sum_s p(x_b, z_s) / q(z_s | x_b), an estimate of log p(x_b) from below; (B).
    std::vector<double> log_marginal;
    /// The Pareto k-hat of each datum's weights (pareto_shape()): from 0.7 on the estimate cannot be relied on. Empty
    /// where there are more than 16384 draws.
    std::vector<float> pareto_k;
  };
  /// By importance sampling with q as the proposal, in parts: memory does not grow with the number of draws times that
  /// of the data. Draws follow the seed and a datum's row alone. progress, if given, is told the rows done.
  /// x (B, pixels). Throws ArgumentError if samples < 1, ShapeError. Waits for the device.
  Evidence evidence(const Tensor<float>& x, int64_t samples, uint64_t seed,
                    const std::function<void(int64_t)>& progress = {}) const;

  /// The parameters' values with the widths, as .safetensors; notes go into its metadata. Throws FileError.
  void save(const std::string& path, const std::map<std::string, std::string>& notes = {}) const;
  /// Throws FileError if the file cannot be read or is no such model. notes, if given, gets the metadata.
  static VariationalAutoencoder load(const std::string& path, const Stream& stream,
                                     std::map<std::string, std::string>* notes = nullptr);

 private:
  int64_t pixels_;
  int64_t latent_;
  std::vector<int64_t> hidden_;
  Tensor<float> level_numbers_;  // 0, 1, ..., G - 1
  Parameters parameters_;
  std::optional<Mlp> encoder_;
  std::optional<Mlp> decoder_;
};

/// A batch of images as the estimators see it. The model must outlive it.
///
///   const AutoencoderBatch batch(model, gather_rows(images, minibatch.indices), &minibatch.indices);
///   const ImportanceSampling iwae(batch, batch.proposal(), 50, ImportanceGradient::iwae);
///   const Estimate estimate = iwae(tape, minibatch.draws);
class AutoencoderBatch : public LatentJoint {
 public:
  /// x (B, pixels), entries in [0, 1]; data: each row's number in the data set (B), for the draws; null: the row's.
  /// Throws ShapeError.
  AutoencoderBatch(const VariationalAutoencoder& model, Tensor<float> x, const Tensor<int64_t>* data = nullptr);

  int64_t batch() const override { return x_.shape()[0]; }
  const Stream& stream() const override { return x_.stream(); }
  std::unique_ptr<VectorDistribution> prior(Tape& tape) const override;
  Variable log_likelihood(Tape& tape, const Variable& z) const override;
  const Tensor<int64_t>* data() const override { return data_ ? &*data_ : nullptr; }
  /// The model's q(z | x), trained. The batch must outlive it.
  Proposal proposal() const;
  /// As many dreams as data, for WakeSleep. The batch must outlive it.
  Sleep sleep() const;

 private:
  const VariationalAutoencoder& model_;
  Tensor<float> x_;
  std::optional<Tensor<int64_t>> data_;
};

}  // namespace dgm
