// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/parameters.hpp>

#include "tests/support/devices.hpp"

namespace dgm::test {
namespace {

using Floats = std::vector<float>;

class ParameterSets : public OnEveryDevice {
 protected:
  Tensor<float> tensor(std::initializer_list<float> values) {
    return Tensor<float>::from(values, {static_cast<int64_t>(values.size())}, device());
  }
  template <class F>
  std::string message_of(const F& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.what();
    }
    return "no exception";
  }
};

TEST_P(ParameterSets, KeepReferencesValidAndShareTheFlatBuffersAcrossAdds) {
  Parameters parameters;
  Parameter& a = parameters.add("a", tensor({1, 2, 3}));
  EXPECT_EQ(parameters.flat_value().size(), 64);
  a.grad.copy_from(tensor({7, 8, 9}));
  for (int i = 0; i < 100; ++i) parameters.add("more" + std::to_string(i), Tensor<float>::zeros({}, device()));
  Parameter& b = parameters.add("b", tensor({4, 5}).reshape({1, 2}));
  EXPECT_EQ(a.value.to_host(), (Floats{1, 2, 3}));

  Tensor<float> flat = parameters.flat_value();
  EXPECT_EQ(flat.size(), 102 * 64);
  EXPECT_EQ(a.value.to_host(), (Floats{1, 2, 3}));
  EXPECT_EQ(a.grad.to_host(), (Floats{7, 8, 9})) << "a gradient survives an add";
  EXPECT_EQ(b.value.shape(), (Shape{1, 2}));
  EXPECT_EQ(b.value.data(), flat.data() + 101 * 64);
  EXPECT_EQ(b.grad.data(), parameters.flat_grad().data() + 101 * 64);
  flat.copy_from(Tensor<float>::full({102 * 64}, 6.0f, device()));
  EXPECT_EQ(b.value.to_host(), (Floats{6, 6}));
  EXPECT_EQ(parameters.size(), 102);
  EXPECT_EQ(parameters.count(), 105);
}

TEST_P(ParameterSets, HoldACopyOfTheInitialValue) {
  Parameters parameters;
  Tensor<float> initial = tensor({1, 2});
  parameters.add("w", initial);
  initial.copy_from(tensor({8, 9}));
  EXPECT_EQ(parameters["w"].value.to_host(), (Floats{1, 2}));
}

TEST_P(ParameterSets, GatherGradientsFromATapeAndZeroThem) {
  Parameters parameters;
  Parameter& w = parameters.add("w", tensor({1, 2}));
  parameters.add("empty", tensor({}));
  parameters.zero_grad();
  for (int step = 0; step < 2; ++step) {
    Tape tape;
    tape.backward(tape.watch(w), tensor({1, 3}));
  }
  const Floats flat = parameters.flat_grad().to_host();
  EXPECT_EQ(flat[0], 2.0f);
  EXPECT_EQ(flat[1], 6.0f);
  EXPECT_EQ(flat[2], 0.0f);
  parameters.zero_grad();
  EXPECT_EQ(w.grad.to_host(), (Floats{0, 0}));
}

TEST_P(ParameterSets, StayValidWhenMoved) {
  Parameters parameters;
  Parameter& w = parameters.add("w", tensor({1, 2}));
  const Parameters moved = std::move(parameters);
  EXPECT_EQ(&moved["w"], &w);
}

TEST_P(ParameterSets, AreIteratedInTheOrderOfAdding) {
  Parameters parameters;
  for (const char* const name : {"z", "a", "m"}) parameters.add(name, tensor({0}));
  std::string names;
  for (const Parameter& parameter : parameters) names += parameter.name;
  EXPECT_EQ(names, "zam");
}

TEST_P(ParameterSets, CopyAndLoadByName) {
  Parameters parameters;
  parameters.add("w", tensor({1, 2}));
  parameters.add("b", tensor({3}));
  const auto values = parameters.copy_values();
  parameters.flat_value().copy_from(Tensor<float>::zeros({128}, device()));
  EXPECT_EQ(parameters["b"].value.to_host(), (Floats{0}));
  parameters.load_values(values);
  EXPECT_EQ(parameters["w"].value.to_host(), (Floats{1, 2}));
  EXPECT_EQ(parameters["b"].value.to_host(), (Floats{3}));
  parameters.load_values(
      {{"w", Tensor<float>::from({5, 6}, {2}, Device::cpu())}, {"b", Tensor<float>::from({7}, {1}, Device::cpu())}});
  EXPECT_EQ(parameters["w"].value.to_host(), (Floats{5, 6})) << "from another device";
}

TEST_P(ParameterSets, NameWhatDoesNotFit) {
  Parameters parameters;
  EXPECT_EQ(message_of([&] { parameters.flat_value(); }), "Parameters: there are none yet; add() one first");
  parameters.add("w", tensor({1, 2}));
  parameters.add("b", tensor({3}));
  EXPECT_EQ(message_of([&] { parameters.add("w", tensor({1})); }),
            "Parameters::add: there is a parameter \"w\" already");
  EXPECT_THROW(parameters.add("", tensor({1})), ArgumentError);
  EXPECT_THROW(parameters.add("c", Tensor<float>::zeros({1}, Stream::create(device()))), DeviceError);
  EXPECT_EQ(message_of([&] { parameters["c"]; }), "Parameters: there is no \"c\" among: w, b");
  EXPECT_EQ(message_of([&] {
              parameters.load_values({{"w", tensor({9, 9})}, {"c", tensor({1})}});
            }),
            "Parameters::load_values: missing: b; unexpected: c");
  EXPECT_EQ(message_of([&] {
              parameters.load_values({{"b", tensor({9})}, {"w", tensor({1, 2, 3})}});
            }),
            "Parameters::load_values: w has shape (3,); (2,) is needed");
  EXPECT_EQ(parameters["b"].value.to_host(), (Floats{3})) << "a load that fails changes nothing";
}

DGM_ON_EVERY_DEVICE(ParameterSets);

}  // namespace
}  // namespace dgm::test
