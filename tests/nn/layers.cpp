// SPDX-License-Identifier: Apache-2.0
#include <dgm/nn/mlp.hpp>
#include <dgm/ops/activations.hpp>
#include <dgm/ops/reductions.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

namespace dgm::test {
namespace {

class Layers : public OnEveryDevice {};

// A network of tanh layers in long double, from its parameters in order: weight, bias, weight, bias.
Real network(const std::vector<Reals>& parameters, const std::vector<int64_t>& widths, const std::vector<float>& x) {
  Real total = 0;
  const auto rows = static_cast<int64_t>(x.size()) / widths[0];
  for (int64_t n = 0; n < rows; ++n) {
    Reals h(x.begin() + n * widths[0], x.begin() + (n + 1) * widths[0]);
    for (std::size_t layer = 0; layer + 1 < widths.size(); ++layer) {
      Reals next;
      for (int64_t o = 0; o < widths[layer + 1]; ++o) {
        Real sum = parameters[2 * layer + 1][static_cast<std::size_t>(o)];
        for (std::size_t i = 0; i < h.size(); ++i) {
          sum += parameters[2 * layer][static_cast<std::size_t>(o) * h.size() + i] * h[i];
        }
        next.push_back(layer + 2 < widths.size() ? std::tanh(sum) : sum);
      }
      h = next;
    }
    for (const Real v : h) total += v;
  }
  return total;
}

TEST_P(Layers, MlpAndItsGradientsMatchTheReference) {
  const std::vector<int64_t> widths = {3, 7, 5, 2};
  Parameters parameters;
  MlpOptions options;
  options.activation = [](const Variable& v) { return dgm::tanh(v); };
  options.seed = 4;
  const Mlp mlp(parameters, "net", widths, device(), options);
  ASSERT_EQ(parameters.size(), 6);
  EXPECT_TRUE(parameters.contains("net.0.weight"));
  EXPECT_TRUE(parameters.contains("net.2.bias"));
  EXPECT_EQ(parameters["net.1.weight"].value.shape(), (Shape{5, 7}));
  const auto x = random_normals(4 * 3, 1);
  const auto x_tensor = Tensor<float>::from(x, {4, 3}, device());

  parameters.zero_grad();
  Tape tape;
  const Variable loss = sum(mlp(tape, x_tensor));
  std::vector<Reals> values;
  for (const Parameter& p : parameters) values.push_back(to_reals(p.value.to_host()));
  EXPECT_NEAR(loss.value().item(), static_cast<double>(network(values, widths, x)), 1e-5);
  EXPECT_EQ(sum(mlp(x_tensor)).value().item(), loss.value().item());
  tape.backward(loss);
  std::size_t i = 0;
  for (const Parameter& p : parameters) {
    const auto of_one = [&](const Reals& v) {
      auto changed = values;
      changed[i] = v;
      return network(changed, widths, x);
    };
    expect_close(p.grad.to_host(), central_differences(of_one, values[i]), 1e-5, p.name);
    ++i;
  }
}

TEST_P(Layers, InitialValuesHaveTheirSpreadAndAreTheSameEverywhere) {
  struct Case {
    Initialiser initialiser;
    double deviation;
    double most;
  };
  const Shape shape = {300, 200};
  for (const Case& c : {Case{Initialiser::uniform(0.5f), 0.5 / std::sqrt(3), 0.5},
                        {Initialiser::normal(2.0f), 2.0, 14.0},
                        {Initialiser::glorot_uniform(), std::sqrt(2.0 / 500), std::sqrt(6.0 / 500)},
                        {Initialiser::he_uniform(), std::sqrt(2.0 / 200), std::sqrt(6.0 / 200)},
                        {Initialiser::he_normal(), std::sqrt(2.0 / 200), 7 * std::sqrt(2.0 / 200)}}) {
    const auto values = c.initialiser(shape, 3, 1, device()).to_host();
    double mean = 0, square = 0, most = 0;
    for (const float v : values) mean += v, square += double{v} * v, most = std::max(most, std::abs(double{v}));
    const auto n = static_cast<double>(values.size());
    EXPECT_NEAR(mean / n, 0, 5 * c.deviation / std::sqrt(n));
    EXPECT_NEAR(std::sqrt(square / n), c.deviation, 0.02 * c.deviation);
    EXPECT_LE(most, c.most * 1.000001);
    EXPECT_EQ(values, c.initialiser(shape, 3, 1, Device::cpu()).to_host());
    EXPECT_NE(values, c.initialiser(shape, 3, 2, device()).to_host());
    EXPECT_NE(values, c.initialiser(shape, 4, 1, device()).to_host());
  }
  EXPECT_EQ(Initialiser::constant(3.0f)({2}, 0, 0, device()).to_host(), (std::vector<float>{3, 3}));
}

TEST_P(Layers, LayersOfOneSeedStartDifferently) {
  Parameters parameters;
  const Linear a(parameters, "a", 10, 10, device());
  const Linear b(parameters, "b", 10, 10, device());
  EXPECT_NE(a.weight().value.to_host(), b.weight().value.to_host());
  EXPECT_EQ(a.bias()->value.to_host(), std::vector<float>(10, 0.0f));
}

TEST_P(Layers, DropoutNeedsDraws) {
  Parameters parameters;
  MlpOptions options;
  options.dropout = 0.5f;
  const Mlp mlp(parameters, "net", {4, 64, 3}, device(), options);
  const auto x = Tensor<float>::full({8, 4}, 1.0f, device());
  const Draws draws(1, device());
  Tape tape;
  const auto without = mlp(tape, x).value().to_host();
  EXPECT_EQ(without, mlp(x).value().to_host());
  EXPECT_NE(mlp(tape, x, &draws).value().to_host(), without);
}

TEST_P(Layers, RefuseMisuse) {
  Parameters parameters;
  EXPECT_THROW(Mlp(parameters, "net", {4}, device()), ArgumentError);
  EXPECT_THROW(Mlp(parameters, "net", {4, 0, 2}, device()), ArgumentError);
  EXPECT_THROW(Linear(parameters, "net", 0, 2, device()), ArgumentError);
  EXPECT_TRUE(parameters.empty());
  LinearOptions options;
  options.bias = false;
  const Linear layer(parameters, "a", 2, 3, device(), options);
  EXPECT_EQ(layer.bias(), nullptr);
  EXPECT_EQ(layer(Tensor<float>::full({1, 2}, 1.0f, device())).shape(), (Shape{1, 3}));
  EXPECT_THROW(Linear(parameters, "a", 2, 3, device()), ArgumentError);
}

DGM_ON_EVERY_DEVICE(Layers);

}  // namespace
}  // namespace dgm::test
