// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// A dense array of any number of axes, row-major.
struct Array {
  std::vector<std::int64_t> shape;
  std::vector<double> values;
};

/// Reads .npy or idx, plain or gzip, keeping the shape. Zero-sized axes and values that are not finite are accepted.
/// Throws FileError.
Array read_array(const std::string& path);

/// Reads all arrays of an .npz archive (stored or deflated). Throws FileError.
std::map<std::string, Array> read_npz(const std::string& path);

/// Writes .npy version 1, C order. All or nothing, as write_file().
/// Throws    FileError; ShapeError if the product of shape is not the number of values.
void write_npy(const std::string& path, std::span<const double> values, const std::vector<std::int64_t>& shape);
void write_npy(const std::string& path, std::span<const float> values, const std::vector<std::int64_t>& shape);
void write_npy(const std::string& path, std::span<const std::int32_t> values, const std::vector<std::int64_t>& shape);

}  // namespace dgm
