// SPDX-License-Identifier: Apache-2.0
#include <dgm/nn/recurrent.hpp>
#include <dgm/ops/affine.hpp>
#include <dgm/ops/embedding.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

namespace dgm::test {
namespace {

class RecurrentLayers : public OnEveryDevice {};

TEST_P(RecurrentLayers, LstmAppliesItsParametersByNameAndRemembersAtFirst) {
  Parameters parameters;
  const Lstm layer(parameters, "decoder", 3, 5, device(), {.seed = 2});
  EXPECT_EQ(layer.hidden(), 5);
  EXPECT_EQ(parameters["decoder.input_weight"].value.shape(), (Shape{20, 3}));
  EXPECT_EQ(parameters["decoder.state_weight"].value.shape(), (Shape{20, 5}));
  const auto bias = parameters["decoder.bias"].value.to_host();
  for (std::size_t i = 0; i < bias.size(); ++i) EXPECT_EQ(bias[i], i / 5 == 1 ? 1.0f : 0.0f) << i;

  const SequenceLayout layout({2, 4}, device());
  const auto x = Tensor<float>::from(random_normals(18, 1), {6, 3}, device());
  const auto input = affine(x, parameters["decoder.input_weight"].value, parameters["decoder.bias"].value);
  const auto wanted = lstm(layout, input, parameters["decoder.state_weight"].value);
  EXPECT_EQ(layer(nullptr, layout, x).h.value().to_host(), wanted.h.value().to_host());

  parameters.zero_grad();
  Tape tape;
  tape.backward(sum(layer(&tape, layout, x).h));
  for (const Parameter& parameter : parameters) {
    const auto gradient = parameter.grad.to_host();
    EXPECT_TRUE(std::any_of(gradient.begin(), gradient.end(), [](float g) { return g != 0; })) << parameter.name;
  }
}

TEST_P(RecurrentLayers, GruAppliesItsParametersByName) {
  Parameters parameters;
  const Gru layer(parameters, "gru", 3, 5, device(), {.seed = 2});
  parameters["gru.state_bias"].value.copy_from(Tensor<float>::full({15}, 0.5f, device()));
  const SequenceLayout layout({2, 4}, device());
  const auto x = Tensor<float>::from(random_normals(18, 1), {6, 3}, device());
  const auto input = affine(x, parameters["gru.input_weight"].value, parameters["gru.bias"].value);
  const auto wanted =
      gru(layout, input, parameters["gru.state_weight"].value, parameters["gru.state_bias"].value).value().to_host();
  EXPECT_EQ(layer(nullptr, layout, x).value().to_host(), wanted);
  EXPECT_THROW(Gru(parameters, "gru", 3, 5, device()), ArgumentError);
  EXPECT_THROW(Gru(parameters, "other", 0, 5, device()), ArgumentError);
}

TEST_P(RecurrentLayers, ProjectedTableOfSymbolsGivesTheStatesOfTheirEmbeddings) {
  Parameters parameters;
  const Lstm layer(parameters, "lstm", 3, 5, device());
  const SequenceLayout layout({3, 1, 2}, device());
  const auto table = Tensor<float>::from(random_normals(12, 1), {4, 3}, device());
  const auto ids = pack(Tensor<int32_t>::from({0, 3, 1, 2, 2, 0}, {6}, device()), layout);
  LstmOptions options;
  options.rows = &ids;
  const auto by_table = layer.steps(nullptr, layout, layer.project(nullptr, table), options).h;
  const auto by_lookup = layer(nullptr, layout, embedding(table, ids)).h;
  expect_close(by_table.value().to_host(), to_reals(by_lookup.value().to_host()), 1e-6, "h");
}

DGM_ON_EVERY_DEVICE(RecurrentLayers);

}  // namespace
}  // namespace dgm::test
