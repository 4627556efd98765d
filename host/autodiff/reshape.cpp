// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>

namespace dgm {

Variable reshape(const Variable& x, const Shape& shape) {
  return Tape::record(x.value().reshape(shape), {x}, [from = x.shape()](const Tensor<float>& g, Gradients& inputs) {
    inputs.add(0, g.reshape(from));
  });
}

}  // namespace dgm
