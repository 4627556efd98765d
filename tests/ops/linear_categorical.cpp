// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/linear_categorical.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"
#include "tests/support/reference.hpp"

#include <optional>

namespace dgm::test {
namespace {

std::size_t at(int64_t i) { return static_cast<std::size_t>(i); }

/// A distribution and entries, on the host.
struct Problem {
  int64_t rows;
  int64_t width;
  int64_t words;
  std::vector<float> hidden;
  std::vector<float> weight;
  std::vector<float> bias;  // empty: none
  std::vector<int64_t> offsets;
  std::vector<int32_t> labels;
  std::vector<float> g;

  /// `most` entries a row at most, from none on; 1: exactly one.
  static Problem random(int64_t rows, int64_t width, int64_t words, uint64_t seed, int64_t most = 1,
                        bool with_bias = true) {
    Problem p = {rows, width, words, {}, {}, {}, {}, {}, {}};
    const double scale = width > 0 ? 2.0 / std::sqrt(static_cast<double>(width)) : 1.0;
    p.hidden = random_normals(rows * width, seed);
    p.weight = random_normals(words * width, seed + 1, scale);
    if (with_bias) p.bias = random_normals(words, seed + 2);
    std::mt19937_64 generator(seed + 3);
    p.offsets = {0};
    for (int64_t b = 0; b < rows; ++b) {
      const int64_t count = most == 1 ? 1 : static_cast<int64_t>(generator() % static_cast<uint64_t>(most + 1));
      for (int64_t i = 0; i < count; ++i) {
        p.labels.push_back(static_cast<int32_t>(generator() % static_cast<uint64_t>(words)));
      }
      p.offsets.push_back(static_cast<int64_t>(p.labels.size()));
    }
    p.g = random_normals(static_cast<int64_t>(p.labels.size()), seed + 4);
    return p;
  }
  int64_t entries() const { return static_cast<int64_t>(labels.size()); }
  bool one_a_row() const {
    for (int64_t b = 0; b <= rows; ++b) {
      if (offsets[at(b)] != b) return false;
    }
    return true;
  }
  std::string str() const {
    return text("B = ", rows, ", H = ", width, ", V = ", words, ", E = ", entries(), bias.empty() ? ", no bias" : "");
  }
  template <class... Parts>
  static std::string text(const Parts&... parts) {
    std::ostringstream out;
    (out << ... << parts);
    return out.str();
  }
};

/// The reference: parameters in one vector, hidden then weight then bias.
class Reference {
 public:
  explicit Reference(const Problem& p) : p_(p) {}

  Reals parameters() const {
    Reals all = to_reals(p_.hidden);
    for (const auto* part : {&p_.weight, &p_.bias}) all.insert(all.end(), part->begin(), part->end());
    return all;
  }
  Reals logits(const Reals& all, int64_t b) const {
    Reals x(at(p_.words));
    const int64_t weight = p_.rows * p_.width;
    const int64_t bias = weight + p_.words * p_.width;
    for (int64_t v = 0; v < p_.words; ++v) {
      x[at(v)] = p_.bias.empty() ? 0 : all[at(bias + v)];
      for (int64_t i = 0; i < p_.width; ++i) x[at(v)] += all[at(b * p_.width + i)] * all[at(weight + v * p_.width + i)];
    }
    return x;
  }
  Reals values(const Reals& all) const {
    Reals y;
    for (int64_t b = 0; b < p_.rows; ++b) {
      const Reals x = logits(all, b);
      const Real log_normaliser = log_sum_exp(x);
      for (int64_t e = p_.offsets[at(b)]; e < p_.offsets[at(b + 1)]; ++e) {
        const Real logit = x[at(p_.labels[at(e)])];
        y.push_back(logit == -INFINITY ? logit : logit - log_normaliser);
      }
    }
    return y;
  }
  /// sum of g y over the entries that count.
  Real total(const Reals& all) const {
    const Reals y = values(all);
    Real sum = 0;
    for (std::size_t e = 0; e < y.size(); ++e) {
      if (y[e] != -INFINITY) sum += static_cast<Real>(p_.g[e]) * y[e];
    }
    return sum;
  }
  /// Gradients by the formula, and the sums of their absolute terms, in the layout of parameters().
  void gradients(Reals& gradient, Reals& absolute) const {
    const Reals all = parameters();
    gradient.assign(all.size(), 0);
    absolute.assign(all.size(), 0);
    const int64_t weight = p_.rows * p_.width;
    const int64_t bias = weight + p_.words * p_.width;
    for (int64_t b = 0; b < p_.rows; ++b) {
      const Reals x = logits(all, b);
      const Real log_normaliser = log_sum_exp(x);
      Reals d(x.size(), 0);
      Reals size(x.size(), 0);
      for (int64_t e = p_.offsets[at(b)]; e < p_.offsets[at(b + 1)]; ++e) {
        if (x[at(p_.labels[at(e)])] == -INFINITY) continue;
        const Real g = p_.g[at(e)];
        d[at(p_.labels[at(e)])] += g;
        size[at(p_.labels[at(e)])] += std::abs(g);
        for (std::size_t v = 0; v < x.size(); ++v) {
          if (x[v] == -INFINITY) continue;
          d[v] -= g * std::exp(x[v] - log_normaliser);
          size[v] += std::abs(g) * std::exp(x[v] - log_normaliser);
        }
      }
      for (int64_t v = 0; v < p_.words; ++v) {
        const auto add = [&](int64_t to, Real factor) {
          gradient[at(to)] += d[at(v)] * factor;
          absolute[at(to)] += size[at(v)] * std::abs(factor);
        };
        for (int64_t i = 0; i < p_.width; ++i) {
          add(b * p_.width + i, all[at(weight + v * p_.width + i)]);
          add(weight + v * p_.width + i, all[at(b * p_.width + i)]);
        }
        if (!p_.bias.empty()) add(bias + v, 1);
      }
    }
  }
  /// M of the accuracy statement.
  Real magnitude() const {
    Real most = 0;
    for (int64_t b = 0; b < p_.rows; ++b) {
      for (int64_t v = 0; v < p_.words; ++v) {
        Real sum = p_.bias.empty() || std::isinf(p_.bias[at(v)]) ? 0 : std::abs(static_cast<Real>(p_.bias[at(v)]));
        for (int64_t i = 0; i < p_.width; ++i) {
          sum += std::abs(static_cast<Real>(p_.hidden[at(b * p_.width + i)]) * p_.weight[at(v * p_.width + i)]);
        }
        most = std::max(most, sum);
      }
    }
    return 1 + most;
  }

 private:
  const Problem& p_;
};

float to_bfloat16(float x) {
  auto bits = std::bit_cast<uint32_t>(x);
  bits += 0x7fff + (bits >> 16 & 1);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

class LinearCategorical : public OnEveryDevice {
 protected:
  struct Result {
    std::vector<float> y;
    std::vector<float> gradient;  // hidden, weight, bias
  };

  template <class T>
  Tensor<T> put(const std::vector<T>& values, Shape shape) const {
    return Tensor<T>::from(values, std::move(shape), device());
  }

  Result compute(const Problem& p, bool ragged, Products products = Products::kFloat32) const {
    Tape tape;
    const Variable hidden = tape.watch(put(p.hidden, {p.rows, p.width}));
    const Variable weight = tape.watch(put(p.weight, {p.words, p.width}));
    std::optional<Variable> bias;
    if (!p.bias.empty()) bias = tape.watch(put(p.bias, {p.words}));
    const auto offsets = put(p.offsets, {p.rows + 1});
    const auto labels = put(p.labels, {p.entries()});
    const Variable y = !ragged ? (bias ? linear_categorical(hidden, weight, *bias, labels, products)
                                       : linear_categorical(hidden, weight, labels, products))
                               : (bias ? linear_categorical(hidden, weight, *bias, offsets, labels, products)
                                       : linear_categorical(hidden, weight, offsets, labels, products));
    EXPECT_EQ(y.shape(), (Shape{p.entries()})) << p.str();
    tape.backward(y, put(p.g, {p.entries()}));
    Result result = {y.value().to_host(), tape.grad(hidden).to_host()};
    const auto append = [&](const Variable& leaf) {
      const auto values = tape.grad(leaf).to_host();
      result.gradient.insert(result.gradient.end(), values.begin(), values.end());
    };
    append(weight);
    if (bias) append(*bias);
    return result;
  }

  void expect_right(const Problem& p, Products products = Products::kFloat32) const {
    const Reference reference(p);
    const Real m = reference.magnitude();
    Reals wanted;
    Reals absolute;
    reference.gradients(wanted, absolute);
    const Reals values = reference.values(reference.parameters());
    const Real rounding = products == Products::kFloat32 ? 0 : kBfloat16Rounding;
    for (const bool ragged : {false, true}) {
      if (!ragged && !p.one_a_row()) continue;
      const Result got = compute(p, ragged, products);
      for (std::size_t e = 0; e < values.size(); ++e) {
        if (std::isinf(values[e])) {
          ASSERT_EQ(got.y[e], values[e]) << p.str() << ", entry " << e;
        } else {
          ASSERT_LE(std::abs(got.y[e] - values[e]), kLinearCategoricalError * m)
              << p.str() << ", entry " << e << ": got " << got.y[e] << ", wanted " << static_cast<double>(values[e]);
          ASSERT_LE(got.y[e], 0.0f) << p.str() << ", entry " << e;
        }
      }
      ASSERT_EQ(got.gradient.size(), wanted.size());
      for (std::size_t i = 0; i < wanted.size(); ++i) {
        ASSERT_LE(std::abs(got.gradient[i] - wanted[i]),
                  (2 * kLinearCategoricalError * m + rounding) * absolute[i] + 1e-30L)
            << p.str() << (ragged ? ", ragged" : "") << ", gradient of parameter " << i << " (weights begin at "
            << p.rows * p.width << "): got " << got.gradient[i] << ", wanted " << static_cast<double>(wanted[i]);
      }
    }
  }
};

TEST_P(LinearCategorical, MatchesLongDoubleAtEveryTileEdgeOfTheVocabulary) {
  for (const int64_t words : {1, 2, 3, 23, 24, 25, 63, 64, 65, 95, 96, 97, 127, 128, 129, 193, 1100}) {
    if (on_simulated_device() && words > 200) continue;
    expect_right(Problem::random(5, 7, words, static_cast<uint64_t>(words)));
  }
}

TEST_P(LinearCategorical, MatchesLongDoubleAtEveryTileEdgeOfTheRows) {
  for (const int64_t rows : {1, 2, 31, 32, 33, 47, 63, 64, 65, 129, 257, 530}) {
    if (on_simulated_device() && rows > 130) continue;
    expect_right(Problem::random(rows, 5, 29, static_cast<uint64_t>(rows)));
  }
}

TEST_P(LinearCategorical, MatchesLongDoubleAtEveryTileEdgeOfTheHiddenState) {
  for (const int64_t width : {0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129, 255, 256, 257, 300}) {
    expect_right(Problem::random(3, width, 13, static_cast<uint64_t>(width)));
  }
}

TEST_P(LinearCategorical, MatchesLongDoubleForSeveralTilesOfAllThree) {
  if (on_simulated_device()) {
    expect_right(Problem::random(70, 35, 140, 11, 3));
  } else {
    expect_right(Problem::random(300, 300, 700, 11, 3));
    expect_right(Problem::random(1, 40, 20000, 12));
  }
}

TEST_P(LinearCategorical, TakesAnyNumberOfLabelsARowAndTheSameOneTwice) {
  Problem p = Problem::random(37, 9, 50, 21, 12);
  for (std::size_t e = 1; e < p.labels.size(); e += 3) p.labels[e] = p.labels[e - 1];
  expect_right(p);
  expect_right(Problem::random(4, 3, 200, 22, 400));
}

TEST_P(LinearCategorical, WithoutBiasIsWithABiasOfZeros) {
  Problem p = Problem::random(6, 8, 30, 31, 1, false);
  expect_right(p);
  const Result without = compute(p, false);
  p.bias.assign(30, 0.0f);
  EXPECT_EQ(compute(p, false).y, without.y);
}

TEST_P(LinearCategorical, GradientFormulaAgreesWithCentralDifferencesOfTheReference) {
  Problem p = Problem::random(3, 4, 7, 41, 4);
  p.bias[2] = -INFINITY;
  const Reference reference(p);
  Reals wanted;
  Reals absolute;
  reference.gradients(wanted, absolute);
  Reals numeric = central_differences([&](const Reals& all) { return reference.total(all); }, reference.parameters());
  numeric[at(3 * 4 + 7 * 4 + 2)] = 0;  // -inf has no neighbours
  const Result got = compute(p, true);
  expect_close({wanted.begin(), wanted.end()}, numeric, 1e-6, "formula");
  expect_close(got.gradient, numeric, 1e-5, "op");
}

TEST_P(LinearCategorical, AnExcludedWordHasNoProbabilityAndTakesNoGradient) {
  Problem p = Problem::random(9, 6, 40, 51, 5);
  for (const std::size_t v : {0u, 7u, 39u}) p.bias[v] = -INFINITY;
  p.labels[0] = 7;
  p.labels[3] = 39;
  expect_right(p);
  const Result got = compute(p, true);
  for (const int64_t v : {0, 7, 39}) {
    for (int64_t i = 0; i < 6; ++i) EXPECT_EQ(got.gradient[at(9 * 6 + v * 6 + i)], 0.0f) << "word " << v;
    EXPECT_EQ(got.gradient[at(9 * 6 + 40 * 6 + v)], 0.0f) << "bias of word " << v;
  }
}

TEST_P(LinearCategorical, AllWordsExcludedGiveMinusInfinityAndZeroGradients) {
  Problem p = Problem::random(3, 2, 5, 61, 2);
  p.bias.assign(5, -INFINITY);
  const Result got = compute(p, true);
  EXPECT_EQ(got.y, std::vector<float>(p.labels.size(), -INFINITY));
  EXPECT_EQ(got.gradient, std::vector<float>(3 * 2 + 5 * 2 + 5, 0.0f));
}

TEST_P(LinearCategorical, ANaNReachesWhatItTakesPartInAndNothingElse) {
  Problem p = Problem::random(40, 3, 130, 71);
  p.hidden[at(17 * 3 + 1)] = NAN;
  Result got = compute(p, false);
  for (int64_t b = 0; b < 40; ++b) EXPECT_EQ(std::isnan(got.y[at(b)]), b == 17) << "row " << b;
  for (int64_t i = 0; i < 40 * 3; ++i) EXPECT_EQ(std::isnan(got.gradient[at(i)]), i / 3 == 17) << "hidden " << i;
  p = Problem::random(4, 3, 130, 72);
  p.bias[129] = NAN;
  for (const float y : compute(p, false).y) EXPECT_TRUE(std::isnan(y));
  p.bias[129] = INFINITY;
  for (const float y : compute(p, false).y) EXPECT_TRUE(std::isnan(y));
}

TEST_P(LinearCategorical, LogitsOfAnySizeDoNotOverflow) {
  Problem p = Problem::random(5, 3, 140, 81);
  for (float& x : p.bias) x *= 1e4f;
  expect_right(p);
  for (float& x : p.bias) x = -1e4f;
  expect_right(p);
}

TEST_P(LinearCategorical, OneWordHasProbabilityOne) {
  const Problem p = Problem::random(7, 33, 1, 91);
  EXPECT_EQ(compute(p, false).y, std::vector<float>(7, 0.0f));
}

TEST_P(LinearCategorical, NoRowsOrNoLabelsGiveZeroGradients) {
  Problem p = Problem::random(0, 4, 6, 101);
  for (const bool ragged : {false, true}) EXPECT_EQ(compute(p, ragged).gradient, std::vector<float>(6 * 4 + 6, 0.0f));
  p = Problem::random(3, 4, 6, 102);
  p.labels.clear();
  p.g.clear();
  p.offsets.assign(4, 0);
  EXPECT_EQ(compute(p, true).gradient, std::vector<float>(3 * 4 + 6 * 4 + 6, 0.0f));
}

TEST_P(LinearCategorical, OnlyTheGradientsThatAreWantedAreComputed) {
  const Problem p = Problem::random(40, 5, 100, 111);
  const Result all = compute(p, false);
  for (int wanted = 0; wanted < 3; ++wanted) {
    Tape tape;
    std::vector<Variable> inputs = {put(p.hidden, {40, 5}), put(p.weight, {100, 5}), put(p.bias, {100})};
    const auto chosen = static_cast<std::size_t>(wanted);
    inputs[chosen] = tape.watch(inputs[chosen].value());
    tape.backward(linear_categorical(inputs[0], inputs[1], inputs[2], put(p.labels, {40})), put(p.g, {40}));
    const std::size_t begins[] = {0, 40 * 5, 40 * 5 + 100 * 5, all.gradient.size()};
    const std::vector<float> part(all.gradient.begin() + static_cast<std::ptrdiff_t>(begins[chosen]),
                                  all.gradient.begin() + static_cast<std::ptrdiff_t>(begins[chosen + 1]));
    EXPECT_EQ(tape.grad(inputs[chosen]).to_host(), part) << "input " << wanted;
  }
}

TEST_P(LinearCategorical, GivesTheSameBitsWithAnyNumberOfThreads) {
  if (device().is_cuda()) GTEST_SKIP() << "threads are the CPU's";
  const Problem p = Problem::random(290, 70, 3000, 121, 4);
  for (const Products products : {Products::kFloat32, Products::kBfloat16IfFaster}) {
    const int before = cpu_threads();
    set_cpu_threads(1);
    const Result one = compute(p, true, products);
    for (const int threads : {2, 3, 5}) {
      set_cpu_threads(threads);
      const Result more = compute(p, true, products);
      EXPECT_EQ(one.y, more.y) << threads << " threads";
      EXPECT_EQ(one.gradient, more.gradient) << threads << " threads";
    }
    set_cpu_threads(before);
  }
}

TEST_P(LinearCategorical, ProductsInBfloat16AreExactForNumbersThatAreBfloat16) {
  for (const int64_t rows : {1, 33, 290}) {
    for (const int64_t width : {1, 31, 130, 300}) {
      if (on_simulated_device() && rows * width > 1100) continue;
      Problem p = Problem::random(rows, width, 203, static_cast<uint64_t>(rows + width), 3);
      for (float& x : p.hidden) x = to_bfloat16(x);
      for (float& x : p.weight) x = to_bfloat16(x);
      expect_right(p, Products::kBfloat16IfFaster);
    }
  }
}

TEST_P(LinearCategorical, RefusesWhatDoesNotFit) {
  const auto hidden = put<float>(std::vector<float>(6), {2, 3});
  const auto weight = put<float>(std::vector<float>(12), {4, 3});
  const auto bias = put<float>(std::vector<float>(4), {4});
  const auto labels = put<int32_t>({0, 3}, {2});
  EXPECT_EQ(message_of<ShapeError>([&] { linear_categorical(hidden, bias, labels); }),
            "linear_categorical: weight has shape (4,); (V, H) with V >= 1 and H = 3 is needed");
  EXPECT_EQ(message_of<ShapeError>([&] { linear_categorical(hidden, weight, hidden, labels); }),
            "linear_categorical: bias has shape (2, 3); (V) = (4,) is needed");
  EXPECT_EQ(message_of<ShapeError>([&] { linear_categorical(hidden, weight, put<int32_t>({0}, {1})); }),
            "linear_categorical: labels has shape (1,); (B) = (2,) is needed");
  EXPECT_EQ(message_of<ShapeError>([&] {
              linear_categorical(hidden, weight, put<int64_t>({0, 2}, {2}), labels);
            }),
            "linear_categorical: offsets has shape (2,); (B + 1) = (3,) is needed");
  EXPECT_THROW(linear_categorical(bias, weight, labels), ShapeError);
  EXPECT_THROW(linear_categorical(hidden, Tensor<float>::zeros({0, 3}, device()), labels), ShapeError);
  EXPECT_THROW(linear_categorical(hidden, Tensor<float>::zeros({4, 3}, Stream::create(device())), labels), DeviceError);
}

TEST_P(LinearCategorical, ALabelThatIsNoWordThrowsOnTheCpuAndGivesNaNOnCuda) {
  Problem p = Problem::random(5, 3, 6, 131);
  const Result right = compute(p, false);
  p.labels[2] = 6;
  p.labels[4] = -1;
  if (!device().is_cuda()) {
    EXPECT_EQ(message_of<ArgumentError>([&] { compute(p, false); }),
              "linear_categorical: labels[2] = 6; 0 <= label < 6 is needed");
    p = Problem::random(2, 3, 6, 132);
    p.offsets = {0, 3, 2};
    EXPECT_EQ(message_of<ArgumentError>([&] { compute(p, true); }),
              "linear_categorical: offsets[2] = 2 but offsets[1] = 3; offsets must not decrease");
    p.offsets = {0, 1, 1};
    EXPECT_EQ(message_of<ArgumentError>([&] { compute(p, true); }),
              "linear_categorical: offsets[2] = 1 but there are 2 labels");
    return;
  }
  const Result got = compute(p, false);
  for (const std::size_t e : {2u, 4u}) EXPECT_TRUE(std::isnan(got.y[e]));
  for (const std::size_t e : {0u, 1u, 3u}) EXPECT_EQ(got.y[e], right.y[e]);
  for (const int64_t b : {2, 4}) {
    for (int64_t i = 0; i < 3; ++i) EXPECT_EQ(got.gradient[at(b * 3 + i)], 0.0f) << "row " << b;
  }
}

DGM_ON_EVERY_DEVICE(LinearCategorical);

}  // namespace
}  // namespace dgm::test
