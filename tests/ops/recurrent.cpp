// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/graph.hpp>
#include <dgm/ops/recurrent.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <algorithm>
#include <limits>

namespace dgm::test {
namespace {

// Everything that a recurrent layer computes from, in the order of the sequences, and unpacked.
template <class T>
struct Values {
  std::vector<T> input;  // (N, G H)
  std::vector<T> weight, bias, context, h0, c0;
  std::vector<std::vector<T>*> all() { return {&input, &weight, &bias, &context, &h0, &c0}; }
  std::vector<const std::vector<T>*> all() const { return {&input, &weight, &bias, &context, &h0, &c0}; }
};

struct Case {
  bool lstm;
  std::vector<int64_t> lengths;
  int64_t hidden;
  bool context = false;
  bool initial = false;
  int64_t table = 0;  // rows of a table that the values are numbers of; 0: an input for each value

  int64_t parts() const { return lstm ? 4 : 3; }
  int64_t total() const {
    int64_t sum = 0;
    for (const int64_t n : lengths) sum += n;
    return sum;
  }
  // The number of each value's row: some are no rows.
  std::vector<int32_t> rows() const {
    std::vector<int32_t> numbers;
    for (int64_t i = 0; i < total(); ++i) numbers.push_back(static_cast<int32_t>(i * 5 % (table + 2)) - 1);
    return numbers;
  }
  Values<float> values(uint64_t seed) const {
    const auto batch = static_cast<int64_t>(lengths.size());
    const int64_t width = parts() * hidden;
    const double scale = 1.0 / std::sqrt(static_cast<double>(hidden));
    Values<float> v;
    v.input = random_normals((table > 0 ? table : total()) * width, seed);
    v.weight = random_normals(width * hidden, seed + 1, scale);
    if (!lstm) v.bias = random_normals(width, seed + 2);
    if (context) v.context = random_normals(batch * width, seed + 3);
    if (initial) v.h0 = random_normals(batch * hidden, seed + 4, 0.5);
    if (initial && lstm) v.c0 = random_normals(batch * hidden, seed + 5);
    return v;
  }
  std::string str() const {
    std::string text = lstm ? "lstm" : "gru";
    text += ", H = " + std::to_string(hidden) + (context ? ", context" : "") + (initial ? ", initial state" : "") +
            (table > 0 ? ", table" : "") + ", lengths";
    for (const int64_t n : lengths) text += " " + std::to_string(n);
    return text;
  }
};

Real logistic(Real x) { return 1 / (1 + std::exp(-x)); }

// States (total, H) in the order of the values.
Reals states(const Case& c, const Values<Real>& v, Reals* last_c = nullptr) {
  const int64_t H = c.hidden;
  const int64_t width = c.parts() * H;
  const auto at = [](const Reals& x, int64_t i) { return x[static_cast<std::size_t>(i)]; };
  const std::vector<int32_t> rows = c.table > 0 ? c.rows() : std::vector<int32_t>();
  Reals result;
  int64_t value = 0;
  for (std::size_t b = 0; b < c.lengths.size(); ++b) {
    const auto first = static_cast<int64_t>(b);
    Reals h(static_cast<std::size_t>(H)), cell(static_cast<std::size_t>(H));
    for (int64_t j = 0; j < H; ++j) {
      if (!v.h0.empty()) h[static_cast<std::size_t>(j)] = at(v.h0, first * H + j);
      if (!v.c0.empty()) cell[static_cast<std::size_t>(j)] = at(v.c0, first * H + j);
    }
    for (int64_t t = 0; t < c.lengths[b]; ++t, ++value) {
      Reals in(static_cast<std::size_t>(width)), product(static_cast<std::size_t>(width));
      const int64_t row = c.table > 0 ? rows[static_cast<std::size_t>(value)] : value;
      for (int64_t k = 0; k < width; ++k) {
        const auto i = static_cast<std::size_t>(k);
        if (c.table == 0 || (row >= 0 && row < c.table)) in[i] = at(v.input, row * width + k);
        if (!v.context.empty()) in[i] += at(v.context, first * width + k);
        if (!v.bias.empty()) product[i] = at(v.bias, k);
        for (int64_t j = 0; j < H; ++j) product[i] += at(v.weight, k * H + j) * at(h, j);
      }
      Reals next(static_cast<std::size_t>(H));
      for (int64_t j = 0; j < H; ++j) {
        const auto part = [&](int64_t p) { return at(in, p * H + j) + at(product, p * H + j); };
        const auto i = static_cast<std::size_t>(j);
        if (c.lstm) {
          cell[i] = logistic(part(1)) * cell[i] + logistic(part(0)) * std::tanh(part(2));
          next[i] = logistic(part(3)) * std::tanh(cell[i]);
        } else {
          const Real reset = logistic(part(0));
          const Real update = logistic(part(1));
          const Real candidate = std::tanh(at(in, 2 * H + j) + reset * at(product, 2 * H + j));
          next[i] = (1 - update) * candidate + update * h[i];
        }
      }
      h = next;
      result.insert(result.end(), h.begin(), h.end());
    }
    if (last_c != nullptr) last_c->insert(last_c->end(), cell.begin(), cell.end());
  }
  return result;
}

Values<Real> to_reals(const Values<float>& v) {
  Values<Real> result;
  auto to = result.all();
  const auto from = v.all();
  for (std::size_t i = 0; i < to.size(); ++i) *to[i] = test::to_reals(*from[i]);
  return result;
}

class Recurrent : public OnEveryDevice {
 protected:
  struct Result {
    Tensor<float> h, c;       // h in the order of the values
    Values<float> gradients;  // of sum g h
  };

  // The op with its gradients; g in the order of the values, null: no gradients, and nothing on a tape.
  Result run(const Case& c, const Values<float>& v, const std::vector<float>* g) {
    const int64_t width = c.parts() * c.hidden;
    const auto batch = static_cast<int64_t>(c.lengths.size());
    const SequenceLayout layout(c.lengths, device());
    Tape tape;
    const auto leaf = [&](const std::vector<float>& x, Shape shape) -> Variable {
      const auto tensor = Tensor<float>::from(x, std::move(shape), device());
      return g == nullptr ? Variable(tensor) : tape.watch(tensor);
    };
    const Variable input = leaf(v.input, {c.table > 0 ? c.table : c.total(), width});
    const Variable weight = leaf(v.weight, {width, c.hidden});
    LstmOptions options;
    std::optional<Tensor<int32_t>> rows;
    if (c.table > 0) {
      rows = pack(Tensor<int32_t>::from(c.rows(), {c.total()}, device()), layout);
      options.rows = &*rows;
    }
    if (c.context) options.context = leaf(v.context, {batch, width});
    if (c.initial) options.h0 = leaf(v.h0, {batch, c.hidden});
    if (c.initial && c.lstm) options.c0 = leaf(v.c0, {batch, c.hidden});
    const Variable packed_input = c.table > 0 ? input : pack(input, layout);
    std::optional<Variable> bias;
    if (!c.lstm) bias = leaf(v.bias, {width});
    Result result = {Tensor<float>::empty({0}, device()), Tensor<float>::empty({0}, device()), {}};
    std::optional<Variable> h;
    if (c.lstm) {
      const LstmStates both = lstm(layout, packed_input, weight, options);
      h = both.h;
      result.c = both.c;
    } else {
      h = gru(layout, packed_input, weight, *bias, options);
    }
    const Variable in_order = unpack(*h, layout);
    result.h = in_order.value();
    if (g == nullptr) return result;
    tape.backward(in_order, Tensor<float>::from(*g, {c.total(), c.hidden}, device()));
    result.gradients.input = tape.grad(input).to_host();
    result.gradients.weight = tape.grad(weight).to_host();
    if (bias) result.gradients.bias = tape.grad(*bias).to_host();
    if (options.context) result.gradients.context = tape.grad(*options.context).to_host();
    if (options.h0) result.gradients.h0 = tape.grad(*options.h0).to_host();
    if (options.c0) result.gradients.c0 = tape.grad(*options.c0).to_host();
    return result;
  }
};

std::vector<Case> small_cases() {
  std::vector<Case> cases;
  for (const bool lstm : {true, false}) {
    cases.push_back({lstm, {}, 3});
    cases.push_back({lstm, {0}, 3, true, true});
    cases.push_back({lstm, {1}, 1});
    cases.push_back({lstm, {3}, 2, true, true});
    cases.push_back({lstm, {2, 0, 4, 1}, 3, true, true});
    cases.push_back({lstm, {2, 0, 4, 1}, 3, true, true, 3});
    cases.push_back({lstm, {1, 3}, 5, false, true, 2});
  }
  return cases;
}

TEST_P(Recurrent, MatchesTheReferenceAndItsCentralDifferences) {
  for (const Case& c : small_cases()) {
    const Values<float> v = c.values(11);
    const std::vector<float> g = random_normals(c.total() * c.hidden, 99);
    const Result got = run(c, v, &g);
    const Values<Real> reals = to_reals(v);
    Reals last_c;
    expect_close(got.h.to_host(), states(c, reals, &last_c), kRecurrentError, c.str());
    if (c.lstm) expect_close(got.c.to_host(), last_c, kRecurrentError, "cells, " + c.str());
    const auto gradients = got.gradients.all();
    const std::vector<const char*> names = {"input", "weight", "bias", "context", "h0", "c0"};
    for (std::size_t which = 0; which < gradients.size(); ++which) {
      Values<Real> moved = reals;
      const auto loss = [&](const Reals& x) {
        *moved.all()[which] = x;
        const Reals h = states(c, moved);
        Real total = 0;
        for (std::size_t i = 0; i < h.size(); ++i) total += g[i] * h[i];
        return total;
      };
      expect_close(*gradients[which], central_differences(loss, *reals.all()[which]), kRecurrentError,
                   std::string("gradient of ") + names[which] + ", " + c.str());
    }
  }
}

// Sizes around the register tiles, vectors, blocks of ranks and CUDA blocks; the gradients are held to those of the
// same op on one sequence at a time, which the test above holds to the reference.
TEST_P(Recurrent, LargerBatchesMatchTheReferenceAndTheirSequencesOneByOne) {
  std::vector<Case> cases;
  for (const bool lstm : {true, false}) {
    cases.push_back({lstm, std::vector<int64_t>(13, 3), 33, true, true, 7});
    cases.push_back({lstm, {5, 1, 2, 9, 0, 3, 3, 8, 1, 1, 4, 7, 2, 6}, 17, true, false});
    if (!on_simulated_device()) {
      std::vector<int64_t> lengths;
      for (int64_t b = 0; b < 131; ++b) lengths.push_back(b * 7 % 23);
      cases.push_back({lstm, lengths, 64, true, true, 40});
      cases.push_back({lstm, {40, 50, 3}, 130});
    }
  }
  for (const Case& c : cases) {
    const Values<float> v = c.values(5);
    const std::vector<float> g = random_normals(c.total() * c.hidden, 98);
    const Result got = run(c, v, &g);
    expect_close(got.h.to_host(), states(c, to_reals(v)), kRecurrentError, c.str());
    EXPECT_EQ(run(c, v, nullptr).h.to_host(), got.h.to_host()) << "with and without a gradient, " << c.str();

    const int64_t H = c.hidden;
    const int64_t width = c.parts() * H;
    Values<Real> wanted;
    wanted.weight.resize(v.weight.size());
    wanted.bias.resize(v.bias.size());
    wanted.input.resize(c.table > 0 ? v.input.size() : 0);
    int64_t begin = 0;
    for (std::size_t b = 0; b < c.lengths.size(); ++b) {
      // The inputs of one sequence: the table's rows are looked up here.
      Case one = {c.lstm, {c.lengths[b]}, H, c.context, c.initial};
      const auto part = [](const std::vector<float>& x, int64_t from, int64_t count) {
        return x.empty() ? x : std::vector<float>(x.begin() + from, x.begin() + from + count);
      };
      const auto sequence = static_cast<int64_t>(b);
      Values<float> own = {{},
                           v.weight,
                           v.bias,
                           part(v.context, sequence * width, width),
                           part(v.h0, sequence * H, H),
                           part(v.c0, sequence * H, H)};
      const std::vector<int32_t> rows = c.table > 0 ? c.rows() : std::vector<int32_t>();
      const auto row_of = [&](int64_t t) {
        return c.table > 0 ? rows[static_cast<std::size_t>(begin + t)] : begin + t;
      };
      for (int64_t t = 0; t < c.lengths[b]; ++t) {
        const bool known = c.table == 0 || (row_of(t) >= 0 && row_of(t) < c.table);
        const auto row =
            known ? part(v.input, row_of(t) * width, width) : std::vector<float>(static_cast<std::size_t>(width), 0.0f);
        own.input.insert(own.input.end(), row.begin(), row.end());
      }
      const std::vector<float> own_g = part(g, begin * H, c.lengths[b] * H);
      const Values<float> of_one = run(one, own, &own_g).gradients;
      for (std::size_t i = 0; i < of_one.weight.size(); ++i) wanted.weight[i] += of_one.weight[i];
      for (std::size_t i = 0; i < of_one.bias.size(); ++i) wanted.bias[i] += of_one.bias[i];
      const auto append = [](Reals& to, const std::vector<float>& from) {
        to.insert(to.end(), from.begin(), from.end());
      };
      append(wanted.context, of_one.context);
      append(wanted.h0, of_one.h0);
      append(wanted.c0, of_one.c0);
      if (c.table == 0) append(wanted.input, of_one.input);
      for (int64_t t = 0; c.table > 0 && t < c.lengths[b]; ++t) {
        if (row_of(t) < 0 || row_of(t) >= c.table) continue;
        for (int64_t k = 0; k < width; ++k) {
          wanted.input[static_cast<std::size_t>(row_of(t) * width + k)] +=
              of_one.input[static_cast<std::size_t>(t * width + k)];
        }
      }
      begin += c.lengths[b];
    }
    const std::vector<const char*> names = {"input", "weight", "bias", "context", "h0", "c0"};
    for (std::size_t which = 0; which < names.size(); ++which) {
      expect_close(*got.gradients.all()[which], *wanted.all()[which], kRecurrentError,
                   std::string("gradient of ") + names[which] + ", " + c.str());
    }
  }
}

TEST_P(Recurrent, GoingOnFromItsLastStateIsTheSameAsOneLongSequence) {
  const int64_t H = 9;
  const auto weight = Tensor<float>::from(random_normals(4 * H * H, 1, 0.3), {4 * H, H}, device());
  const auto input = Tensor<float>::from(random_normals(2 * 4 * H, 2), {2, 4 * H}, device());
  const auto both = lstm(SequenceLayout({2}, device()), input, weight);
  const SequenceLayout one({1}, device());
  const auto first = lstm(one, input.rows(0, 1), weight);
  LstmOptions options;
  options.h0 = first.h;
  options.c0 = first.c;
  const auto second = lstm(one, input.rows(1, 2), weight, options);
  const auto h = both.h.value().to_host();
  EXPECT_EQ(first.h.value().to_host(), std::vector<float>(h.begin(), h.begin() + H));
  EXPECT_EQ(second.h.value().to_host(), std::vector<float>(h.begin() + H, h.end()));
  EXPECT_EQ(second.c.to_host(), both.c.to_host());
}

TEST_P(Recurrent, EmptySequencesKeepTheirCells) {
  const auto weight = Tensor<float>::full({4, 1}, 0.5f, device());
  LstmOptions options;
  options.h0 = Tensor<float>::from({1, 2, 3}, {3, 1}, device());
  options.c0 = Tensor<float>::from({4, 5, 6}, {3, 1}, device());
  const auto states =
      lstm(SequenceLayout({0, 1, 0}, device()), Tensor<float>::zeros({1, 4}, device()), weight, options);
  const auto c = states.c.to_host();
  EXPECT_EQ(c[0], 4.0f);
  EXPECT_EQ(c[2], 6.0f);
}

TEST_P(Recurrent, NaNStaysInItsSequence) {
  for (const bool of_lstm : {true, false}) {
    const int64_t H = 20;
    const int64_t width = (of_lstm ? 4 : 3) * H;
    auto x = random_normals(6 * width, 3);
    x[static_cast<std::size_t>(width)] = std::numeric_limits<float>::quiet_NaN();  // sequence 1, first step
    const SequenceLayout layout = SequenceLayout::uniform(3, 2, device());
    const auto input = Tensor<float>::from(x, {6, width}, device());
    const auto weight = Tensor<float>::from(random_normals(width * H, 4, 0.2), {width, H}, device());
    const auto h =
        of_lstm ? lstm(layout, input, weight).h : gru(layout, input, weight, Tensor<float>::zeros({width}, device()));
    const auto values = h.value().to_host();
    for (int64_t row = 0; row < 6; ++row) {
      bool nan = false;
      for (int64_t j = 0; j < H; ++j) nan = nan || std::isnan(values[static_cast<std::size_t>(row * H + j)]);
      EXPECT_EQ(nan, row % 3 == 1) << "packed row " << row;
    }
  }
}

TEST_P(Recurrent, SaturatedGatesGiveFiniteStatesAndGradients) {
  Case c = {true, {3, 2}, 4};
  Values<float> v = c.values(1);
  for (std::size_t i = 0; i < v.input.size(); ++i) v.input[i] = i % 2 == 0 ? 1e4f : -1e4f;
  const std::vector<float> g(20, 1.0f);
  const Result got = run(c, v, &g);
  for (const float h : got.h.to_host()) ASSERT_TRUE(std::isfinite(h));
  for (const float d : got.gradients.weight) ASSERT_TRUE(std::isfinite(d));
}

TEST_P(Recurrent, ATrainingStepIsReplayedAsAGraph) {
  const int64_t H = 6;
  const SequenceLayout layout({3, 1, 2}, device());
  Parameter weight = {"weight", Tensor<float>::from(random_normals(4 * H * H, 1, 0.3), {4 * H, H}, device()),
                      Tensor<float>::zeros({4 * H, H}, device())};
  auto input = Tensor<float>::from(random_normals(6 * 4 * H, 2), {6, 4 * H}, device());
  const auto g = Tensor<float>::from(random_normals(6 * H, 3), {6, H}, device());
  const auto step = [&] {
    Tape tape;
    tape.backward(lstm(layout, input, tape.watch(weight)).h, g);
  };
  step();
  const auto once = weight.grad.to_host();
  const Stream stream = device();
  const Graph graph = Graph::capture(stream, step);
  weight.grad.copy_from(Tensor<float>::zeros({4 * H, H}, device()));
  graph.launch();
  EXPECT_EQ(weight.grad.to_host(), once);
  // Other inputs in the same place give another gradient.
  input.copy_from(Tensor<float>::zeros({6, 4 * H}, device()));
  weight.grad.copy_from(Tensor<float>::zeros({4 * H, H}, device()));
  graph.launch();
  EXPECT_NE(weight.grad.to_host(), once);
}

TEST_P(Recurrent, RefusesWhatDoesNotFit) {
  const SequenceLayout layout({2, 1}, device());
  const auto weight = Tensor<float>::zeros({8, 2}, device());
  const auto input = Tensor<float>::zeros({3, 8}, device());
  try {
    lstm(layout, Tensor<float>::zeros({4, 8}, device()), weight);
    FAIL() << "no exception";
  } catch (const ShapeError& error) {
    EXPECT_STREQ(error.what(), "lstm: input has shape (4, 8); (T, 8) with T = 3 is needed");
  }
  EXPECT_THROW(lstm(layout, input, Tensor<float>::zeros({6, 2}, device())), ShapeError);
  EXPECT_THROW(lstm(layout, Tensor<float>::zeros({3, 6}, device()), weight), ShapeError);
  EXPECT_THROW(gru(layout, input, weight, Tensor<float>::zeros({8}, device())), ShapeError);
  LstmOptions options;
  options.h0 = Tensor<float>::zeros({3, 2}, device());
  EXPECT_THROW(lstm(layout, input, weight, options), ShapeError);
  options = {};
  const auto rows = Tensor<int32_t>::zeros({2}, device());
  options.rows = &rows;
  EXPECT_THROW(lstm(layout, input, weight, options), ShapeError);
  EXPECT_THROW(lstm(layout, input, Tensor<float>::zeros({8, 2}, Stream::create(device()))), DeviceError);
}

DGM_ON_EVERY_DEVICE(Recurrent);

}  // namespace
}  // namespace dgm::test
