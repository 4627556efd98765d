// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/affine.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>

namespace dgm::test {
namespace {

class Affine : public OnEveryDevice {
 protected:
  Tensor<float> tensor(const std::vector<float>& x, Shape shape) {
    return Tensor<float>::from(x, std::move(shape), device());
  }
};

struct Sizes {
  int64_t rows, in, out;
  std::string str() const {
    return "N = " + std::to_string(rows) + ", I = " + std::to_string(in) + ", O = " + std::to_string(out);
  }
};

// sum_i a(r,i) b(i,c) (+ bias[c]), and the same of absolute values.
struct Product {
  Reals value;
  Reals absolute;
};
template <class A, class B>
Product product(int64_t rows, int64_t terms, int64_t cols, const A& a, const B& b) {
  Product result;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      Real value = 0;
      Real absolute = 0;
      for (int64_t i = 0; i < terms; ++i) {
        const Real term = Real{a(r, i)} * Real{b(i, c)};
        value += term;
        absolute += std::abs(term);
      }
      result.value.push_back(value);
      result.absolute.push_back(absolute);
    }
  }
  return result;
}

auto matrix(const std::vector<float>& x, int64_t cols) {
  return [&x, cols](int64_t r, int64_t c) { return x[static_cast<std::size_t>(r * cols + c)]; };
}
auto transposed(const std::vector<float>& x, int64_t cols) {
  return [&x, cols](int64_t r, int64_t c) { return x[static_cast<std::size_t>(c * cols + r)]; };
}

void expect_product(const std::vector<float>& got, const Product& wanted, const std::string& what) {
  ASSERT_EQ(got.size(), wanted.value.size()) << what;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_LE(std::abs(got[i] - wanted.value[i]), kMatmulError * wanted.absolute[i])
        << what << ": element " << i << ": got " << got[i] << ", wanted " << static_cast<double>(wanted.value[i]);
  }
}

TEST_P(Affine, MatchesTheReferenceWithItsGradientsAtOddSizes) {
  for (const Sizes s : {Sizes{1, 1, 1},
                        {1, 5, 3},
                        {2, 1, 7},
                        {3, 17, 1},
                        {33, 31, 65},
                        {5, 300, 2},
                        {257, 3, 5},
                        {130, 70, 33},
                        {4000, 9, 8},
                        {7, 200, 500},
                        {300, 64, 130},
                        {130, 130, 3}}) {
    const auto x = random_normals(s.rows * s.in, 1);
    const auto w = random_normals(s.out * s.in, 2);
    const auto bias = random_normals(s.out, 3);
    const auto g = random_normals(s.rows * s.out, 4);
    Tape tape;
    const Variable x_leaf = tape.watch(tensor(x, {s.rows, s.in}));
    const Variable w_leaf = tape.watch(tensor(w, {s.out, s.in}));
    const Variable b_leaf = tape.watch(tensor(bias, {s.out}));
    const Variable y = affine(x_leaf, w_leaf, b_leaf);
    tape.backward(y, tensor(g, {s.rows, s.out}));

    Product wanted = product(s.rows, s.in, s.out, matrix(x, s.in), transposed(w, s.in));
    expect_product(affine(x_leaf.value(), w_leaf.value()).value().to_host(), wanted, "no bias, " + s.str());
    for (std::size_t i = 0; i < wanted.value.size(); ++i) {
      const Real b = bias[i % static_cast<std::size_t>(s.out)];
      wanted.value[i] += b;
      wanted.absolute[i] += std::abs(b);
    }
    expect_product(y.value().to_host(), wanted, s.str());
    expect_product(tape.grad(x_leaf).to_host(), product(s.rows, s.out, s.in, matrix(g, s.out), matrix(w, s.in)),
                   "dx, " + s.str());
    expect_product(tape.grad(w_leaf).to_host(), product(s.out, s.rows, s.in, transposed(g, s.out), matrix(x, s.in)),
                   "dweight, " + s.str());
    const auto one = [](int64_t, int64_t) { return 1.0f; };
    expect_product(tape.grad(b_leaf).to_host(), product(s.out, s.rows, 1, transposed(g, s.out), one),
                   "dbias, " + s.str());
  }
}

TEST_P(Affine, GradientAgreesWithCentralDifferencesOfTheReference) {
  const int64_t rows = 3, in = 4, out = 2;
  const auto x = random_normals(rows * in, 5);
  const auto w = random_normals(out * in, 6);
  const auto g = random_normals(rows * out, 7);
  // sum_no g_no y_no as a function of x followed by the weight.
  const auto loss = [&](const Reals& v) {
    Real total = 0;
    for (int64_t n = 0; n < rows; ++n) {
      for (int64_t o = 0; o < out; ++o) {
        for (int64_t i = 0; i < in; ++i) {
          total += g[static_cast<std::size_t>(n * out + o)] * v[static_cast<std::size_t>(n * in + i)] *
                   v[static_cast<std::size_t>(rows * in + o * in + i)];
        }
      }
    }
    return total;
  };
  Reals at = to_reals(x);
  at.insert(at.end(), w.begin(), w.end());
  Tape tape;
  const Variable x_leaf = tape.watch(tensor(x, {rows, in}));
  const Variable w_leaf = tape.watch(tensor(w, {out, in}));
  tape.backward(affine(x_leaf, w_leaf), tensor(g, {rows, out}));
  std::vector<float> got = tape.grad(x_leaf).to_host();
  const auto dw = tape.grad(w_leaf).to_host();
  got.insert(got.end(), dw.begin(), dw.end());
  expect_close(got, central_differences(loss, at), 1e-6, "dx and dweight");
}

TEST_P(Affine, MatmulMatchesTheReferenceWithItsGradients) {
  const int64_t rows = 37, terms = 19, cols = 70;
  const auto a = random_normals(rows * terms, 1);
  const auto b = random_normals(terms * cols, 2);
  const auto g = random_normals(rows * cols, 3);
  Tape tape;
  const Variable a_leaf = tape.watch(tensor(a, {rows, terms}));
  const Variable b_leaf = tape.watch(tensor(b, {terms, cols}));
  const Variable y = matmul(a_leaf, b_leaf);
  tape.backward(y, tensor(g, {rows, cols}));
  expect_product(y.value().to_host(), product(rows, terms, cols, matrix(a, terms), matrix(b, cols)), "y");
  expect_product(tape.grad(a_leaf).to_host(), product(rows, cols, terms, matrix(g, cols), transposed(b, cols)), "da");
  expect_product(tape.grad(b_leaf).to_host(), product(terms, rows, cols, transposed(a, terms), matrix(g, cols)), "db");
}

TEST_P(Affine, WorksOnTheLastAxisOfAnyRank) {
  const auto x = random_normals(2 * 3 * 4, 1);
  const auto w = tensor(random_normals(5 * 4, 2), {5, 4});
  const auto flat = affine(tensor(x, {6, 4}), w).value().to_host();
  const Variable y = affine(tensor(x, {2, 3, 4}), w);
  EXPECT_EQ(y.shape(), (Shape{2, 3, 5}));
  EXPECT_EQ(y.value().to_host(), flat);
  EXPECT_EQ(affine(tensor({1, 2, 3, 4}, {4}), w).shape(), (Shape{5}));
}

TEST_P(Affine, ComputesOnlyTheGradientsThatAreWanted) {
  const auto x = tensor({1, 2}, {1, 2});
  const auto w = tensor({3, 4}, {1, 2});
  Tape by_x;
  const Variable x_leaf = by_x.watch(x);
  by_x.backward(affine(x_leaf, w));
  EXPECT_EQ(by_x.grad(x_leaf).to_host(), (std::vector<float>{3, 4}));
  Tape by_bias;
  const Variable b_leaf = by_bias.watch(tensor({5}, {1}));
  by_bias.backward(affine(x, w, b_leaf));
  EXPECT_EQ(by_bias.grad(b_leaf).item(), 1.0f);
}

TEST_P(Affine, EmptyExtents) {
  const auto bias = tensor({1, 2, 3}, {3});
  EXPECT_EQ(
      affine(Tensor<float>::empty({2, 0}, device()), Tensor<float>::empty({3, 0}, device()), bias).value().to_host(),
      (std::vector<float>{1, 2, 3, 1, 2, 3}));
  EXPECT_EQ(affine(Tensor<float>::empty({2, 0}, device()), Tensor<float>::empty({3, 0}, device())).value().to_host(),
            std::vector<float>(6, 0.0f));
  Tape tape;
  const Variable w = tape.watch(tensor({1, 2, 3, 4, 5, 6}, {3, 2}));
  const Variable b = tape.watch(bias);
  const Variable y = affine(Tensor<float>::empty({0, 2}, device()), w, b);
  EXPECT_EQ(y.shape(), (Shape{0, 3}));
  tape.backward(y, Tensor<float>::empty({0, 3}, device()));
  EXPECT_EQ(tape.grad(w).to_host(), std::vector<float>(6, 0.0f));
  EXPECT_EQ(tape.grad(b).to_host(), std::vector<float>(3, 0.0f));
}

TEST_P(Affine, NaNReachesItsRowOnly) {
  std::vector<float> x(3 * 40, 1.0f);
  x[45] = std::numeric_limits<float>::quiet_NaN();
  const auto y = affine(tensor(x, {3, 40}), Tensor<float>::full({2, 40}, 1.0f, device())).value().to_host();
  EXPECT_EQ(y[0], 40.0f);
  EXPECT_TRUE(std::isnan(y[2]));
  EXPECT_TRUE(std::isnan(y[3]));
  EXPECT_EQ(y[5], 40.0f);
}

TEST_P(Affine, GivesTheSameBitsRunToRun) {
  const auto x = tensor(random_normals(3000 * 20, 1), {3000, 20});
  const auto g = tensor(random_normals(3000 * 30, 2), {3000, 30});
  std::vector<float> first;
  for (int run = 0; run < 3; ++run) {
    Tape tape;
    const Variable w = tape.watch(tensor(random_normals(30 * 20, 3), {30, 20}));
    tape.backward(affine(x, w), g);
    const auto dw = tape.grad(w).to_host();
    if (run == 0) first = dw;
    EXPECT_EQ(dw, first);
  }
}

TEST_P(Affine, RefusesShapesThatDoNotFit) {
  const auto x = Tensor<float>::zeros({2, 3}, device());
  try {
    affine(x, Tensor<float>::zeros({4, 2}, device()));
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "affine: weight has shape (4, 2) but x has shape (2, 3); (O, 3) is needed");
  }
  const auto w = Tensor<float>::zeros({4, 3}, device());
  EXPECT_THROW(affine(x, w, Tensor<float>::zeros({3}, device())), ShapeError);
  EXPECT_THROW(affine(Tensor<float>::zeros({}, device()), w), ShapeError);
  EXPECT_THROW(matmul(x, w), ShapeError);
  EXPECT_THROW(affine(x, Tensor<float>::zeros({4, 3}, Stream::create(device()))), DeviceError);
}

DGM_ON_EVERY_DEVICE(Affine);

}  // namespace
}  // namespace dgm::test
