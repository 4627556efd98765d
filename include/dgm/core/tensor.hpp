// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/core/error.hpp>
#include <dgm/core/stream.hpp>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// Extents of a row-major array, the last axis contiguous. Rank 0 is one number. No extent is
/// negative; any may be 0.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> extents) : Shape(std::vector<int64_t>(extents)) {}
  /// Throws ShapeError for a negative extent or more than 2^62 elements.
  explicit Shape(std::vector<int64_t> extents);

  int rank() const { return static_cast<int>(extents_.size()); }
  /// Extent of an axis; a negative axis counts from the end. Throws ShapeError if there is none.
  int64_t operator[](int axis) const;
  /// Number of elements.
  int64_t size() const;
  /// Product of all extents but the last: the rows that a last-axis op works on (1 for rank 0, 1).
  int64_t rows() const;
  /// The last extent (1 for rank 0).
  int64_t cols() const;
  /// This shape without its last axis.
  Shape without_last() const;
  const std::vector<int64_t>& extents() const { return extents_; }
  /// "(64, 10)".
  std::string str() const;

  friend bool operator==(const Shape&, const Shape&) = default;

 private:
  std::vector<int64_t> extents_;
};

namespace detail {

/// Device memory on a stream: 64-byte aligned on the CPU, 256 on CUDA. Freed, stream-ordered, to
/// the stream's pool.
class Buffer {
 public:
  Buffer(Stream stream, std::size_t bytes);
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }
  const Stream& stream() const { return stream_; }

 private:
  Stream stream_;
  std::size_t bytes_;
  void* data_;
};

void copy_bytes(void* to, const Stream& to_stream, const void* from, const Stream& from_stream, std::size_t bytes);
void copy_from_host(void* to, const Stream& stream, const void* host, std::size_t bytes);
void copy_to_host(void* host, const void* from, const Stream& stream, std::size_t bytes);
void fill_zero(void* to, const Stream& stream, std::size_t bytes);

}  // namespace detail

/// A row-major array of T (float, double, int32_t, int64_t, uint8_t) on a stream.
///
/// A handle: copies share storage, as do reshape() and rows(); clone() and to() copy. Ops never
/// write to their inputs, so sharing is safe; data() is the one way to write in place.
/// All inputs of one op must be on one stream, which the op is then ordered on.
template <class T>
class Tensor {
 public:
  /// Uninitialised. Throws OutOfMemory.
  static Tensor empty(Shape shape, const Stream& stream);
  static Tensor zeros(Shape shape, const Stream& stream);
  static Tensor full(Shape shape, T value, const Stream& stream);
  /// Throws ShapeError if values has not the shape's size.
  static Tensor from(std::span<const T> values, Shape shape, const Stream& stream);
  static Tensor from(std::initializer_list<T> values, Shape shape, const Stream& stream) {
    return from(std::span<const T>(values.begin(), values.size()), std::move(shape), stream);
  }

  const Shape& shape() const { return shape_; }
  int64_t size() const { return shape_.size(); }
  const Stream& stream() const { return buffer_->stream(); }
  Device device() const { return stream().device(); }
  /// Device pointer to the first element; never null for a tensor with elements.
  T* data() { return static_cast<T*>(buffer_->data()) + offset_; }
  const T* data() const { return static_cast<const T*>(buffer_->data()) + offset_; }

  /// The same elements under another shape. Throws ShapeError if the sizes differ.
  Tensor reshape(Shape shape) const;
  /// Entries begin..end-1 of the first axis, sharing storage. Throws ShapeError out of range.
  Tensor rows(int64_t begin, int64_t end) const;
  /// A copy on a stream; waits for this tensor's stream if the two differ.
  Tensor to(const Stream& stream) const;
  Tensor clone() const { return to(stream()); }
  /// Copies into this storage. Throws ShapeError if the shapes differ.
  void copy_from(const Tensor& other);
  /// Waits for the stream and copies to the host.
  std::vector<T> to_host() const;
  /// The one element. Throws ShapeError if there is not exactly one. Waits for the stream.
  T item() const;

 private:
  Tensor(std::shared_ptr<detail::Buffer> buffer, int64_t offset, Shape shape)
      : buffer_(std::move(buffer)), offset_(offset), shape_(std::move(shape)) {}
  std::shared_ptr<detail::Buffer> buffer_;
  int64_t offset_;
  Shape shape_;
};

extern template class Tensor<float>;
extern template class Tensor<double>;
extern template class Tensor<int32_t>;
extern template class Tensor<int64_t>;
extern template class Tensor<uint8_t>;

}  // namespace dgm
