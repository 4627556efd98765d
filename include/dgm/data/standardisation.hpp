// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/table.hpp>

#include <vector>

namespace dgm {

/// Columns shifted and scaled to mean 0 and standard deviation 1, remembered so that new data can be
/// treated the same and densities given in the data's own units.
struct Standardisation {
  std::vector<double> shift;  // (D), the means
  std::vector<double> scale;  // (D), the standard deviations, over N; 1 for a constant column

  /// Of a table's columns. Throws ArgumentError for a table without rows.
  static Standardisation of(const Table& table);
  /// (x - shift) / scale, computed in double; rows x D. Throws ShapeError unless the table has D columns.
  std::vector<float> apply(const Table& table) const;
  /// A standardised value of column d in the data's units.
  double restore(std::size_t d, double value) const { return value * scale[d] + shift[d]; }
  /// sum_d log scale_d: the log density of a row in the data's units is that of the standardised row
  /// less this.
  double log_volume() const;
};

}  // namespace dgm
