// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// Element types of stored tensors.
enum class Dtype { f32, f64, i32, i64, u8 };

std::size_t dtype_bytes(Dtype dtype);
/// As the format writes it: "F32", "I64", ...
std::string dtype_name(Dtype dtype);

/// A tensor as it lies in a file: row-major, little endian, on no device.
struct StoredTensor {
  Dtype dtype = Dtype::f32;
  std::vector<std::int64_t> shape;  // empty for a single number
  std::vector<std::byte> bytes;

  /// From and to numbers; T is float, double, int32_t, int64_t or uint8_t.
  /// Throws    ShapeError if the shape does not hold that many values; as() ArgumentError if T is not the type stored.
  template <class T>
  static StoredTensor of(std::span<const T> values, std::vector<std::int64_t> shape);
  template <class T>
  static StoredTensor of(const std::vector<T>& values, std::vector<std::int64_t> shape) {
    return of(std::span<const T>(values), std::move(shape));
  }
  template <class T>
  static StoredTensor scalar(T value) {
    return of(std::span<const T>(&value, 1), {});
  }
  template <class T>
  std::vector<T> as() const;

  friend bool operator==(const StoredTensor&, const StoredTensor&) = default;
};

/// Content of a .safetensors file.
struct SafeTensors {
  std::map<std::string, StoredTensor> tensors;
  std::map<std::string, std::string> metadata;

  /// The tensor of that name. Throws ArgumentError naming those there are.
  const StoredTensor& at(const std::string& name) const;
};

/// Writes a .safetensors file that any other implementation can open; every tensor is aligned to its element.
/// All or nothing, as write_file(): after an error or a crash the old file is there, complete.
///
/// Throws    FileError (no space, not permitted, ...); ShapeError if bytes do not fit dtype and shape;
///           ArgumentError for the reserved name "__metadata__" or text that is not UTF-8.
/// Source    github.com/huggingface/safetensors, section Format of its README.
void write_safetensors(const std::string& path, const std::map<std::string, StoredTensor>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

/// Reads and validates a .safetensors file: header, types, shapes, and that the tensors fill the data without gap or
/// overlap.
///
/// Throws    FileError saying what is wrong, whatever the bytes.
SafeTensors read_safetensors(const std::string& path);

}  // namespace dgm
