// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/linear_categorical.hpp>

#include "host/core/dispatch.hpp"
#include "kernels/linear_categorical.hpp"

#include <limits>
#include <optional>

namespace dgm {

namespace {

constexpr const char* kName = "linear_categorical";

/// On the host alone: nothing here waits for a device.
void check_on_cpu(const Tensor<int64_t>* offsets, const Tensor<int32_t>& labels, int64_t words) {
  if (labels.device().is_cuda()) return;
  if (offsets != nullptr) {
    const int64_t* const o = offsets->data();
    const int64_t last = offsets->size() - 1;
    check<ArgumentError>(o[0] == 0, kName, ": offsets[0] = ", o[0], "; 0 is needed");
    for (int64_t b = 0; b < last; ++b) {
      check<ArgumentError>(o[b] <= o[b + 1], kName, ": offsets[", b + 1, "] = ", o[b + 1], " but offsets[", b,
                           "] = ", o[b], "; offsets must not decrease");
    }
    check<ArgumentError>(o[last] == labels.size(), kName, ": offsets[", last, "] = ", o[last], " but there are ",
                         labels.size(), " labels");
  }
  for (int64_t e = 0; e < labels.size(); ++e) {
    const int32_t label = labels.data()[e];
    check<ArgumentError>(label >= 0 && label < words, kName, ": labels[", e, "] = ", label, "; 0 <= label < ", words,
                         " is needed");
  }
}

Variable log_probabilities(const Variable& hidden, const Variable& weight, const Variable* bias,
                           const Tensor<int64_t>* offsets, const Tensor<int32_t>& labels, Products products) {
  check<ShapeError>(hidden.shape().rank() == 2, kName, ": hidden has shape ", hidden.shape().str(),
                    "; (B, H) is needed");
  const int64_t rows = hidden.shape()[0];
  const int64_t width = hidden.shape()[1];
  check<ShapeError>(weight.shape().rank() == 2 && weight.shape()[0] >= 1 && weight.shape()[1] == width, kName,
                    ": weight has shape ", weight.shape().str(), "; (V, H) with V >= 1 and H = ", width, " is needed");
  const int64_t words = weight.shape()[0];
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  check<ShapeError>(rows <= kMost && words <= kMost && width <= kMost && labels.size() <= kMost, kName,
                    ": hidden has shape ", hidden.shape().str(), ", weight ", weight.shape().str(), " and labels ",
                    labels.shape().str(), "; extents below 2^31 are needed");
  check_same_stream(kName, "hidden", hidden.value(), "weight", weight.value());
  if (bias != nullptr) {
    check_shape(kName, "bias", bias->value(), {words}, "(V)");
    check_same_stream(kName, "hidden", hidden.value(), "bias", bias->value());
  }
  if (offsets != nullptr) {
    check_shape(kName, "offsets", *offsets, {rows + 1}, "(B + 1)");
    check_same_stream(kName, "hidden", hidden.value(), "offsets", *offsets);
    check<ShapeError>(labels.shape().rank() == 1, kName, ": labels has shape ", labels.shape().str(),
                      "; (E) is needed");
  } else {
    check_shape(kName, "labels", labels, {rows}, "(B)");
  }
  check_same_stream(kName, "hidden", hidden.value(), "labels", labels);
  check_on_cpu(offsets, labels, words);

  const Stream& stream = hidden.stream();
  auto y = Tensor<float>::empty({labels.size()}, stream);
  auto log_normaliser = Tensor<float>::empty({rows}, stream);
  // What it holds stays alive with it.
  const auto launch = [h = hidden.value(), w = weight.value(),
                       c = bias != nullptr ? std::optional(bias->value()) : std::nullopt,
                       o = offsets != nullptr ? std::optional(*offsets) : std::nullopt, labels, products] {
    return kernels::LinearCategorical{h.data(),
                                      w.data(),
                                      c ? c->data() : nullptr,
                                      h.shape()[0],
                                      h.shape()[1],
                                      w.shape()[0],
                                      o ? o->data() : nullptr,
                                      labels.data(),
                                      labels.size(),
                                      products == Products::kBfloat16IfFaster};
  };
  if (labels.size() > 0) {
    run(stream, kernels::LinearCategoricalForward{launch(), log_normaliser.data(), y.data()});
  }

  std::vector<Variable> inputs = {hidden, weight};
  if (bias != nullptr) inputs.push_back(*bias);
  return Tape::record(y, inputs, [=, has_bias = bias != nullptr](const Tensor<float>& g, Gradients& gradients) {
    const kernels::LinearCategorical model = launch();
    const bool any = model.entries > 0;
    const auto make = [&](bool wanted, Shape shape) {
      if (!wanted) return std::optional<Tensor<float>>();
      return std::optional(any ? Tensor<float>::empty(std::move(shape), g.stream())
                               : Tensor<float>::zeros(std::move(shape), g.stream()));
    };
    auto d_hidden = make(gradients.wanted(0), {model.rows, model.width});
    auto d_weight = make(gradients.wanted(1), {model.words, model.width});
    auto d_bias = make(has_bias && gradients.wanted(2), {model.words});
    const auto data = [](std::optional<Tensor<float>>& tensor) { return tensor ? tensor->data() : nullptr; };
    if (any) {
      run(g.stream(), kernels::LinearCategoricalBackward{model, log_normaliser.data(), y.data(), g.data(),
                                                         data(d_hidden), data(d_weight), data(d_bias)});
    }
    if (d_hidden) gradients.add(0, *d_hidden);
    if (d_weight) gradients.add(1, *d_weight);
    if (d_bias) gradients.add(2, *d_bias);
  });
}

}  // namespace

Variable linear_categorical(const Variable& hidden, const Variable& weight, const Variable& bias,
                            const Tensor<int32_t>& labels, Products products) {
  return log_probabilities(hidden, weight, &bias, nullptr, labels, products);
}

Variable linear_categorical(const Variable& hidden, const Variable& weight, const Tensor<int32_t>& labels,
                            Products products) {
  return log_probabilities(hidden, weight, nullptr, nullptr, labels, products);
}

Variable linear_categorical(const Variable& hidden, const Variable& weight, const Variable& bias,
                            const Tensor<int64_t>& offsets, const Tensor<int32_t>& labels, Products products) {
  return log_probabilities(hidden, weight, &bias, &offsets, labels, products);
}

Variable linear_categorical(const Variable& hidden, const Variable& weight, const Tensor<int64_t>& offsets,
                            const Tensor<int32_t>& labels, Products products) {
  return log_probabilities(hidden, weight, nullptr, &offsets, labels, products);
}

}  // namespace dgm
