// SPDX-License-Identifier: Apache-2.0
#include <dgm/ops/reductions.hpp>
#include <dgm/ops/sparse_alignment.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/reference.hpp"

#include <cstring>
#include <limits>
#include <map>
#include <numeric>

namespace dgm::test {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

using Sentence = std::vector<int32_t>;
struct Pair {
  Sentence source, target;
};

// Pairs, and a table by words that is not the library's: t[e + 1][f], NULL in front.
struct Case {
  std::vector<Pair> pairs;
  int32_t sources, targets;
  std::vector<Reals> table;  // logarithms
  bool diagonal = false;
  Real p0 = 0.2L, tension = 3;

  Real log_prior(int64_t i, int64_t j, int64_t m, int64_t n) const {
    if (!diagonal) return -std::log(static_cast<Real>(n + 1));
    if (j == 0) return std::log(p0);
    const auto distance = [&](int64_t at) {
      return std::abs(static_cast<Real>(i + 1) / static_cast<Real>(m) - static_cast<Real>(at) / static_cast<Real>(n));
    };
    Real sum = 0;
    for (int64_t at = 1; at <= n; ++at) sum += std::exp(-tension * distance(at));
    return std::log((1 - p0) / sum) - tension * distance(j);
  }
  // log prior(j) + log t of each place of a word.
  Reals terms(const Pair& pair, int64_t i) const {
    const auto n = static_cast<int64_t>(pair.source.size());
    Reals terms;
    for (int64_t j = 0; j <= n; ++j) {
      const Real t = table[j == 0 ? 0 : pair.source[j - 1] + 1][pair.target[i]];
      terms.push_back(t + log_prior(i, j, static_cast<int64_t>(pair.target.size()), n));
    }
    return terms;
  }
  Reals word_log_marginals() const {
    Reals result;
    for (const Pair& pair : pairs) {
      for (std::size_t i = 0; i < pair.target.size(); ++i) {
        result.push_back(log_sum_exp(terms(pair, static_cast<int64_t>(i))));
      }
    }
    return result;
  }
  Reals pair_log_marginals() const {
    Reals result;
    for (const Pair& pair : pairs) {
      Real sum = 0;
      for (std::size_t i = 0; i < pair.target.size(); ++i) sum += log_sum_exp(terms(pair, static_cast<int64_t>(i)));
      result.push_back(sum);
    }
    return result;
  }
  // Posteriors of all places, NULL first, of all words.
  std::vector<Reals> posteriors() const {
    std::vector<Reals> result;
    for (const Pair& pair : pairs) {
      for (std::size_t i = 0; i < pair.target.size(); ++i) {
        Reals p = terms(pair, static_cast<int64_t>(i));
        const Real total = log_sum_exp(p);
        for (Real& term : p) term = std::isinf(total) ? 0 : std::exp(term - total);
        result.push_back(p);
      }
    }
    return result;
  }
};

Case make_case(int64_t pairs, int32_t sources, int32_t targets, int64_t longest, uint64_t seed, double spread = 2.0) {
  std::mt19937_64 generator(seed);
  Case made;
  made.sources = sources;
  made.targets = targets;
  const auto sentence = [&](int32_t vocabulary, int64_t length) {
    Sentence words(static_cast<std::size_t>(length));
    for (int32_t& word : words) {
      const double u = std::uniform_real_distribution<double>()(generator);
      word = static_cast<int32_t>(u * u * vocabulary);
    }
    return words;
  };
  const auto length = [&] { return static_cast<int64_t>(generator() % static_cast<uint64_t>(longest)) + 1; };
  for (int64_t p = 0; p < pairs; ++p) {
    const int64_t source = length();
    made.pairs.push_back({sentence(sources, source), sentence(targets, length())});
  }
  for (int32_t e = 0; e <= sources; ++e) {
    made.table.push_back(to_reals(random_normals(targets, seed * 1000 + static_cast<uint64_t>(e), spread, -3.0)));
  }
  return made;
}

class SparseAlignment : public OnEveryDevice {
 protected:
  // The case as the op sees it.
  struct Compiled {
    std::shared_ptr<const Cooccurrence> pattern;
    AlignmentCells cells;
    std::vector<float> log_table;  // by entry
    std::vector<int32_t> rows;     // of each entry
  };
  Compiled compile(const Case& from, int64_t block_words = 50) const {
    std::vector<int64_t> source_offsets = {0}, target_offsets = {0};
    std::vector<int32_t> source_words, target_words;
    for (const Pair& pair : from.pairs) {
      source_words.insert(source_words.end(), pair.source.begin(), pair.source.end());
      target_words.insert(target_words.end(), pair.target.begin(), pair.target.end());
      source_offsets.push_back(static_cast<int64_t>(source_words.size()));
      target_offsets.push_back(static_cast<int64_t>(target_words.size()));
    }
    auto pattern = std::make_shared<const Cooccurrence>(
        BitextView{source_offsets, target_offsets, source_words, target_words, from.sources, from.targets},
        Cooccurrence::Options{.block_words = block_words});
    Compiled compiled = {pattern, AlignmentCells(pattern, device()), {}, {}};
    for (int64_t row = 0; row < pattern->rows(); ++row) {
      for (int64_t e = pattern->row_offsets()[row]; e < pattern->row_offsets()[row + 1]; ++e) {
        const int32_t word = pattern->entry_targets()[e];
        const bool known = row <= from.sources && word < from.targets;
        compiled.log_table.push_back(known ? static_cast<float>(from.table[row][word]) : -kInf);
        compiled.rows.push_back(static_cast<int32_t>(row));
      }
    }
    return compiled;
  }
  Tensor<float> tensor(const std::vector<float>& values) const {
    return Tensor<float>::from(values, {static_cast<int64_t>(values.size())}, device());
  }
  Tensor<float> prior(const Case& of) const {
    return tensor({static_cast<float>(of.p0), static_cast<float>(of.tension)});
  }
  static std::vector<float> exponentials(std::vector<float> logs) {
    for (float& value : logs) value = std::exp(value);
    return logs;
  }
  // Expected counts by entry, each pair's posteriors times its g.
  static Reals expected_counts(const Case& of, const Compiled& compiled, const Reals& g) {
    std::map<std::pair<int32_t, int32_t>, Real> counts;
    const auto posteriors = of.posteriors();
    std::size_t token = 0;
    for (std::size_t p = 0; p < of.pairs.size(); ++p) {
      for (const int32_t word : of.pairs[p].target) {
        for (std::size_t j = 0; j < posteriors[token].size(); ++j) {
          counts[{j == 0 ? 0 : of.pairs[p].source[j - 1] + 1, word}] += g[p] * posteriors[token][j];
        }
        ++token;
      }
    }
    Reals result;
    for (std::size_t e = 0; e < compiled.rows.size(); ++e) {
      result.push_back(counts[{compiled.rows[e], compiled.pattern->entry_targets()[e]}]);
    }
    return result;
  }
  int64_t some_pairs() const { return on_simulated_device() ? 12 : 60; }
};

TEST_P(SparseAlignment, LogMarginalsMatchLongDoubleUnderBothPriors) {
  for (const int64_t longest : {1, 7, 16, 33, 70}) {
    for (const bool diagonal : {false, true}) {
      Case of = make_case(some_pairs(), 9, 40, longest, 5);
      of.diagonal = diagonal;
      const Compiled compiled = compile(of);
      const Variable parameters = prior(of);
      const Variable* const given = diagonal ? &parameters : nullptr;
      const Variable table = tensor(compiled.log_table);
      const std::string what = "longest " + std::to_string(longest) + (diagonal ? ", diagonal" : ", uniform");
      expect_close(sparse_alignment_word_log_marginal(compiled.cells, table, given).value().to_host(),
                   of.word_log_marginals(), kSparseAlignmentError, what + ", words");
      expect_close(sparse_alignment_log_marginal(compiled.cells, table, given).value().to_host(),
                   of.pair_log_marginals(), kSparseAlignmentError, what + ", pairs");
    }
  }
}

TEST_P(SparseAlignment, TermsFarBelowAnyFloatsExponentialKeepTheirLogMarginal) {
  Case of = make_case(some_pairs(), 9, 40, 12, 6, 300.0);
  for (Reals& row : of.table) {
    for (Real& value : row) value -= 5000;
  }
  for (const bool diagonal : {false, true}) {
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const Variable parameters = prior(of);
    Case rounded = of;
    for (Reals& row : rounded.table) {
      for (Real& value : row) value = static_cast<float>(value);
    }
    expect_close(
        sparse_alignment_word_log_marginal(compiled.cells, tensor(compiled.log_table), diagonal ? &parameters : nullptr)
            .value()
            .to_host(),
        rounded.word_log_marginals(), kSparseAlignmentError, diagonal ? "diagonal" : "uniform");
  }
}

TEST_P(SparseAlignment, GradientByTheTableIsThePosteriorExpectedCounts) {
  for (const bool diagonal : {false, true}) {
    Case of = make_case(some_pairs(), 9, 40, 20, 7);
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const auto g = random_normals(static_cast<int64_t>(of.pairs.size()), 3);
    Tape tape;
    const Variable table = tape.watch(tensor(compiled.log_table));
    const Variable parameters = prior(of);
    tape.backward(sparse_alignment_log_marginal(compiled.cells, table, diagonal ? &parameters : nullptr), tensor(g));
    expect_close(tape.grad(table).to_host(), expected_counts(of, compiled, to_reals(g)), kSparseAlignmentGradientError,
                 diagonal ? "diagonal" : "uniform");
  }
}

TEST_P(SparseAlignment, GradientOfWordsTakesAnUpstreamGradientForEachWord) {
  const Case of = make_case(some_pairs(), 9, 40, 20, 8);
  const Compiled compiled = compile(of);
  std::vector<float> g;
  const auto of_pair = random_normals(static_cast<int64_t>(of.pairs.size()), 4);
  for (std::size_t p = 0; p < of.pairs.size(); ++p) g.insert(g.end(), of.pairs[p].target.size(), of_pair[p]);
  Tape tape;
  const Variable table = tape.watch(tensor(compiled.log_table));
  tape.backward(sparse_alignment_word_log_marginal(compiled.cells, table), tensor(g));
  expect_close(tape.grad(table).to_host(), expected_counts(of, compiled, to_reals(of_pair)),
               kSparseAlignmentGradientError, "by words");
}

TEST_P(SparseAlignment, GradientsByP0AndTensionAgreeWithCentralDifferencesOfTheReference) {
  for (const double tension : {0.0, 0.7, 4.0, 14.0}) {
    Case of = make_case(some_pairs(), 9, 40, 20, 9);
    of.diagonal = true;
    of.tension = static_cast<float>(tension);
    of.p0 = 0.2f;
    const Compiled compiled = compile(of);
    const auto g = random_normals(static_cast<int64_t>(of.pairs.size()), 3);
    Tape tape;
    const Variable parameters = tape.watch(prior(of));
    tape.backward(sparse_alignment_log_marginal(compiled.cells, tensor(compiled.log_table), &parameters), tensor(g));
    const auto value = [&](const Reals& at) {
      Case moved = of;
      moved.p0 = at[0];
      moved.tension = at[1];
      Real sum = 0;
      const Reals pairs = moved.pair_log_marginals();
      for (std::size_t p = 0; p < pairs.size(); ++p) sum += static_cast<Real>(g[p]) * pairs[p];
      return sum;
    };
    const Reals wanted = central_differences(value, {of.p0, of.tension}, 1e-5L);
    const auto got = tape.grad(parameters).to_host();
    // The sum of |g p| over all words, which the error is relative to.
    double scale = 0;
    for (std::size_t p = 0; p < g.size(); ++p) scale += std::abs(g[p]) * static_cast<double>(of.pairs[p].target.size());
    EXPECT_NEAR(got[0], static_cast<double>(wanted[0]), 1e-5 * scale / 0.16) << "p0, tension = " << tension;
    EXPECT_NEAR(got[1], static_cast<double>(wanted[1]), 1e-5 * scale) << "tension = " << tension;
  }
}

TEST_P(SparseAlignment, CountsFromProbabilitiesMatchThePosteriors) {
  for (const bool diagonal : {false, true}) {
    Case of = make_case(some_pairs(), 9, 40, 20, 10);
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const auto parameters = prior(of);
    const AlignmentCounts counts = sparse_alignment_counts(compiled.cells, tensor(exponentials(compiled.log_table)),
                                                           diagonal ? &parameters : nullptr);
    const std::string what = diagonal ? "diagonal" : "uniform";
    expect_close(counts.counts.to_host(), expected_counts(of, compiled, Reals(of.pairs.size(), 1)),
                 kSparseAlignmentGradientError, what + ", counts");
    const Reals pairs = of.pair_log_marginals();
    expect_close(counts.log_marginal.to_host(), pairs, kSparseAlignmentError, what + ", pairs");
    Real null_count = 0;
    Real distance = 0;
    const auto posteriors = of.posteriors();
    std::size_t token = 0;
    for (const Pair& pair : of.pairs) {
      for (std::size_t i = 0; i < pair.target.size(); ++i, ++token) {
        null_count += posteriors[token][0];
        for (std::size_t j = 1; j < posteriors[token].size(); ++j) {
          distance += posteriors[token][j] * std::abs(static_cast<Real>(i + 1) / static_cast<Real>(pair.target.size()) -
                                                      static_cast<Real>(j) / static_cast<Real>(pair.source.size()));
        }
      }
    }
    const auto totals = counts.totals.to_host();
    EXPECT_NEAR(totals[0] / static_cast<double>(std::accumulate(pairs.begin(), pairs.end(), Real{0})), 1, 1e-6);
    EXPECT_NEAR(totals[1] / static_cast<double>(null_count), 1, 1e-5) << what;
    if (diagonal) {
      EXPECT_NEAR(totals[2] / static_cast<double>(distance), 1, 1e-5);
    }
  }
}

TEST_P(SparseAlignment, CountsOfATextInPartsAreThoseOfTheWhole) {
  // Both parts have all rows' entries: the same pairs twice.
  const Case of = make_case(some_pairs(), 9, 40, 10, 11);
  const Compiled compiled = compile(of);
  const auto table = tensor(exponentials(compiled.log_table));
  AlignmentCounts twice = sparse_alignment_counts(compiled.cells, table);
  sparse_alignment_add_counts(compiled.cells, table, nullptr, twice);
  Reals wanted = expected_counts(of, compiled, Reals(of.pairs.size(), 2));
  expect_close(twice.counts.to_host(), wanted, kSparseAlignmentGradientError, "counts");
}

TEST_P(SparseAlignment, CountsOfSentencesOfThousandsOfWords) {
  Case of = make_case(0, 3, 40, 1, 12);
  std::mt19937_64 generator(12);
  for (const std::size_t words : {1u, 1023u, 1024u, 5u, 2047u, 3u, 5000u, 17u, 1009u}) {
    Sentence target(words);
    for (int32_t& word : target) word = static_cast<int32_t>(generator() % 40);
    of.pairs.push_back({{0, 1, 0, static_cast<int32_t>(words % 3)}, target});
  }
  const Compiled compiled = compile(of);
  const auto counts = sparse_alignment_counts(compiled.cells, tensor(exponentials(compiled.log_table)));
  expect_close(counts.counts.to_host(), expected_counts(of, compiled, Reals(of.pairs.size(), 1)),
               kSparseAlignmentGradientError, "counts");
}

TEST_P(SparseAlignment, CountsOfARowOfMoreThan65536Entries) {
  if (on_simulated_device()) GTEST_SKIP() << "too large there";
  constexpr int32_t kTargets = 65700;
  Case of = make_case(0, 2, kTargets, 1, 13);
  Sentence most(65000), others(kTargets - 65000);
  std::iota(most.begin(), most.end(), 0);
  std::iota(others.begin(), others.end(), 65000);
  of.pairs = {{{0, 1}, most}, {{0}, {7, 65000, 7}}, {{0, 0}, others}};
  const Compiled compiled = compile(of);
  const auto counts = sparse_alignment_counts(compiled.cells, tensor(exponentials(compiled.log_table)));
  expect_close(counts.counts.to_host(), expected_counts(of, compiled, Reals(of.pairs.size(), 1)),
               kSparseAlignmentGradientError, "counts");
}

TEST_P(SparseAlignment, LongSumsOfOneEntryStayAccurate) {
  // One source word, one target word: an entry of as many cells as there are words.
  const int64_t pairs = on_simulated_device() ? 300 : 40000;
  Case of = {{}, 1, 2, {{-1, -2}, {-0.5L, -3}}};
  for (int64_t p = 0; p < pairs; ++p) of.pairs.push_back({{0, 0, 0}, {0, 0, 0, 0, p % 7 == 0 ? 1 : 0}});
  const Compiled compiled = compile(of, 1 << 15);
  const auto counts =
      sparse_alignment_counts(compiled.cells, tensor(exponentials(compiled.log_table))).counts.to_host();
  const Reals wanted = expected_counts(of, compiled, Reals(of.pairs.size(), 1));
  for (std::size_t e = 0; e < counts.size(); ++e) {
    if (wanted[e] == 0) continue;
    EXPECT_NEAR(counts[e] / static_cast<double>(wanted[e]), 1, kSparseAlignmentGradientError) << "entry " << e;
  }
  double total = 0;
  for (const float count : counts) total += static_cast<double>(count);
  EXPECT_NEAR(total / static_cast<double>(5 * pairs), 1, kSparseAlignmentGradientError) << "one for each word";
}

TEST_P(SparseAlignment, NormaliseDividesRowsByTheirSumsOrTakesDigammas) {
  const Case of = make_case(some_pairs(), 9, 40, 10, 12);
  const Compiled compiled = compile(of);
  const auto counts = sparse_alignment_counts(compiled.cells, tensor(exponentials(compiled.log_table))).counts;
  const Reals values = to_reals(counts.to_host());
  for (const float alpha : {0.0f, 0.01f, 1.0f}) {
    auto table = Tensor<float>::empty({compiled.pattern->entries()}, device());
    sparse_alignment_normalise(compiled.cells, counts, alpha, table);
    // By its definition as a limit: digamma(x) = digamma(x + n) - sum_k 1 / (x + k), and digamma(y) ~ log y - 1/(2y)
    // - 1/(12 y^2).
    const auto digamma = [](Real x) {
      Real below = 0;
      for (int k = 0; k < 2000; ++k, x += 1) below += 1 / x;
      return std::log(x) - 1 / (2 * x) - 1 / (12 * x * x) - below;
    };
    Reals wanted;
    const auto& offsets = compiled.pattern->row_offsets();
    for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
      Real total = 0;
      for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) total += values[e];
      const Real a = static_cast<Real>(alpha);
      for (int64_t e = offsets[row]; e < offsets[row + 1]; ++e) {
        if (total == 0) {
          wanted.push_back(0);
        } else if (alpha == 0) {
          wanted.push_back(values[e] / total);
        } else {
          wanted.push_back(std::exp(digamma(values[e] + a) -
                                    digamma(total + a * static_cast<Real>(offsets[row + 1] - offsets[row]))));
        }
      }
    }
    expect_close(table.to_host(), wanted, 1e-5, "alpha = " + std::to_string(alpha));
  }
}

TEST_P(SparseAlignment, PosteriorsAreThoseOfTheReferenceAndLackWhatNullHas) {
  for (const bool diagonal : {false, true}) {
    Case of = make_case(some_pairs(), 9, 40, 20, 13);
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const auto parameters = prior(of);
    Reals wanted;
    for (const Reals& word : of.posteriors()) wanted.insert(wanted.end(), word.begin() + 1, word.end());
    expect_close(sparse_alignment_posteriors(compiled.cells, tensor(exponentials(compiled.log_table)),
                                             diagonal ? &parameters : nullptr)
                     .to_host(),
                 wanted, 2e-6, diagonal ? "diagonal" : "uniform");
  }
}

TEST_P(SparseAlignment, MinusInfinityEverywhereGivesMinusInfinityAndNoGradient) {
  // Pair 0 has no mass at its second word; pair 1 has some; pair 2 has no words at all.
  Case of = {
      {{{0}, {0, 1}}, {{1}, {0, 2}}, {{0, 1}, {}}}, 2, 3, {{-1, -INFINITY, -2}, {-2, -INFINITY, -1}, {-1, -1, -1}}};
  for (const bool diagonal : {false, true}) {
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const Variable parameters = prior(of);
    const Variable* const given = diagonal ? &parameters : nullptr;
    Tape tape;
    const Variable table = tape.watch(tensor(compiled.log_table));
    const Variable y = sparse_alignment_log_marginal(compiled.cells, table, given);
    expect_close(y.value().to_host(), {-INFINITY, of.pair_log_marginals()[1], 0}, kSparseAlignmentError,
                 "log marginal");
    tape.backward(y, Tensor<float>::full({3}, 1.0f, device()));
    expect_close(tape.grad(table).to_host(), expected_counts(of, compiled, {1, 1, 1}), kSparseAlignmentGradientError,
                 "gradient");
    const auto counts = sparse_alignment_counts(compiled.cells, tensor(exponentials(compiled.log_table)),
                                                diagonal ? &parameters.value() : nullptr);
    expect_close(counts.counts.to_host(), expected_counts(of, compiled, {1, 1, 1}), kSparseAlignmentGradientError,
                 "counts");
    EXPECT_EQ(counts.log_marginal.to_host()[0], -kInf);
    EXPECT_EQ(counts.log_marginal.to_host()[2], 0.0f);
  }
}

TEST_P(SparseAlignment, NanMakesItsPairNanAndNoOther) {
  Case of = {{{{0}, {0}}, {{1}, {0, 1}}}, 2, 2, {{-1, -1}, {-2, -2}, {-1, -1}}};
  const Compiled compiled = compile(of);
  std::vector<float> table = compiled.log_table;
  for (std::size_t e = 0; e < table.size(); ++e) {
    if (compiled.rows[e] == 2 && compiled.pattern->entry_targets()[e] == 1) table[e] = kNan;
  }
  const auto y = sparse_alignment_log_marginal(compiled.cells, tensor(table)).value().to_host();
  EXPECT_NEAR(y[0], static_cast<double>(of.pair_log_marginals()[0]), 1e-6);
  EXPECT_TRUE(std::isnan(y[1]));
}

TEST_P(SparseAlignment, EmptySidesAndNoPairsAtAll) {
  Case of = {{{{}, {0, 1}}, {{0}, {}}, {{}, {}}}, 1, 2, {{-1, -2}, {-1, -1}}};
  for (const bool diagonal : {false, true}) {
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const Variable parameters = prior(of);
    const Real null_prior = diagonal ? std::log(0.2L) : 0;
    expect_close(
        sparse_alignment_log_marginal(compiled.cells, tensor(compiled.log_table), diagonal ? &parameters : nullptr)
            .value()
            .to_host(),
        {2 * null_prior - 3, 0, 0}, 1e-6, "NULL alone");
  }
  const Compiled none = compile({{}, 1, 2, {{-1, -2}, {-1, -1}}});
  EXPECT_EQ(sparse_alignment_log_marginal(none.cells, tensor(none.log_table)).value().size(), 0);
  EXPECT_EQ(sparse_alignment_counts(none.cells, tensor(none.log_table)).totals.to_host(),
            (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(sparse_alignment_posteriors(none.cells, tensor(none.log_table)).size(), 0);
}

TEST_P(SparseAlignment, BitsDoNotDependOnThreadsOrRuns) {
  const Case of = make_case(on_simulated_device() ? 20 : 4000, 60, 300, 25, 14);
  const Compiled compiled = compile(of, 1000);
  const auto table = tensor(exponentials(compiled.log_table));
  const auto parameters = prior(of);
  const auto bits = [&] {
    std::vector<float> all;
    for (const Tensor<float>* given : {static_cast<const Tensor<float>*>(nullptr), &parameters}) {
      const AlignmentCounts counts = sparse_alignment_counts(compiled.cells, table, given);
      const auto values = counts.counts.to_host();
      all.insert(all.end(), values.begin(), values.end());
      for (const double total : counts.totals.to_host()) {
        float halves[2];
        std::memcpy(halves, &total, sizeof total);
        all.insert(all.end(), halves, halves + 2);
      }
      Tape tape;
      const Variable leaf = tape.watch(tensor(compiled.log_table));
      const Variable given_variable = parameters;
      tape.backward(
          sum(sparse_alignment_log_marginal(compiled.cells, leaf, given != nullptr ? &given_variable : nullptr)));
      const auto gradient = tape.grad(leaf).to_host();
      all.insert(all.end(), gradient.begin(), gradient.end());
    }
    return all;
  };
  const int before = cpu_threads();
  set_cpu_threads(1);
  const auto one = bits();
  set_cpu_threads(3);
  const auto three = bits();
  const auto again = bits();
  set_cpu_threads(before);
  EXPECT_EQ(std::memcmp(one.data(), three.data(), one.size() * sizeof(float)), 0);
  EXPECT_EQ(std::memcmp(one.data(), again.data(), one.size() * sizeof(float)), 0);
}

TEST_P(SparseAlignment, SamplesFollowThePosterior) {
  for (const bool diagonal : {false, true}) {
    Case of = {{{{0, 1, 0}, {0, 1}}, {{}, {1}}}, 2, 2, {{-2, -1}, {-1, -2}, {-3, -0.5L}}};
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const auto parameters = prior(of);
    const int64_t samples = on_simulated_device() ? 2000 : 20000;
    const auto z = sparse_alignment_sample(compiled.cells, tensor(compiled.log_table), Draws(5, device()).at(2),
                                           samples, diagonal ? &parameters : nullptr)
                       .to_host();
    const auto posteriors = of.posteriors();
    for (std::size_t token = 0; token < posteriors.size(); ++token) {
      std::vector<double> share(posteriors[token].size());
      for (int64_t s = 0; s < samples; ++s) share.at(z[token * samples + s]) += 1.0 / static_cast<double>(samples);
      for (std::size_t j = 0; j < share.size(); ++j) {
        const auto p = static_cast<double>(posteriors[token][j]);
        EXPECT_NEAR(share[j], p, 4 * std::sqrt(p * (1 - p) / static_cast<double>(samples)) + 1e-9)
            << "word " << token << ", place " << j;
      }
    }
  }
}

TEST_P(SparseAlignment, SampleOfAWordWithoutMassIsMinusOne) {
  const Case of = {{{{0}, {0}}}, 1, 1, {{-INFINITY}, {-INFINITY}}};
  const Compiled compiled = compile(of);
  EXPECT_EQ(sparse_alignment_sample(compiled.cells, tensor(compiled.log_table), Draws(1, device()), 2).to_host(),
            (std::vector<int32_t>{-1, -1}));
}

TEST_P(SparseAlignment, LogJointIsPriorAndEntryAndItsGradientCountsTheDraws) {
  for (const bool diagonal : {false, true}) {
    Case of = make_case(5, 4, 6, 5, 15);
    of.diagonal = diagonal;
    const Compiled compiled = compile(of);
    const auto parameters = prior(of);
    std::vector<int32_t> z;
    Reals wanted;
    std::map<std::pair<int32_t, int32_t>, Real> uses;
    for (const Pair& pair : of.pairs) {
      for (std::size_t i = 0; i < pair.target.size(); ++i) {
        const Reals terms = of.terms(pair, static_cast<int64_t>(i));
        for (int s = 0; s < 2; ++s) {
          const auto j = (i * 3 + static_cast<std::size_t>(s)) % terms.size();
          z.push_back(static_cast<int32_t>(j));
          wanted.push_back(terms[j]);
          uses[{j == 0 ? 0 : pair.source[j - 1] + 1, pair.target[i]}] += 1;
        }
      }
    }
    Tape tape;
    const Variable table = tape.watch(tensor(compiled.log_table));
    const auto draws = Tensor<int32_t>::from(z, {static_cast<int64_t>(z.size() / 2), 2}, device());
    const Variable joint = sparse_alignment_log_joint(compiled.cells, draws, table, diagonal ? &parameters : nullptr);
    expect_close(joint.value().to_host(), wanted, kSparseAlignmentError, "log joint");
    tape.backward(sum(joint));
    Reals gradient;
    for (std::size_t e = 0; e < compiled.rows.size(); ++e) {
      gradient.push_back(uses[{compiled.rows[e], compiled.pattern->entry_targets()[e]}]);
    }
    expect_close(tape.grad(table).to_host(), gradient, 1e-6, "gradient");
  }
  const Compiled one = compile({{{{0}, {0}}}, 1, 1, {{-1}, {-1}}});
  const auto outside = Tensor<int32_t>::from({2, -1}, {1, 2}, device());
  EXPECT_EQ(sparse_alignment_log_joint(one.cells, outside, tensor(one.log_table)).value().to_host(),
            (std::vector<float>{-kInf, -kInf}));
}

TEST_P(SparseAlignment, LogTableIsNormalisedInEachRow) {
  const Case of = make_case(some_pairs(), 9, 40, 10, 17);
  const Compiled compiled = compile(of);
  std::vector<float> logits = random_normals(compiled.pattern->entries(), 8, 3.0);
  const auto& offsets = compiled.pattern->row_offsets();
  logits[static_cast<std::size_t>(offsets[1])] = -kInf;
  for (int64_t e = offsets[2]; e < offsets[3]; ++e) logits[e] = -kInf;
  const auto g = random_normals(compiled.pattern->entries(), 9);
  Reals wanted;
  Reals gradient;
  for (std::size_t row = 0; row + 1 < offsets.size(); ++row) {
    const Reals x(logits.begin() + offsets[row], logits.begin() + offsets[row + 1]);
    const Real total = x.empty() ? 0 : log_sum_exp(x);
    Real sum = 0;
    for (std::size_t k = 0; k < x.size(); ++k) sum += std::isinf(x[k]) ? 0 : static_cast<Real>(g[offsets[row] + k]);
    for (std::size_t k = 0; k < x.size(); ++k) {
      wanted.push_back(std::isinf(x[k]) ? -INFINITY : x[k] - total);
      gradient.push_back(std::isinf(x[k]) ? 0 : static_cast<Real>(g[offsets[row] + k]) - std::exp(x[k] - total) * sum);
    }
  }
  Tape tape;
  const Variable leaf = tape.watch(tensor(logits));
  const Variable y = sparse_alignment_log_table(compiled.cells, leaf);
  expect_close(y.value().to_host(), wanted, kSparseAlignmentError, "log table");
  tape.backward(y, tensor(g));
  expect_close(tape.grad(leaf).to_host(), gradient, 1e-5, "gradient");
}

TEST_P(SparseAlignment, RefusesBadArguments) {
  const Compiled compiled = compile(make_case(3, 4, 6, 5, 16));
  const auto table = tensor(compiled.log_table);
  const Variable three = Tensor<float>::zeros({3}, device());
  EXPECT_THROW(sparse_alignment_log_marginal(compiled.cells, three), ShapeError);
  EXPECT_THROW(sparse_alignment_log_marginal(compiled.cells, table, &three), ShapeError);
  EXPECT_THROW(sparse_alignment_counts(compiled.cells, three.value()), ShapeError);
  EXPECT_THROW(sparse_alignment_sample(compiled.cells, table, Draws(1, device()), 0), ArgumentError);
  EXPECT_THROW(sparse_alignment_log_joint(compiled.cells, Tensor<int32_t>::zeros({1}, device()), table), ShapeError);
  auto to = table.clone();
  EXPECT_THROW(sparse_alignment_normalise(compiled.cells, table, -1.0f, to), ArgumentError);
  EXPECT_THROW(AlignmentCells(nullptr, device()), ArgumentError);
}

DGM_ON_EVERY_DEVICE(SparseAlignment);

}  // namespace
}  // namespace dgm::test
