// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/standardisation.hpp>
#include <dgm/models/gaussian_mixture.hpp>

#include <string>
#include <vector>

namespace dgm {

/// A mixture of standardised columns: what is kept of a fit so that new tables can be scored,
/// assigned and compared in their own units.
struct StandardisedMixture {
  GaussianMixture mixture;
  Standardisation standardisation;
  std::vector<std::string> columns;  ///< their names; empty if the data had none

  /// The table's rows as the mixture takes them, (N, D) on its stream.
  /// Throws ShapeError that names both counts unless the table has the mixture's number of columns.
  Tensor<float> standardised(const Table& table) const;
  /// log p(x_n) of each row, in nats, for densities in the table's units.
  std::vector<double> log_prob(const Table& table) const;
  /// Weights (K), means (K, D) and covariances (K, D, D) in the table's units.
  std::vector<double> weights() const { return mixture.weights(); }
  std::vector<double> means() const;
  std::vector<double> covariances() const;

  /// Writes a .safetensors file; all or nothing. Throws FileError.
  void save(const std::string& path) const;
  /// Throws FileError that names the file and what is wrong with it.
  static StandardisedMixture load(const std::string& path, const Stream& stream);
};

}  // namespace dgm
