// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/elementwise.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/every_float.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

struct UnaryCase {
  const char* name;
  Variable (*op)(const Variable&);
  Real (*reference)(Real);
  Real (*slope)(Real);
};

Real sign(Real x) { return x > 0 ? 1 : x < 0 ? -1 : 0; }

const UnaryCase kUnary[] = {
    {"negate", negate, [](Real x) { return -x; }, [](Real) { return Real{-1}; }},
    {"exp", dgm::exp, [](Real x) { return std::exp(x); }, [](Real x) { return std::exp(x); }},
    {"log", dgm::log, [](Real x) { return std::log(x); }, [](Real x) { return 1 / x; }},
    {"sqrt", dgm::sqrt, [](Real x) { return std::sqrt(x); }, [](Real x) { return 1 / (2 * std::sqrt(x)); }},
    {"square", square, [](Real x) { return x * x; }, [](Real x) { return 2 * x; }},
    {"abs", dgm::abs, [](Real x) { return std::abs(x); }, sign},
    {"reciprocal", reciprocal, [](Real x) { return 1 / x; }, [](Real x) { return -1 / (x * x); }},
    {"clamp", [](const Variable& x) { return clamp(x, -0.5f, 2.0f); },
     [](Real x) { return std::isnan(x) ? x : std::min<Real>(std::max<Real>(x, -0.5L), 2); },
     [](Real x) { return Real{x >= -0.5L && x <= 2 ? 1.0L : 0.0L}; }},
};

using BinaryReference = Real (*)(Real, Real);
struct BinaryCase {
  const char* name;
  Variable (*op)(const Variable&, const Variable&);
  BinaryReference reference;
};

const BinaryCase kBinary[] = {
    {"add", add, [](Real a, Real b) { return a + b; }},
    {"subtract", subtract, [](Real a, Real b) { return a - b; }},
    {"multiply", multiply, [](Real a, Real b) { return a * b; }},
    {"divide", divide, [](Real a, Real b) { return a / b; }},
};

// The element of a tensor of this shape that an index of the broadcast shape reads.
int64_t element_of(const Shape& shape, const Shape& whole, int64_t index) {
  int64_t at = 0;
  int64_t stride = 1;
  for (int axis = -1; axis >= -whole.rank(); --axis) {
    const int64_t i = index % whole[axis];
    index /= whole[axis];
    if (-axis > shape.rank()) continue;
    at += (shape[axis] == 1 ? 0 : i) * stride;
    stride *= shape[axis];
  }
  return at;
}

class Elementwise : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& x, Shape shape) {
    return Tensor<float>::from(x, std::move(shape), device());
  }
  Tensor<float> tensor(const std::vector<float>& x) { return tensor(x, {static_cast<int64_t>(x.size())}); }
};

TEST_P(Elementwise, FunctionsMatchTheReferenceOverTheWholeRange) {
  const auto x = floats_of_the_whole_range();
  for (const UnaryCase& c : kUnary) {
    const auto y = c.op(tensor(x)).value().to_host();
    for (std::size_t i = 0; i < x.size(); ++i) {
      const Real wanted = c.reference(x[i]);
      if (std::isnan(wanted)) {
        ASSERT_TRUE(std::isnan(y[i])) << c.name << "(" << x[i] << ") = " << y[i];
      } else if (std::isinf(static_cast<float>(wanted))) {
        ASSERT_EQ(y[i], static_cast<float>(wanted)) << c.name << "(" << x[i] << ")";
      } else {
        ASSERT_LE(std::abs(y[i] - wanted), kElementwiseError * std::abs(wanted) + 1.5e-45L)
            << c.name << "(" << x[i] << ") = " << y[i] << ", wanted " << static_cast<double>(wanted);
      }
    }
  }
}

TEST_P(Elementwise, GradientsOfFunctionsMatchTheirDerivatives) {
  std::vector<float> x;
  for (int i = -400; i <= 400; ++i) x.push_back(0.01f * static_cast<float>(i));
  const auto g = random_normals(static_cast<int64_t>(x.size()), 4);
  for (const UnaryCase& c : kUnary) {
    Tape tape;
    const Variable leaf = tape.watch(tensor(x));
    tape.backward(c.op(leaf), tensor(g));
    const auto dx = tape.grad(leaf).to_host();
    for (std::size_t i = 0; i < x.size(); ++i) {
      // Where there is no value, or the slope is infinite, IEEE's rules hold and nothing is promised.
      if (std::isnan(c.reference(x[i])) || std::isinf(c.reference(x[i])) || std::isinf(c.slope(x[i]))) continue;
      if (std::string(c.name) == "log" && x[i] < 0) continue;
      const Real wanted = g[i] * c.slope(x[i]);
      ASSERT_LE(std::abs(dx[i] - wanted), 2 * kElementwiseError * std::abs(wanted) + 1e-30L)
          << c.name << "'(" << x[i] << ") g = " << dx[i] << ", wanted " << static_cast<double>(wanted);
    }
  }
}

TEST_P(Elementwise, ArithmeticBroadcastsAsNumPyDoesWithItsGradients) {
  struct Shapes {
    Shape a, b, y;
  };
  const std::vector<Shapes> all = {
      {{}, {}, {}},
      {{7}, {7}, {7}},
      {{5}, {}, {5}},
      {{}, {2, 3}, {2, 3}},
      {{4, 33}, {33}, {4, 33}},
      {{33}, {4, 33}, {4, 33}},
      {{4, 1}, {4, 17}, {4, 17}},
      {{4, 1}, {1, 17}, {4, 17}},
      {{1, 3}, {3}, {1, 3}},
      {{3000, 3}, {3}, {3000, 3}},
      {{5}, {1003, 5}, {1003, 5}},
      {{2, 3, 4}, {3, 1}, {2, 3, 4}},
      {{2, 1, 4, 1}, {3, 1, 5}, {2, 3, 4, 5}},
      {{3, 2, 5}, {3, 1, 5}, {3, 2, 5}},
      {{2, 1, 3, 1, 2}, {1, 2, 1, 3, 1}, {2, 2, 3, 3, 2}},
      {{1, 1}, {1}, {1, 1}},
      {{0, 3}, {3}, {0, 3}},
      {{4, 0}, {4, 1}, {4, 0}},
      {{130, 260}, {130, 260}, {130, 260}},
  };
  for (const BinaryCase& c : kBinary) {
    for (const Shapes& shapes : all) {
      const std::string what = std::string(c.name) + " of " + shapes.a.str() + " and " + shapes.b.str();
      const auto a = random_normals(shapes.a.size(), 1);
      auto b = random_normals(shapes.b.size(), 2);
      for (float& v : b) v += v < 0 ? -0.5f : 0.5f;  // nothing divides by almost zero
      const auto g = random_normals(shapes.y.size(), 3);
      Tape tape;
      const Variable a_leaf = tape.watch(tensor(a, shapes.a));
      const Variable b_leaf = tape.watch(tensor(b, shapes.b));
      const Variable y = c.op(a_leaf, b_leaf);
      ASSERT_EQ(y.shape(), shapes.y) << what;
      tape.backward(y, tensor(g, shapes.y));

      Reals values;
      Reals da(a.size()), db(b.size()), da_absolute(a.size()), db_absolute(b.size());
      for (int64_t i = 0; i < shapes.y.size(); ++i) {
        const auto at_a = static_cast<std::size_t>(element_of(shapes.a, shapes.y, i));
        const auto at_b = static_cast<std::size_t>(element_of(shapes.b, shapes.y, i));
        const Real up = g[static_cast<std::size_t>(i)];
        values.push_back(c.reference(a[at_a], b[at_b]));
        const Real h = 1e-7L;
        const Real by_a = up * (c.reference(a[at_a] + h, b[at_b]) - c.reference(a[at_a] - h, b[at_b])) / (2 * h);
        const Real by_b = up * (c.reference(a[at_a], b[at_b] + h) - c.reference(a[at_a], b[at_b] - h)) / (2 * h);
        da[at_a] += by_a, da_absolute[at_a] += std::abs(by_a);
        db[at_b] += by_b, db_absolute[at_b] += std::abs(by_b);
      }
      expect_close(y.value().to_host(), values, kElementwiseError, what);
      const auto expect_gradient = [&](const std::vector<float>& got, const Reals& wanted, const Reals& absolute,
                                       const char* name) {
        ASSERT_EQ(got.size(), wanted.size()) << what;
        for (std::size_t i = 0; i < got.size(); ++i) {
          ASSERT_LE(std::abs(got[i] - wanted[i]), kElementwiseError * absolute[i] + 1e-9L)
              << what << ": " << name << "[" << i << "] is " << got[i] << ", wanted " << static_cast<double>(wanted[i]);
        }
      };
      expect_gradient(tape.grad(a_leaf).to_host(), da, da_absolute, "da");
      expect_gradient(tape.grad(b_leaf).to_host(), db, db_absolute, "db");
    }
  }
}

TEST_P(Elementwise, OperatorsReadAsFormulas) {
  const Variable a = tensor({1, 2, 3});
  const Variable b = tensor({4, 5, 6});
  const auto host = [](const Variable& v) { return v.value().to_host(); };
  using Values = std::vector<float>;
  EXPECT_EQ(host(a + b), (Values{5, 7, 9}));
  EXPECT_EQ(host(a - b), (Values{-3, -3, -3}));
  EXPECT_EQ(host(a * b), (Values{4, 10, 18}));
  EXPECT_EQ(host(b / a), (Values{4, 2.5, 2}));
  EXPECT_EQ(host(-a), (Values{-1, -2, -3}));
  EXPECT_EQ(host(2 * a + 1), (Values{3, 5, 7}));
  EXPECT_EQ(host(1 - a / 2), (Values{0.5, 0, -0.5}));
  EXPECT_EQ(host(a - 1), (Values{0, 1, 2}));
  EXPECT_EQ(host(3 + a), (Values{4, 5, 6}));
  EXPECT_EQ(host(6 / a), (Values{6, 3, 2}));
}

TEST_P(Elementwise, AnOperandUsedTwiceGetsBothGradients) {
  Tape tape;
  const Variable x = tape.watch(tensor({2, 3}));
  tape.backward(x * x - x, tensor({1, 10}));
  EXPECT_EQ(tape.grad(x).to_host(), (std::vector<float>{3, 50}));
}

TEST_P(Elementwise, ArithmeticFollowsIeeeAtTheEdges) {
  const auto q = divide(tensor({1, -1, 0, kInf}), tensor({0, 0, 0, kInf})).value().to_host();
  EXPECT_EQ(q[0], kInf);
  EXPECT_EQ(q[1], -kInf);
  EXPECT_TRUE(std::isnan(q[2]));
  EXPECT_TRUE(std::isnan(q[3]));
  EXPECT_TRUE(std::signbit(negate(tensor({0.0f})).value().item()));
}

TEST_P(Elementwise, RowsOfATensorThatAreNotAlignedWork) {
  const auto x = random_normals(1001 * 3, 1);
  const auto all = tensor(x, {1001, 3});
  const auto rows = all.rows(1, 1001);
  const auto y = square(rows).value().to_host();
  const auto sum = add(rows, all.rows(0, 1000)).value().to_host();
  for (std::size_t i = 0; i < y.size(); ++i) {
    ASSERT_EQ(y[i], x[i + 3] * x[i + 3]) << i;
    ASSERT_EQ(sum[i], x[i + 3] + x[i]) << i;
  }
}

TEST_P(Elementwise, ResultsBeyondTheCachesAreTheSame) {
  const int64_t n = (1 << 22) + 77;  // written past the caches on the CPU, in two ranges or more
  std::vector<float> x(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1021);
  const auto wide = tensor(x);
  const auto y = (wide + wide).value().to_host();
  const auto z = square(wide).value().to_host();
  for (std::size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(y[i], 2 * x[i]) << i;
    ASSERT_EQ(z[i], x[i] * x[i]) << i;
  }
}

TEST_P(Elementwise, RefusesShapesThatDoNotBroadcast) {
  try {
    add(Tensor<float>::zeros({2, 3}, device()), Tensor<float>::zeros({2}, device()));
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "add: a has shape (2, 3) but b has shape (2,); axes must be equal or 1 to broadcast");
  }
  EXPECT_THROW(clamp(tensor({1}), 2.0f, 1.0f), ArgumentError);
  EXPECT_THROW(multiply(tensor({1}), Tensor<float>::zeros({1}, Stream::create(device()))), DeviceError);
}

DGM_ON_EVERY_DEVICE(Elementwise);

}  // namespace
}  // namespace dgm::test
