// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/data/standardisation.hpp>

#include "host/core/check.hpp"

#include <cmath>

namespace dgm {

Standardisation Standardisation::of(const Table& table) {
  check<ArgumentError>(table.rows >= 1, "Standardisation::of: the table has no rows; at least 1 is needed");
  Standardisation result = {std::vector<double>(table.cols), std::vector<double>(table.cols)};
  const auto rows = static_cast<double>(table.rows);
  for (std::size_t i = 0; i < table.values.size(); ++i) result.shift[i % table.cols] += table.values[i];
  for (double& mean : result.shift) mean /= rows;
  for (std::size_t i = 0; i < table.values.size(); ++i) {
    const double gap = table.values[i] - result.shift[i % table.cols];
    result.scale[i % table.cols] += gap * gap;
  }
  for (std::size_t d = 0; d < table.cols; ++d) {
    // A constant column leaves only the rounding of its mean, which is no scale.
    const double deviation = std::sqrt(result.scale[d] / rows);
    result.scale[d] = deviation > 1e-14 * std::abs(result.shift[d]) ? deviation : 1.0;
  }
  return result;
}

std::vector<float> Standardisation::apply(const Table& table) const {
  check<ShapeError>(table.cols == shift.size(), "Standardisation::apply: the table has ", table.cols, " columns; ",
                    shift.size(), " are needed");
  std::vector<float> result(table.values.size());
  for (std::size_t i = 0; i < result.size(); ++i) {
    const std::size_t d = i % table.cols;
    result[i] = static_cast<float>((table.values[i] - shift[d]) / scale[d]);
  }
  return result;
}

double Standardisation::log_volume() const {
  double sum = 0;
  for (const double s : scale) sum += std::log(s);
  return sum;
}

}  // namespace dgm
