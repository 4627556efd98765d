// SPDX-License-Identifier: Apache-2.0
#include <dgm/nn/initialiser.hpp>

#include "host/core/check.hpp"
#include "kernels/math/philox.hpp"

#include <cmath>

namespace dgm {

Initialiser Initialiser::constant(float value) { return {Kind::kConstant, Width::kFixed, value}; }
Initialiser Initialiser::uniform(float bound) { return {Kind::kUniform, Width::kFixed, bound}; }
Initialiser Initialiser::normal(float deviation) { return {Kind::kNormal, Width::kFixed, deviation}; }
Initialiser Initialiser::glorot_uniform() { return {Kind::kUniform, Width::kFanInAndOut, std::sqrt(6.0)}; }
Initialiser Initialiser::he_uniform() { return {Kind::kUniform, Width::kFanIn, std::sqrt(6.0)}; }
Initialiser Initialiser::he_normal() { return {Kind::kNormal, Width::kFanIn, std::sqrt(2.0)}; }

Tensor<float> Initialiser::operator()(const Shape& shape, uint64_t seed, int64_t site, const Stream& stream) const {
  check<ArgumentError>(0 <= site && site < 65536, "Initialiser: site is ", site, "; 0 <= site < 65536 is needed");
  const int64_t rows = shape.rows();
  const int64_t cols = shape.cols();
  double scale = scale_;
  if (width_ != Width::kFixed) {
    const int64_t fan = width_ == Width::kFanIn ? cols : cols + rows;
    scale /= std::sqrt(static_cast<double>(std::max<int64_t>(fan, 1)));
  }
  std::vector<float> values(static_cast<std::size_t>(shape.size()), static_cast<float>(scale));
  if (kind_ == Kind::kConstant) return Tensor<float>::from(values, shape, stream);

  const auto width = static_cast<float>(scale);
  const int64_t in_block = kind_ == Kind::kUniform ? 4 : 2;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; c += in_block) {
      const PhiloxWords words =
          draw_words(seed, {static_cast<uint64_t>(site), static_cast<uint64_t>(r), static_cast<uint64_t>(kInitialStep),
                            static_cast<uint32_t>(c / in_block)});
      float drawn[4];
      if (kind_ == Kind::kUniform) {
        for (int j = 0; j < 4; ++j) drawn[j] = width * (2.0f * uniform_from_word(words.w[j]) - 1.0f);
      } else {
        const NormalPair normals = normals_from_words(words.w[0], words.w[1]);
        drawn[0] = width * normals.first;
        drawn[1] = width * normals.second;
      }
      for (int64_t j = 0; j < in_block && c + j < cols; ++j) {
        values[static_cast<std::size_t>(r * cols + c + j)] = drawn[j];
      }
    }
  }
  return Tensor<float>::from(values, shape, stream);
}

}  // namespace dgm
