// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/ragged.hpp>

#include "host/core/check.hpp"

#include <algorithm>

namespace dgm {

namespace {

int64_t check_offsets(const std::vector<int64_t>& offsets, int64_t values) {
  check<ArgumentError>(!offsets.empty(), "Ragged: offsets is empty; batch + 1 entries are needed");
  check<ArgumentError>(offsets.front() == 0, "Ragged: offsets[0] = ", offsets.front(), "; 0 is needed");
  int64_t longest = 0;
  for (std::size_t i = 1; i < offsets.size(); ++i) {
    check<ArgumentError>(offsets[i] >= offsets[i - 1], "Ragged: offsets[", i, "] = ", offsets[i], " but offsets[",
                         i - 1, "] = ", offsets[i - 1], "; offsets must not decrease");
    longest = std::max(longest, offsets[i] - offsets[i - 1]);
  }
  check<ArgumentError>(offsets.back() == values, "Ragged: offsets[", offsets.size() - 1, "] = ", offsets.back(),
                       " but there are ", values, " values; the last offset must be their number");
  return longest;
}

}  // namespace

template <class T>
Ragged<T>::Ragged(Tensor<T> values, const std::vector<int64_t>& offsets)
    : values_(std::move(values)),
      offsets_(Tensor<int64_t>::from(offsets, {static_cast<int64_t>(offsets.size())}, values_.stream())),
      longest_(check_offsets(offsets, values_.size())) {
  check<ShapeError>(values_.shape().rank() == 1, "Ragged: values has shape ", values_.shape().str(),
                    "; rank 1 is needed");
}

template <class T>
Ragged<T> Ragged<T>::from(const std::vector<std::vector<T>>& sequences, const Stream& stream) {
  std::vector<T> values;
  std::vector<int64_t> offsets = {0};
  for (const auto& sequence : sequences) {
    values.insert(values.end(), sequence.begin(), sequence.end());
    offsets.push_back(static_cast<int64_t>(values.size()));
  }
  const auto total = static_cast<int64_t>(values.size());
  return Ragged(Tensor<T>::from(values, {total}, stream), offsets);
}

template <class T>
std::vector<std::vector<T>> Ragged<T>::to_host() const {
  const std::vector<T> values = values_.to_host();
  const std::vector<int64_t> offsets = offsets_.to_host();
  std::vector<std::vector<T>> sequences;
  for (std::size_t b = 0; b + 1 < offsets.size(); ++b) {
    sequences.emplace_back(values.begin() + offsets[b], values.begin() + offsets[b + 1]);
  }
  return sequences;
}

template class Ragged<float>;
template class Ragged<int32_t>;

}  // namespace dgm
