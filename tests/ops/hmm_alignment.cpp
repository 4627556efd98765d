// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/hmm_alignment.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <limits>
#include <utility>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

using Sentence = std::vector<int32_t>;

struct Text {
  std::vector<std::pair<Sentence, Sentence>> pairs;
  int32_t source_vocabulary, target_vocabulary;
  std::vector<int64_t> source_offsets = {0}, target_offsets = {0};
  std::vector<int32_t> source_words, target_words;

  Text(std::vector<std::pair<Sentence, Sentence>> all, int32_t sources, int32_t targets)
      : pairs(std::move(all)), source_vocabulary(sources), target_vocabulary(targets) {
    for (const auto& [source, target] : pairs) {
      source_words.insert(source_words.end(), source.begin(), source.end());
      target_words.insert(target_words.end(), target.begin(), target.end());
      source_offsets.push_back(static_cast<int64_t>(source_words.size()));
      target_offsets.push_back(static_cast<int64_t>(target_words.size()));
    }
  }
  BitextView view() const {
    return {source_offsets, target_offsets, source_words, target_words, source_vocabulary, target_vocabulary};
  }
};

Text random_text(const std::vector<std::pair<int, int>>& lengths, int32_t sources, int32_t targets, uint64_t seed) {
  std::mt19937_64 generator(seed);
  const auto sentence = [&](int length, int32_t words) {
    Sentence result;
    for (int i = 0; i < length; ++i) result.push_back(static_cast<int32_t>(generator() % static_cast<uint64_t>(words)));
    return result;
  };
  std::vector<std::pair<Sentence, Sentence>> pairs;
  for (const auto& [n, m] : lengths) pairs.emplace_back(sentence(n, sources), sentence(m, targets));
  return Text(pairs, sources, targets);
}

// Parameters in one vector: table, jumps, moves.
struct Model {
  const Text& text;
  const Cooccurrence& pattern;
  std::vector<int32_t> word_class;
  int64_t classes, buckets;

  std::size_t entries() const { return static_cast<std::size_t>(pattern.entries()); }
  std::size_t jumps() const { return static_cast<std::size_t>((classes + 1) * buckets); }
  Reals table(const Reals& all) const { return {all.begin(), all.begin() + pattern.entries()}; }

  // Entry of a source word (-1: NULL) and a target word.
  std::size_t entry(int32_t source, int32_t target) const {
    const auto row = static_cast<std::size_t>(source + 1);
    for (int64_t k = pattern.row_offsets()[row]; k < pattern.row_offsets()[row + 1]; ++k) {
      if (pattern.entry_targets()[static_cast<std::size_t>(k)] == target) return static_cast<std::size_t>(k);
    }
    throw std::runtime_error("the pattern has no such entry");
  }
  Real log_jump(const Reals& all, const Sentence& source, int from, int to) const {
    const int n = static_cast<int>(source.size());
    const auto k = static_cast<std::size_t>(
        from < 0             ? classes
        : word_class.empty() ? 0
                             : word_class[static_cast<std::size_t>(source[static_cast<std::size_t>(from)])]);
    const auto weight = [&](int i) {
      const int reach = static_cast<int>(buckets - 3) / 2;
      const int jump = std::min(std::max(i - from, -reach - 1), reach + 1);
      return all[entries() + k * static_cast<std::size_t>(buckets) + static_cast<std::size_t>(jump + reach + 1)];
    };
    Reals weights;
    for (int i = 0; i < n; ++i) weights.push_back(weight(i));
    const Real norm = test::log_sum_exp(weights);
    return std::isinf(norm) ? norm : weight(to) - norm;
  }
  Real log_move(const Reals& all, std::size_t which) const { return all[entries() + jumps() + which]; }

  // All alignments, one by one; adds each one's weight times its links to `links` if given.
  Real brute_force(const Reals& all, const std::pair<Sentence, Sentence>& pair) const {
    Reals weights;
    walk(all, pair, 0, -1, 0, weights);
    return test::log_sum_exp(weights);
  }
  void walk(const Reals& all, const std::pair<Sentence, Sentence>& pair, std::size_t i, int at, Real weight,
            Reals& weights) const {
    const auto& [source, target] = pair;
    if (i == target.size()) {
      weights.push_back(weight);
      return;
    }
    walk(all, pair, i + 1, at, weight + log_move(all, 0) + all[entry(-1, target[i])], weights);
    for (int j = 0; j < static_cast<int>(source.size()); ++j) {
      walk(all, pair, i + 1, j,
           weight + log_move(all, 1) + log_jump(all, source, at, j) +
               all[entry(source[static_cast<std::size_t>(j)], target[i])],
           weights);
    }
  }
  // Plain forward recursion, positions -1 .. n - 1; links[i][j] forbids all else for target word `fixed`, if >= 0: j,
  // or -1 for NULL.
  Real recursion(const Reals& all, const std::pair<Sentence, Sentence>& pair, int fixed = -1, int to = 0) const {
    const auto& [source, target] = pair;
    const int n = static_cast<int>(source.size());
    std::vector<Reals> jump(static_cast<std::size_t>(n) + 1);
    for (int from = -1; from < n; ++from) {
      for (int j = 0; j < n; ++j) jump[static_cast<std::size_t>(from + 1)].push_back(log_jump(all, source, from, j));
    }
    Reals now(static_cast<std::size_t>(n) + 1, -INFINITY);
    now[0] = 0;
    for (std::size_t i = 0; i < target.size(); ++i) {
      Reals next(now.size(), -INFINITY);
      for (int j = -1; j < n; ++j) {
        const auto s = static_cast<std::size_t>(j + 1);
        Reals terms;
        const bool free = fixed != static_cast<int>(i);
        if (free || to == -1) terms.push_back(now[s] + log_move(all, 0) + all[entry(-1, target[i])]);
        if (j >= 0 && (free || to == j)) {
          const Real emission = log_move(all, 1) + all[entry(source[s - 1], target[i])];
          for (int from = -1; from < n; ++from) {
            const auto f = static_cast<std::size_t>(from + 1);
            terms.push_back(now[f] + jump[f][s - 1] + emission);
          }
        }
        next[s] = terms.empty() ? -INFINITY : test::log_sum_exp(terms);
      }
      now = next;
    }
    return test::log_sum_exp(now);
  }
};

class HmmAlignmentOp : public OnEveryDevice {
 protected:
  struct Outcome {
    std::vector<float> marginal, table, jump, move;
  };
  Outcome compute(const Model& model, const std::vector<float>& all, const std::vector<float>& upstream) {
    const Stream stream(device());
    const HmmBatch batch(model.pattern, 0, stream, model.word_class, model.classes);
    const auto [table, jump, move] = parts(model, all, stream);
    Tape tape;
    const Variable t = tape.watch(table);
    const Variable j = tape.watch(jump);
    const Variable m = tape.watch(move);
    const Variable y = hmm_alignment(t, j, m, batch);
    Outcome result;
    result.marginal = y.value().to_host();
    tape.backward(y, Tensor<float>::from(upstream, {batch.pairs()}, stream));
    result.table = tape.grad(t).to_host();
    result.jump = tape.grad(j).to_host();
    result.move = tape.grad(m).to_host();
    return result;
  }
  HmmPosteriors posteriors(const Model& model, const std::vector<float>& all) {
    const Stream stream(device());
    const HmmBatch batch(model.pattern, 0, stream, model.word_class, model.classes);
    const auto [table, jump, move] = parts(model, all, stream);
    return hmm_alignment_posteriors(table, jump, move, batch);
  }
  static std::vector<float> random_parameters(const Model& model, uint64_t seed, double scale) {
    auto all = random_normals(static_cast<int64_t>(model.entries() + model.jumps()) + 2, seed, scale);
    all[model.entries() + model.jumps()] = std::log(0.2f);
    all[model.entries() + model.jumps() + 1] = std::log(0.8f);
    return all;
  }

 private:
  static std::tuple<Tensor<float>, Tensor<float>, Tensor<float>> parts(const Model& model,
                                                                       const std::vector<float>& all,
                                                                       const Stream& stream) {
    const std::span<const float> values(all);
    return {
        Tensor<float>::from(values.first(model.entries()), {model.pattern.entries()}, stream),
        Tensor<float>::from(values.subspan(model.entries(), model.jumps()), {model.classes + 1, model.buckets}, stream),
        Tensor<float>::from(values.last(2), {2}, stream)};
  }
};

std::vector<int32_t> alternating_classes(int32_t words, int32_t classes) {
  std::vector<int32_t> result;
  for (int32_t w = 0; w < words; ++w) result.push_back(w % classes);
  return result;
}

TEST_P(HmmAlignmentOp, MatchesTheSumOverAllAlignmentsOfSmallPairs) {
  const Text text = random_text({{1, 1}, {1, 3}, {2, 1}, {3, 4}, {4, 3}, {2, 5}}, 5, 4, 3);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, alternating_classes(5, 2), 2, 5};
  for (const double scale : {0.5, 5.0}) {
    const auto all = random_parameters(model, 17, scale);
    const auto got = compute(model, all, std::vector<float>(text.pairs.size(), 1.0f));
    Reals wanted;
    for (const auto& pair : text.pairs) wanted.push_back(model.brute_force(to_reals(all), pair));
    expect_close(got.marginal, wanted, kHmmAlignmentError, "scale " + std::to_string(scale));
  }
}

TEST_P(HmmAlignmentOp, GradientAgreesWithCentralDifferencesOfTheSumOverAllAlignments) {
  const Text text = random_text({{1, 2}, {3, 3}, {2, 4}, {4, 2}}, 4, 4, 8);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, alternating_classes(4, 3), 3, 5};
  const auto all = random_parameters(model, 5, 1.0);
  const std::vector<float> upstream = {1.0f, -0.5f, 3.0f, 0.25f};
  const auto got = compute(model, all, upstream);
  const Reals wanted = central_differences(
      [&](const Reals& at) {
        Real sum = 0;
        for (std::size_t p = 0; p < text.pairs.size(); ++p) sum += upstream[p] * model.brute_force(at, text.pairs[p]);
        return sum;
      },
      to_reals(all));
  std::vector<float> gradient = got.table;
  gradient.insert(gradient.end(), got.jump.begin(), got.jump.end());
  gradient.insert(gradient.end(), got.move.begin(), got.move.end());
  expect_close(gradient, wanted, 5 * kHmmAlignmentError, "gradient");
}

TEST_P(HmmAlignmentOp, MatchesTheRecursionAtEveryVectorAndWarpEdge) {
  std::vector<std::pair<int, int>> lengths;
  for (const int n : {6, 7, 8, 14, 15, 16, 17, 30, 31, 32, 33}) lengths.emplace_back(n, 39 - n);
  const Text text = random_text(lengths, 50, 60, 21);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, alternating_classes(50, 4), 4, 11};
  const auto all = random_parameters(model, 31, 2.0);
  const auto got = compute(model, all, std::vector<float>(text.pairs.size(), 1.0f));
  Reals wanted;
  for (const auto& pair : text.pairs) wanted.push_back(model.recursion(to_reals(all), pair));
  expect_close(got.marginal, wanted, kHmmAlignmentError, "lengths");
}

TEST_P(HmmAlignmentOp, PosteriorsAreTheShareOfAlignmentsWithTheLink) {
  const Text text = random_text({{5, 7}, {18, 3}, {1, 1}}, 9, 9, 4);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 7};
  const auto all = random_parameters(model, 6, 1.5);
  const Reals at = to_reals(all);
  const HmmPosteriors got = posteriors(model, all);
  Reals link, null;
  for (const auto& pair : text.pairs) {
    const Real total = model.recursion(at, pair);
    const int n = static_cast<int>(pair.first.size());
    const int m = static_cast<int>(pair.second.size());
    for (int j = 0; j < n; ++j) {
      for (int i = 0; i < m; ++i) link.push_back(std::exp(model.recursion(at, pair, i, j) - total));
    }
    for (int i = 0; i < m; ++i) null.push_back(std::exp(model.recursion(at, pair, i, -1) - total));
  }
  expect_close(got.link.to_host(), link, kHmmAlignmentError, "links");
  expect_close(got.null.to_host(), null, kHmmAlignmentError, "NULL");
}

TEST_P(HmmAlignmentOp, NothingIsLostWhereScaledSumsVanish) {
  // One path alone is worth anything at the end, and is worth next to nothing until then.
  const Text text({{{0, 1, 2}, {0, 1, 2, 3, 4, 5}}, {{0, 1, 2}, {5, 4, 3, 2, 1, 0}}}, 3, 6);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 5};
  for (const float depth : {-60.0f, -100.0f, -300.0f, -3000.0f}) {
    auto all = random_parameters(model, 2, 0.3);
    for (int32_t f = 0; f < 6; ++f) {
      all[model.entry(-1, f)] = 4 * depth;
      all[model.entry(2, f)] += f < 3 ? depth : 0;
      for (const int32_t e : {0, 1}) all[model.entry(e, f)] += f < 3 ? 0 : 2 * depth;
    }
    for (std::size_t b = 0; b < 5; ++b) all[model.entries() + b] += b == 2 ? 0 : depth;  // staying is cheap
    const auto got = compute(model, all, {1.0f, 1.0f});
    Reals wanted;
    for (const auto& pair : text.pairs) wanted.push_back(model.recursion(to_reals(all), pair));
    expect_close(got.marginal, wanted, kHmmAlignmentError, "depth " + std::to_string(depth));
    Real words = 0;
    for (const float count : got.table) words += count;
    EXPECT_NEAR(static_cast<double>(words), 12.0, 1e-4) << "each word is generated once; depth " << depth;
  }
}

TEST_P(HmmAlignmentOp, APathThatVanishesFirstAndWinsLaterIsNotLost) {
  // Whoever begins at a word stays there. Word 0 explains the first half, word 1 the second, much better.
  const Text text({{{0, 1}, {0, 1, 2, 3, 4, 5, 6, 7}}}, 2, 8);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 5};
  auto all = random_parameters(model, 2, 0.3);
  for (int32_t f = 0; f < 8; ++f) {
    all[model.entry(-1, f)] = -kInf;
    all[model.entry(1, f)] += f < 4 ? -30 : 0;
    all[model.entry(0, f)] += f < 4 ? 0 : -50;
  }
  for (const std::size_t b : {0, 1, 3, 4}) all[model.entries() + b] = -kInf;
  const auto got = compute(model, all, {1.0f});
  expect_close(got.marginal, {model.brute_force(to_reals(all), text.pairs[0])}, kHmmAlignmentError, "marginal");
  for (int32_t f = 0; f < 8; ++f) EXPECT_NEAR(got.table[model.entry(1, f)], 1.0f, 1e-5) << "target word " << f;
}

TEST_P(HmmAlignmentOp, PairWithoutAlignmentGivesMinusInfinityAndZeroGradient) {
  const Text text({{{0}, {0, 1}}, {{1}, {0}}}, 2, 2);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 5};
  auto all = random_parameters(model, 2, 0.3);
  all[model.entry(-1, 1)] = all[model.entry(0, 1)] = -kInf;
  const auto got = compute(model, all, {1.0f, 1.0f});
  EXPECT_EQ(got.marginal[0], -kInf);
  EXPECT_NEAR(got.marginal[1], static_cast<double>(model.brute_force(to_reals(all), text.pairs[1])), 1e-5);
  EXPECT_EQ(got.table[model.entry(0, 0)], 0.0f);
  EXPECT_EQ(got.table[model.entry(0, 1)], 0.0f);
  EXPECT_NEAR(got.table[model.entry(1, 0)] + got.table[model.entry(-1, 0)], 1.0f, 1e-5);
  for (float& value : all) value = -kInf;
  for (const float y : compute(model, all, {1.0f, 1.0f}).marginal) EXPECT_EQ(y, -kInf);
}

TEST_P(HmmAlignmentOp, AWeightOfZeroForbidsLinksJumpsAndNull) {
  const Text text = random_text({{3, 4}, {2, 2}}, 3, 3, 9);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 5};
  auto all = random_parameters(model, 2, 0.5);
  all[model.entries() + 1] = all[model.entries() + 2] = -kInf;  // back by one, and staying
  all[model.entries() + model.jumps()] = -kInf;                 // NULL
  const auto got = compute(model, all, {1.0f, 1.0f});
  for (std::size_t p = 0; p < 2; ++p) {
    const Real wanted = model.brute_force(to_reals(all), text.pairs[p]);
    if (std::isinf(wanted)) {
      EXPECT_EQ(got.marginal[p], -kInf) << "pair " << p;
    } else {
      EXPECT_NEAR(got.marginal[p], static_cast<double>(wanted), 1e-5) << "pair " << p;
    }
  }
  EXPECT_EQ(got.move[0], 0.0f);
  EXPECT_EQ(got.jump[1], 0.0f);
}

TEST_P(HmmAlignmentOp, NaNOfAPairGivesNaNAndNoGradient) {
  const Text text({{{0, 1}, {0, 1}}, {{1}, {1}}}, 2, 2);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 5};
  auto all = random_parameters(model, 2, 0.5);
  all[model.entry(0, 0)] = kNaN;
  const auto got = compute(model, all, {1.0f, 1.0f});
  EXPECT_TRUE(std::isnan(got.marginal[0]));
  EXPECT_FALSE(std::isnan(got.marginal[1]));
  for (const float value : got.table) EXPECT_FALSE(std::isnan(value));
}

TEST_P(HmmAlignmentOp, PairsWithAnEmptySideGiveZero) {
  const Text text({{{}, {0, 1}}, {{0}, {}}, {{}, {}}, {{0}, {1}}}, 1, 2);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 3};
  const auto all = random_parameters(model, 2, 0.5);
  const auto got = compute(model, all, {1.0f, 1.0f, 1.0f, 1.0f});
  for (const std::size_t p : {0, 1, 2}) EXPECT_EQ(got.marginal[p], 0.0f) << "pair " << p;
  EXPECT_NEAR(got.marginal[3], static_cast<double>(model.brute_force(to_reals(all), text.pairs[3])), 1e-5);
}

TEST_P(HmmAlignmentOp, LongSentencesMatchTheRecursion) {
  const int length = on_simulated_device() ? 45 : 211;
  const Text text = random_text({{length, length + 9}, {2, length}, {length, 2}}, 40, 40, 5);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 9};
  const auto all = random_parameters(model, 8, 4.0);
  const auto got = compute(model, all, {1.0f, 1.0f, 1.0f});
  Reals wanted;
  for (const auto& pair : text.pairs) wanted.push_back(model.recursion(to_reals(all), pair));
  expect_close(got.marginal, wanted, kHmmAlignmentError, "long");
}

TEST_P(HmmAlignmentOp, EqualBitsFromRunToRunAndForAnyNumberOfThreads) {
  std::vector<std::pair<int, int>> lengths;
  for (int i = 0; i < (on_simulated_device() ? 20 : 300); ++i) lengths.emplace_back(1 + i % 13, 1 + i % 11);
  const Text text = random_text(lengths, 20, 20, 5);
  const Cooccurrence pattern(text.view());
  const Model model = {text, pattern, {}, 1, 9};
  const auto all = random_parameters(model, 8, 1.0);
  const auto upstream = random_normals(static_cast<int64_t>(lengths.size()), 4);
  const int before = cpu_threads();
  set_cpu_threads(1);
  const auto one = compute(model, all, upstream);
  set_cpu_threads(3);
  const auto three = compute(model, all, upstream);
  set_cpu_threads(before);
  EXPECT_EQ(one.marginal, three.marginal);
  EXPECT_EQ(one.table, three.table);
  EXPECT_EQ(one.jump, three.jump);
  EXPECT_EQ(one.move, three.move);
}

TEST_P(HmmAlignmentOp, WrongArgumentsAreNamed) {
  const Text text({{{0}, {0}}}, 1, 1);
  const Cooccurrence pattern(text.view());
  const Stream stream(device());
  EXPECT_THROW(HmmBatch(pattern, 1, stream), ArgumentError);
  EXPECT_THROW(HmmBatch(pattern, 0, stream, {}, 0), ArgumentError);
  EXPECT_THROW(HmmBatch(pattern, 0, stream, std::vector<int32_t>{2}, 2), ArgumentError);
  const Text unknown({{{0}, {-1}}}, 1, 1);
  EXPECT_THROW(HmmBatch(Cooccurrence(unknown.view()), 0, stream), ArgumentError);
  const HmmBatch batch(pattern, 0, stream);
  const auto table = Tensor<float>::zeros({batch.entries()}, stream);
  const auto jump = Tensor<float>::zeros({2, 5}, stream);
  const auto move = Tensor<float>::zeros({2}, stream);
  EXPECT_THROW(hmm_alignment(Tensor<float>::zeros({1}, stream), jump, move, batch), ShapeError);
  EXPECT_THROW(hmm_alignment(table, Tensor<float>::zeros({2, 4}, stream), move, batch), ShapeError);
  EXPECT_THROW(hmm_alignment(table, Tensor<float>::zeros({3, 5}, stream), move, batch), ShapeError);
  EXPECT_THROW(hmm_alignment(table, jump, Tensor<float>::zeros({3}, stream), batch), ShapeError);
}

DGM_ON_EVERY_DEVICE(HmmAlignmentOp);

}  // namespace
}  // namespace dgm::test
