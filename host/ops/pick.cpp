// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/pick.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/pick.hpp"

namespace dgm {

Variable pick(const Variable& x, const Tensor<int32_t>& index) {
  check<ShapeError>(x.shape().rank() == 2, "pick: x has shape ", x.shape().str(), "; (B, K) is needed");
  const int64_t rows = x.shape()[0];
  const int64_t cols = x.shape()[1];
  check<ShapeError>(cols >= 1, "pick: x has shape ", x.shape().str(), "; at least 1 column is needed");
  check<ShapeError>(index.shape().rank() == 2 && index.shape()[0] == rows && index.shape()[1] >= 1,
                    "pick: index has shape ", index.shape().str(), " and x ", x.shape().str(),
                    "; (B, S) with S >= 1 is needed");
  check_same_stream("pick", "x", x.value(), "index", index);
  const int64_t samples = index.shape()[1];

  auto y = Tensor<float>::empty(index.shape(), x.stream());
  run(x.stream(), kernels::PickForward{x.value().data(), index.data(), rows, cols, samples, y.data()});

  return Tape::record(y, {x}, [index, rows, cols, samples](const Tensor<float>& g, Gradients& inputs) {
    auto dx = Tensor<float>::empty({rows, cols}, g.stream());
    run(g.stream(), kernels::PickBackward{g.data(), index.data(), rows, cols, samples, dx.data()});
    inputs.add(0, dx);
  });
}

}  // namespace dgm
