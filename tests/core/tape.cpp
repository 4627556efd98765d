// SPDX-License-Identifier: Apache-2.0
#include <dgm/autodiff/reshape.hpp>
#include <dgm/autodiff/tape.hpp>
#include <dgm/ops/log_sum_exp.hpp>

#include "tests/support/devices.hpp"

namespace dgm::test {
namespace {

class Tapes : public OnEveryDevice {
 protected:
  Tensor<float> tensor(std::initializer_list<float> values) {
    return Tensor<float>::from(values, {static_cast<int64_t>(values.size())}, device());
  }
};

// y = x, whose gradient is passed on as it is.
Variable identity(const Variable& x) {
  return Tape::record(x.value(), {x}, [](const Tensor<float>& g, Gradients& inputs) { inputs.add(0, g); });
}

Variable sum_of(const std::vector<Variable>& terms) {
  return Tape::record(terms[0].value(), terms, [n = terms.size()](const Tensor<float>& g, Gradients& inputs) {
    for (std::size_t i = 0; i < n; ++i) inputs.add(static_cast<int>(i), g);
  });
}

TEST_P(Tapes, AddTheGradientsOfAValueThatIsUsedTwice) {
  Tape tape;
  const Variable x = tape.watch(tensor({1, 2}));
  tape.backward(sum_of({identity(x), x, identity(identity(x))}), tensor({10, 20}));
  EXPECT_EQ(tape.grad(x).to_host(), (std::vector<float>{30, 60}));
}

TEST_P(Tapes, AddToParametersAcrossSteps) {
  Parameter p = {"p", tensor({1, 2}), Tensor<float>::zeros({2}, device())};
  for (int step = 0; step < 2; ++step) {
    Tape tape;
    tape.backward(sum_of({tape.watch(p), tape.watch(p)}), tensor({1, 3}));
  }
  EXPECT_EQ(p.grad.to_host(), (std::vector<float>{4, 12}));
}

TEST_P(Tapes, RecordNothingForConstants) {
  const Variable y = identity(tensor({1}));
  EXPECT_FALSE(y.requires_grad());
  Tape tape;
  const Variable x = tape.watch(tensor({5}));
  EXPECT_FALSE(identity(x.detach()).requires_grad());
  tape.backward(identity(x));
  EXPECT_EQ(tape.grad(x).item(), 1.0f);
}

TEST_P(Tapes, GiveZerosToWhatTheResultDoesNotDependOn) {
  Tape tape;
  const Variable x = tape.watch(tensor({5}));
  const Variable unused = tape.watch(tensor({1, 2}));
  tape.backward(identity(x));
  EXPECT_EQ(tape.grad(unused).to_host(), (std::vector<float>{0, 0}));
}

TEST_P(Tapes, PassGradientsThroughANewShape) {
  Tape tape;
  const Variable x = tape.watch(tensor({1, 2, 3, 4, 5, 6}));
  const Variable y = reshape(x, {2, 3});
  EXPECT_EQ(y.shape(), (Shape{2, 3}));
  tape.backward(y, Tensor<float>::from({6, 5, 4, 3, 2, 1}, {2, 3}, device()));
  EXPECT_EQ(tape.grad(x).to_host(), (std::vector<float>{6, 5, 4, 3, 2, 1}));
  EXPECT_THROW(reshape(tensor({1, 2}), {3}), ShapeError);
}

TEST_P(Tapes, RefuseMisuse) {
  Tape tape;
  Tape other;
  const Variable x = tape.watch(tensor({1, 2}));
  const Variable y = other.watch(tensor({1, 2}));
  EXPECT_THROW(sum_of({x, y}), ArgumentError);
  EXPECT_THROW(tape.backward(x), ShapeError);
  EXPECT_THROW(tape.backward(y, tensor({1, 2})), ArgumentError);
  EXPECT_THROW(tape.grad(x), ArgumentError);
  tape.backward(x, tensor({1, 2}));
  EXPECT_THROW(tape.backward(x, tensor({1, 2})), ArgumentError);
  EXPECT_THROW(identity(x), ArgumentError);
}

DGM_ON_EVERY_DEVICE(Tapes);

}  // namespace
}  // namespace dgm::test
