// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/dropout.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/dropout.hpp"

#include <cmath>
#include <optional>

namespace dgm {

Variable dropout(const Variable& x, float p, const Draws& draws, bool training, const Tensor<int64_t>* data) {
  check<ArgumentError>(p >= 0.0f && p < 1.0f, "dropout: p is ", p, "; 0 <= p < 1 is needed");
  const int64_t rows = x.shape().rows();
  check_same_stream("dropout", "x", x.value(), "draws", draws.step());
  if (data != nullptr) {
    check_shape("dropout", "data", *data, {rows}, "(rows of x)");
    check_same_stream("dropout", "x", x.value(), "data", *data);
  }
  if (!training || p == 0.0f) return x;

  const auto threshold = static_cast<uint32_t>(std::floor(static_cast<double>(p) * 0x1p32 + 0.5));
  const auto scale = static_cast<float>(1.0 / (1.0 - static_cast<double>(p)));
  const auto apply = [=, draws = draws, cols = x.shape().cols(),
                      data = data != nullptr ? std::optional(*data) : std::nullopt](const Tensor<float>& from) {
    auto to = Tensor<float>::empty(from.shape(), from.stream());
    run(from.stream(), kernels::Dropout{from.data(), rows, cols, data ? data->data() : nullptr, threshold, scale,
                                        draw_args(draws), to.data()});
    return to;
  };
  return Tape::record(apply(x.value()), {x},
                      [apply](const Tensor<float>& g, Gradients& inputs) { inputs.add(0, apply(g)); });
}

}  // namespace dgm
