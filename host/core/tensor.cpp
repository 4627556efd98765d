// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/tensor.hpp>

#include "host/core/check.hpp"
#include "host/core/dispatch.hpp"
#include "host/core/stream_state.hpp"
#include "kernels/accumulate.hpp"
#include "kernels/runtime.hpp"

#include <algorithm>
#include <cstring>

namespace dgm {

Shape::Shape(std::vector<int64_t> extents) : extents_(std::move(extents)) {
  constexpr int64_t kMost = int64_t{1} << 62;
  int64_t size = 1;
  for (const int64_t extent : extents_) {
    check<ShapeError>(extent >= 0, "Shape: extent ", extent, " in ", str(), "; no extent may be negative");
    check<ShapeError>(extent == 0 || size <= kMost / extent, "Shape: ", str(), " has more than 2^62 elements");
    size *= std::max<int64_t>(extent, 1);
  }
}

int64_t Shape::operator[](int axis) const {
  const int positive = axis < 0 ? axis + rank() : axis;
  check<ShapeError>(positive >= 0 && positive < rank(), "Shape: axis ", axis, " of ", str(), " of rank ", rank());
  return extents_[static_cast<std::size_t>(positive)];
}

int64_t Shape::size() const {
  int64_t size = 1;
  for (const int64_t extent : extents_) size *= extent;
  return size;
}

int64_t Shape::rows() const {
  int64_t rows = 1;
  for (std::size_t i = 0; i + 1 < extents_.size(); ++i) rows *= extents_[i];
  return rows;
}

int64_t Shape::cols() const { return extents_.empty() ? 1 : extents_.back(); }

Shape Shape::without_last() const {
  if (extents_.empty()) return {};
  return Shape(std::vector<int64_t>(extents_.begin(), extents_.end() - 1));
}

std::string Shape::str() const {
  std::string result = "(";
  for (std::size_t i = 0; i < extents_.size(); ++i) {
    if (i > 0) result += ", ";
    result += std::to_string(extents_[i]);
  }
  return result + (extents_.size() == 1 ? ",)" : ")");
}

namespace detail {

Buffer::Buffer(Stream stream, std::size_t bytes)
    : stream_(std::move(stream)), bytes_(bytes), data_(stream_.state().pool.allocate(bytes)) {}

Buffer::~Buffer() { stream_.state().pool.release(data_, bytes_); }

void copy_bytes(void* to, const Stream& to_stream, const void* from, const Stream& from_stream, std::size_t bytes) {
  if (bytes == 0) return;
  if (!(to_stream == from_stream)) from_stream.synchronize();
  if (to_stream.device().is_cuda()) {
    cuda::copy(to_stream.device().index(), to, from, bytes, to_stream.native());
  } else if (from_stream.device().is_cuda()) {
    copy_to_host(to, from, from_stream, bytes);
  } else {
    std::memmove(to, from, bytes);
  }
}

void copy_from_host(void* to, const Stream& stream, const void* host, std::size_t bytes) {
  if (bytes == 0) return;
  // A replay would read the host memory again, long after it is gone.
  check<ArgumentError>(!stream.state().pool.capturing(),
                       "copy from the host: the stream is being captured in a graph; make the tensor before");
  if (stream.device().is_cuda()) {
    cuda::copy(stream.device().index(), to, host, bytes, stream.native());
  } else {
    std::memcpy(to, host, bytes);
  }
}

void copy_to_host(void* host, const void* from, const Stream& stream, std::size_t bytes) {
  if (bytes == 0) return;
  refuse_to_wait_in_capture(stream);
  if (stream.device().is_cuda()) {
    cuda::copy(stream.device().index(), host, from, bytes, stream.native());
    stream.synchronize();
  } else {
    std::memcpy(host, from, bytes);
  }
}

void fill_zero(void* to, const Stream& stream, std::size_t bytes) {
  if (bytes == 0) return;
  if (stream.device().is_cuda()) {
    cuda::fill_zero(stream.device().index(), to, bytes, stream.native());
  } else {
    std::memset(to, 0, bytes);
  }
}

}  // namespace detail

namespace {

template <class T>
std::size_t bytes_of(const Shape& shape) {
  return static_cast<std::size_t>(shape.size()) * sizeof(T);
}

}  // namespace

template <class T>
Tensor<T> Tensor<T>::empty(Shape shape, const Stream& stream) {
  auto buffer = std::make_shared<detail::Buffer>(stream, bytes_of<T>(shape));
  return Tensor(std::move(buffer), 0, std::move(shape));
}

template <class T>
Tensor<T> Tensor<T>::zeros(Shape shape, const Stream& stream) {
  Tensor result = empty(std::move(shape), stream);
  detail::fill_zero(result.data(), stream, bytes_of<T>(result.shape_));
  return result;
}

template <class T>
Tensor<T> Tensor<T>::full(Shape shape, T value, const Stream& stream) {
  if constexpr (std::is_same_v<T, float>) {
    Tensor result = empty(std::move(shape), stream);
    run(stream, kernels::Fill{value, result.size(), result.data()});
    return result;
  }
  const std::vector<T> values(static_cast<std::size_t>(shape.size()), value);
  return from(values, std::move(shape), stream);
}

template <class T>
Tensor<T> Tensor<T>::from(std::span<const T> values, Shape shape, const Stream& stream) {
  check<ShapeError>(static_cast<int64_t>(values.size()) == shape.size(), "Tensor::from: ", values.size(),
                    " values for shape ", shape.str(), ", which has ", shape.size());
  Tensor result = empty(std::move(shape), stream);
  detail::copy_from_host(result.data(), stream, values.data(), values.size_bytes());
  return result;
}

template <class T>
Tensor<T> Tensor<T>::reshape(Shape shape) const {
  check<ShapeError>(shape.size() == size(), "Tensor::reshape: ", shape_.str(), " has ", size(), " elements, ",
                    shape.str(), " has ", shape.size());
  return Tensor(buffer_, offset_, std::move(shape));
}

template <class T>
Tensor<T> Tensor<T>::rows(int64_t begin, int64_t end) const {
  check<ShapeError>(shape_.rank() >= 1, "Tensor::rows: the tensor has rank 0; a first axis is needed");
  check<ShapeError>(0 <= begin && begin <= end && end <= shape_[0], "Tensor::rows: [", begin, ", ", end, ") of shape ",
                    shape_.str(), "; 0 <= begin <= end <= ", shape_[0], " is needed");
  std::vector<int64_t> extents = shape_.extents();
  const int64_t stride = shape_[0] == 0 ? 0 : size() / shape_[0];
  extents[0] = end - begin;
  return Tensor(buffer_, offset_ + begin * stride, Shape(std::move(extents)));
}

template <class T>
Tensor<T> Tensor<T>::to(const Stream& stream) const {
  Tensor result = empty(shape_, stream);
  detail::copy_bytes(result.data(), stream, data(), this->stream(), bytes_of<T>(shape_));
  return result;
}

template <class T>
void Tensor<T>::copy_from(const Tensor& other) {
  check<ShapeError>(other.shape_ == shape_, "Tensor::copy_from: other has shape ", other.shape_.str(), "; ",
                    shape_.str(), " is needed");
  detail::copy_bytes(data(), stream(), other.data(), other.stream(), bytes_of<T>(shape_));
}

template <class T>
std::vector<T> Tensor<T>::to_host() const {
  std::vector<T> values(static_cast<std::size_t>(size()));
  detail::copy_to_host(values.data(), data(), stream(), values.size() * sizeof(T));
  return values;
}

template <class T>
T Tensor<T>::item() const {
  check<ShapeError>(size() == 1, "Tensor::item: the tensor has shape ", shape_.str(), "; exactly 1 element is needed");
  return to_host()[0];
}

template class Tensor<float>;
template class Tensor<double>;
template class Tensor<int32_t>;
template class Tensor<int64_t>;
template class Tensor<uint8_t>;

}  // namespace dgm
