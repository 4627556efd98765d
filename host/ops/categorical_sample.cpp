// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/categorical_sample.hpp>

#include "host/core/dispatch.hpp"
#include "host/core/draw_args.hpp"
#include "kernels/categorical_sample.hpp"

namespace dgm {

Tensor<int32_t> categorical_sample(const Tensor<float>& logits, const Draws& draws, int64_t samples,
                                   const Tensor<int64_t>* data) {
  constexpr const char* kName = "categorical_sample";
  check<ShapeError>(logits.shape().rank() == 2, kName, ": logits has shape ", logits.shape().str(),
                    "; (B, K) is needed");
  const int64_t rows = logits.shape()[0];
  const int64_t cols = logits.shape()[1];
  check<ShapeError>(cols >= 1, kName, ": logits has shape ", logits.shape().str(), "; at least 1 column is needed");
  check<ArgumentError>(samples >= 1, kName, ": samples is ", samples, "; at least 1 is needed");
  check_same_stream(kName, "logits", logits, "draws.step()", draws.step());
  if (data != nullptr) {
    check_shape(kName, "data", *data, {rows}, "(B)");
    check_same_stream(kName, "logits", logits, "data", *data);
  }
  auto z = Tensor<int32_t>::empty({rows, samples}, logits.stream());
  run(logits.stream(), kernels::CategoricalSample{logits.data(), rows, cols, data != nullptr ? data->data() : nullptr,
                                                  samples, draw_args(draws), z.data()});
  return z;
}

}  // namespace dgm
