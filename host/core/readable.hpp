// SPDX-License-Identifier: Apache-2.0
// Host arrays where launches can read them.
#pragma once

#include <dgm/core/tensor.hpp>

#include <optional>
#include <span>

namespace dgm {

/// A host array as the launches of a stream read it: itself on the CPU, a copy on a GPU. Both must live until the
/// launches that read it are queued; on another stream than its own, until they are done.
template <class T>
class Readable {
 public:
  Readable(std::span<const T> values, const Stream& stream) : data_(values.data()) {
    if (!stream.device().is_cuda()) return;
    copy_.emplace(stream, values.size_bytes());
    detail::copy_from_host(copy_->data(), stream, values.data(), values.size_bytes());
    data_ = static_cast<const T*>(copy_->data());
  }
  const T* data() const { return data_; }

 private:
  std::optional<detail::Buffer> copy_;
  const T* data_;
};

template <class Vector>
Readable(const Vector&, const Stream&) -> Readable<typename Vector::value_type>;

}  // namespace dgm
