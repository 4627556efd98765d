// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/embedding.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/embedding.hpp"

#include <limits>

namespace dgm {

Variable embedding(const Variable& table, const Tensor<int32_t>& ids) {
  check<ShapeError>(table.shape().rank() == 2, "embedding: table has shape ", table.shape().str(),
                    "; (V, D) is needed");
  check<ShapeError>(ids.size() <= std::numeric_limits<int32_t>::max(), "embedding: ids has shape ", ids.shape().str(),
                    "; fewer than 2^31 ids are needed");
  check_same_stream("embedding", "table", table.value(), "ids", ids);
  const int64_t vocabulary = table.shape()[0];
  const int64_t dims = table.shape()[1];
  std::vector<int64_t> extents = ids.shape().extents();
  extents.push_back(dims);
  auto y = Tensor<float>::empty(Shape(std::move(extents)), ids.stream());
  run(ids.stream(), kernels::Embedding{table.value().data(), ids.data(), vocabulary, dims, ids.size(), y.data()});
  return Tape::record(std::move(y), {table}, [=](const Tensor<float>& g, Gradients& inputs) {
    const Stream& stream = g.stream();
    const int64_t sorted = stream.device().is_cuda() ? kernels::EmbeddingGradient::sorted_size(ids.size()) : 0;
    auto keys = Tensor<int64_t>::empty({sorted}, stream);
    auto d_table = Tensor<float>::empty({vocabulary, dims}, stream);
    run(stream, kernels::EmbeddingGradient{g.data(), ids.data(), vocabulary, dims, ids.size(),
                                           reinterpret_cast<uint64_t*>(keys.data()), d_table.data()});
    inputs.add(0, std::move(d_table));
  });
}

void check_ids(const Tensor<int32_t>& ids, int64_t vocabulary) {
  const std::vector<int32_t> values = ids.to_host();
  for (std::size_t i = 0; i < values.size(); ++i) {
    check<ArgumentError>(values[i] >= 0 && values[i] < vocabulary, "check_ids: ids[", i, "] = ", values[i],
                         "; 0 <= id < ", vocabulary, " is needed");
  }
}

}  // namespace dgm
