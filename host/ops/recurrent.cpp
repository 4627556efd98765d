// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/recurrent.hpp>

#include "host/ops/gemm.hpp"
#include "host/ops/sum_axis.hpp"
#include "kernels/embedding.hpp"
#include "kernels/minibatch.hpp"
#include "kernels/recurrent.hpp"
#include "kernels/sequences.hpp"

namespace dgm {

namespace {

using kernels::Cell;

// Rows (B, C) by a permutation, or as they are where it is none.
Tensor<float> reordered(const Tensor<float>& x, const SequenceLayout& layout, const Tensor<int64_t>& order) {
  if (layout.sorted()) return x;
  auto y = Tensor<float>::empty(x.shape(), x.stream());
  run(x.stream(),
      kernels::GatherRows<float>{x.data(), x.shape()[0], x.shape()[1], order.data(), order.size(), 0.0f, y.data()});
  return y;
}

const float* data_of(const std::optional<Tensor<float>>& x) { return x ? x->data() : nullptr; }

struct States {
  Variable h;
  Tensor<float> c;
};

States recurrence(const char* function, Cell cell, const SequenceLayout& layout, const Variable& input,
                  const Variable& weight, const std::optional<Variable>& bias, const RecurrentOptions& options,
                  const std::optional<Variable>& c0) {
  const int64_t parts = kernels::parts_of(cell);
  const char* const needs = cell == Cell::lstm ? "(4 H, H)" : "(3 H, H)";
  check<ShapeError>(
      weight.shape().rank() == 2 && weight.shape()[1] >= 1 && weight.shape()[0] == parts * weight.shape()[1], function,
      ": weight has shape ", weight.shape().str(), "; ", needs, " with H >= 1 is needed");
  const int64_t hidden = weight.shape()[1];
  const int64_t width = parts * hidden;
  const int64_t batch = layout.batch();
  const int64_t total = layout.total();
  const Tensor<int64_t>& on_layout = layout.index().step_begin;
  check<ShapeError>(input.shape().rank() == 2 && input.shape()[1] == width, function, ": input has shape ",
                    input.shape().str(), "; (N, ", width, ") is needed for weight ", weight.shape().str());
  if (options.rows != nullptr) {
    check_shape(function, "rows", *options.rows, {total}, "(T)");
    check_same_stream(function, "layout", on_layout, "rows", *options.rows);
  } else {
    check<ShapeError>(input.shape()[0] == total, function, ": input has shape ", input.shape().str(), "; (T, ", width,
                      ") with T = ", total, " is needed");
  }
  check_same_stream(function, "layout", on_layout, "input", input.value());
  check_same_stream(function, "layout", on_layout, "weight", weight.value());
  const auto check_each = [&](const char* name, const std::optional<Variable>& x, int64_t cols, const char* shape) {
    if (!x) return;
    check_shape(function, name, x->value(), {batch, cols}, shape);
    check_same_stream(function, "layout", on_layout, name, x->value());
  };
  check_each("context", options.context, width, cell == Cell::lstm ? "(B, 4 H)" : "(B, 3 H)");
  check_each("h0", options.h0, hidden, "(B, H)");
  check_each("c0", c0, hidden, "(B, H)");
  if (bias) {
    check_shape(function, "bias", bias->value(), {width}, "(3 H)");
    check_same_stream(function, "layout", on_layout, "bias", bias->value());
  }

  // Inputs of the tape by their place; those that are not there stand for none.
  std::vector<Variable> inputs = {input, weight};
  const auto place_of = [&](const std::optional<Variable>& x) {
    if (!x) return -1;
    inputs.push_back(*x);
    return static_cast<int>(inputs.size()) - 1;
  };
  const int bias_at = place_of(bias);
  const int context_at = place_of(options.context);
  const int h0_at = place_of(options.h0);
  const int c0_at = place_of(c0);
  bool keep = false;
  for (const Variable& x : inputs) keep = keep || x.requires_grad();

  const Stream& stream = layout.stream();
  const auto by_rank = [&](const std::optional<Variable>& x) -> std::optional<Tensor<float>> {
    if (!x) return std::nullopt;
    return reordered(x->value(), layout, layout.index().sequence_of_rank);
  };
  const std::optional<Tensor<float>> context = by_rank(options.context);
  const std::optional<Tensor<float>> h0 = by_rank(options.h0);
  const std::optional<Tensor<float>> first_c = by_rank(c0);
  const int64_t cell_rows = cell == Cell::lstm ? batch : 0;
  auto c = first_c ? first_c->clone() : Tensor<float>::zeros({cell_rows, hidden}, stream);
  auto h = Tensor<float>::empty({total, hidden}, stream);
  auto gates = Tensor<float>::empty({keep ? total : 0, 4 * hidden}, stream);
  auto cells = Tensor<float>::empty({keep && cell == Cell::lstm ? total : 0, hidden}, stream);
  if (total > 0) {
    auto products = Tensor<float>::empty({stream.device().is_cuda() ? batch : 0, width}, stream);
    auto workspace = gemm_workspace(stream);
    run(stream,
        kernels::Recurrence{cell, layout.step_begin().data(), layout.steps(), batch, hidden, input.value().data(),
                            options.rows != nullptr ? options.rows->data() : nullptr, input.shape()[0],
                            data_of(context), weight.value().data(), bias ? bias->value().data() : nullptr, data_of(h0),
                            c.data(), h.data(), keep ? gates.data() : nullptr, keep ? cells.data() : nullptr,
                            products.data(), workspace.data(), static_cast<std::size_t>(workspace.size())});
  }
  Tensor<float> last_c = cell == Cell::lstm ? reordered(c, layout, layout.index().rank_of_sequence) : c;
  if (!keep) return {h, std::move(last_c)};

  std::optional<Tensor<int32_t>> rows;
  if (options.rows != nullptr) rows = *options.rows;
  const auto backward = [=, weight = weight.value(), input_rows = input.shape()[0]](const Tensor<float>& g,
                                                                                    Gradients& gradients) {
    auto d_input = Tensor<float>::empty({total, width}, stream);
    auto d_gru_product = Tensor<float>::empty({cell == Cell::gru ? total : 0, width}, stream);
    auto previous = Tensor<float>::empty({total, hidden}, stream);
    auto d_h = Tensor<float>::zeros({batch, hidden}, stream);
    auto d_c = Tensor<float>::zeros({cell_rows, hidden}, stream);
    if (total > 0) {
      auto workspace = gemm_workspace(stream);
      run(stream,
          kernels::RecurrenceGradient{cell, layout.step_begin().data(), layout.steps(), batch, hidden, weight.data(),
                                      data_of(h0), data_of(first_c), h.data(), gates.data(), cells.data(), g.data(),
                                      d_input.data(), d_gru_product.data(), previous.data(), d_h.data(), d_c.data(),
                                      workspace.data(), static_cast<std::size_t>(workspace.size())});
    }
    const Tensor<float>& d_product = cell == Cell::gru ? d_gru_product : d_input;
    if (gradients.wanted(1)) {
      auto d_weight = Tensor<float>::empty({width, hidden}, stream);
      gemm({d_product, true}, {previous}, width, hidden, total, 0.0f, d_weight);
      gradients.add(1, std::move(d_weight));
    }
    if (bias_at >= 0 && gradients.wanted(bias_at)) {
      auto d_bias = Tensor<float>::empty({width}, stream);
      sum_axis(d_product, nullptr, 1, total, width, 1.0, d_bias);
      gradients.add(bias_at, std::move(d_bias));
    }
    if (context_at >= 0 && gradients.wanted(context_at)) {
      auto d_context = Tensor<float>::empty({batch, width}, stream);
      run(stream,
          kernels::SequenceSum{d_input.data(), layout.index().step_begin.data(), layout.index().sequence_of_rank.data(),
                               layout.steps(), batch, width, d_context.data()});
      gradients.add(context_at, std::move(d_context));
    }
    const auto add_by_sequence = [&](int at, const Tensor<float>& by_rank_gradient) {
      if (at >= 0) gradients.add(at, reordered(by_rank_gradient, layout, layout.index().rank_of_sequence));
    };
    add_by_sequence(h0_at, d_h);
    add_by_sequence(c0_at, d_c);
    if (!gradients.wanted(0)) return;
    if (!rows) {
      gradients.add(0, std::move(d_input));
      return;
    }
    const int64_t sorted = stream.device().is_cuda() ? kernels::EmbeddingGradient::sorted_size(total) : 0;
    auto keys = Tensor<int64_t>::empty({sorted}, stream);
    auto d_table = Tensor<float>::empty({input_rows, width}, stream);
    run(stream, kernels::EmbeddingGradient{d_input.data(), rows->data(), input_rows, width, total,
                                           reinterpret_cast<uint64_t*>(keys.data()), d_table.data()});
    gradients.add(0, std::move(d_table));
  };
  return {Tape::record(h, inputs, backward), std::move(last_c)};
}

}  // namespace

LstmStates lstm(const SequenceLayout& layout, const Variable& input, const Variable& weight,
                const LstmOptions& options) {
  States states = recurrence("lstm", Cell::lstm, layout, input, weight, std::nullopt, options, options.c0);
  return {std::move(states.h), std::move(states.c)};
}

Variable gru(const SequenceLayout& layout, const Variable& input, const Variable& weight, const Variable& bias,
             const RecurrentOptions& options) {
  return recurrence("gru", Cell::gru, layout, input, weight, bias, options, std::nullopt).h;
}

}  // namespace dgm
