// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/decide/align.hpp>
#include <dgm/models/hmm_alignment.hpp>

#include "tests/support/devices.hpp"
#include "tests/support/files.hpp"
#include "tests/support/reference.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <random>

namespace dgm::test {
namespace {

// Text whose alignment is known: runs of source words are translated word by word, runs change places, words are
// left out, and words of no source come in.
struct KnownText {
  Bitext bitext;
  GoldLinks gold;
};

KnownText known_text(int pairs, uint64_t seed) {
  constexpr int kWords = 300;
  auto source = std::make_shared<Vocabulary>();
  auto target = std::make_shared<Vocabulary>();
  for (int w = 0; w < kWords; ++w) {
    source->add("source" + std::to_string(w));
    target->add("target" + std::to_string(w));
  }
  std::mt19937_64 generator(seed);
  const auto below = [&](int n) { return static_cast<int>(generator() % static_cast<uint64_t>(n)); };
  // Frequent words are much more frequent than rare ones.
  const auto draw = [&] { return std::min(below(kWords), std::min(below(kWords), below(kWords))); };
  KnownText text;
  for (int p = 0; p < pairs; ++p) {
    const int n = 4 + below(9);
    std::vector<int> words;
    for (int i = 0; i < n; ++i) words.push_back(draw());
    std::vector<int> order;
    for (int i = 0; i < n; ++i) order.push_back(i);
    if (below(2) == 0) std::rotate(order.begin(), order.begin() + 1 + below(n - 1), order.end());
    Links links;
    int at = 0;
    for (const int i : order) {
      if (below(5) == 0) continue;
      if (below(5) == 0) {
        text.bitext.target_words.push_back(below(kWords));
        ++at;
      }
      const int w = words[static_cast<std::size_t>(i)];
      text.bitext.target_words.push_back((w * 7 + (below(4) == 0 ? 1 : 0)) % kWords);
      links.push_back({i, at++});
    }
    if (at == 0) {
      text.bitext.target_words.push_back(words[0] * 7 % kWords);
      links.push_back({0, 0});
    }
    text.bitext.source_words.insert(text.bitext.source_words.end(), words.begin(), words.end());
    text.bitext.source_offsets.push_back(static_cast<int64_t>(text.bitext.source_words.size()));
    text.bitext.target_offsets.push_back(static_cast<int64_t>(text.bitext.target_words.size()));
    std::sort(links.begin(), links.end());
    text.gold.sure.push_back(links);
    text.gold.possible.push_back(links);
  }
  text.bitext.source = source;
  text.bitext.target = target;
  return text;
}

std::unique_ptr<AlignmentModel> trained(const Bitext& bitext, AlignmentDirections directions,
                                        const HmmAlignmentOptions& hmm = {}, int iterations = 0,
                                        std::vector<AlignmentIteration>* told = nullptr) {
  AlignmentOptions options;
  options.directions = directions;
  options.iterations = iterations;
  auto model = make_hmm_alignment(options, hmm);
  model->train(bitext, [&](const AlignmentIteration& iteration) {
    if (told != nullptr) told->push_back(iteration);
  });
  return model;
}

std::vector<Links> links_of(const AlignmentModel& model, const Bitext& bitext, const Linking& linking = {}) {
  std::vector<Links> result;
  link_pairs(model, bitext, 0, bitext.pairs(), linking,
             [&](const LinkedPairs& linked) { result.insert(result.end(), linked.links.begin(), linked.links.end()); });
  return result;
}

// Log-likelihoods of EM for one class of words, no ends and no smoothing, by sums over all pairs of states.
Reals reference_hmm(const Bitext& bitext, int reach, Real to_null, int iterations) {
  const int buckets = 2 * reach + 3;
  std::vector<Real> first(static_cast<std::size_t>(buckets));
  Real total = 0;
  for (int b = 0; b < buckets; ++b) {
    first[static_cast<std::size_t>(b)] = std::exp(Real{-0.3L} * std::abs(b - reach - 2)) + Real{1e-3L};
  }
  first.front() = first.back() = first.back() / 10;
  for (const Real value : first) total += value;
  for (Real& value : first) value /= total;
  std::array<std::vector<Real>, 2> weight = {first, first};  // from a word, from the beginning
  std::map<std::pair<int, int>, Real> table;
  const Real uniform = Real{1} / bitext.target->size();
  const auto t = [&](int e, int f) { return table.empty() ? uniform : table.at({e, f}); };
  Reals result;
  for (int iteration = 0; iteration < iterations; ++iteration) {
    std::map<std::pair<int, int>, Real> links;
    std::array<std::vector<Real>, 2> jumps, expected;
    for (auto* const counts : {&jumps, &expected}) counts->fill(std::vector<Real>(static_cast<std::size_t>(buckets)));
    Real nulls = 0, words = 0, log_likelihood = 0;
    for (int64_t p = 0; p < bitext.pairs(); ++p) {
      const auto y = bitext.source_sentence(p);
      const auto x = bitext.target_sentence(p);
      const int n = static_cast<int>(y.size());  // state n is the beginning
      const auto bucket = [&](int from, int to) {
        const int jump = to - (from == n ? -1 : from);
        return static_cast<std::size_t>(std::min(std::max(jump, -reach - 1), reach + 1) + reach + 1);
      };
      const auto jump = [&](int from, int to) {
        const std::vector<Real>& row = weight[from == n ? 1 : 0];
        Real sum = 0;
        for (int j = 0; j < n; ++j) sum += row[bucket(from, j)];
        return row[bucket(from, to)] / sum;
      };
      const auto word = [&](int from, int to, int f) {
        return (1 - to_null) * jump(from, to) * t(y[static_cast<std::size_t>(to)], f);
      };
      std::vector<Reals> alpha(x.size() + 1, Reals(y.size() + 1)), beta = alpha;
      alpha[0][y.size()] = 1;
      beta[x.size()].assign(y.size() + 1, 1);
      for (std::size_t i = 0; i < x.size(); ++i) {
        for (int from = 0; from <= n; ++from) {
          const Real before = alpha[i][static_cast<std::size_t>(from)];
          alpha[i + 1][static_cast<std::size_t>(from)] += before * to_null * t(-1, x[i]);
          for (int to = 0; to < n; ++to) alpha[i + 1][static_cast<std::size_t>(to)] += before * word(from, to, x[i]);
        }
      }
      for (std::size_t i = x.size(); i-- > 0;) {
        for (int from = 0; from <= n; ++from) {
          Real sum = to_null * t(-1, x[i]) * beta[i + 1][static_cast<std::size_t>(from)];
          for (int to = 0; to < n; ++to) sum += word(from, to, x[i]) * beta[i + 1][static_cast<std::size_t>(to)];
          beta[i][static_cast<std::size_t>(from)] = sum;
        }
      }
      const Real all = beta[0][y.size()];
      log_likelihood += std::log(all);
      for (int from = 0; from <= n; ++from) {
        Real left = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
          const Real before = alpha[i][static_cast<std::size_t>(from)] / all;
          const Real null = before * to_null * t(-1, x[i]) * beta[i + 1][static_cast<std::size_t>(from)];
          links[{-1, x[i]}] += null;
          nulls += null;
          for (int to = 0; to < n; ++to) {
            const Real q = before * word(from, to, x[i]) * beta[i + 1][static_cast<std::size_t>(to)];
            links[{y[static_cast<std::size_t>(to)], x[i]}] += q;
            jumps[from == n ? 1 : 0][bucket(from, to)] += q;
            left += q;
          }
        }
        words += left;
        for (int to = 0; to < n; ++to) expected[from == n ? 1 : 0][bucket(from, to)] += left * jump(from, to);
      }
    }
    std::map<int, Real> rows;
    for (const auto& [key, count] : links) rows[key.first] += count;
    for (const auto& [key, count] : links) table[key] = count / rows[key.first];
    for (std::size_t k = 0; k < 2; ++k) {
      Real sum = 0;
      for (std::size_t b = 0; b < weight[k].size(); ++b) {
        if (expected[k][b] > 0) weight[k][b] *= jumps[k][b] / expected[k][b];
        sum += weight[k][b];
      }
      for (Real& value : weight[k]) value /= sum;
    }
    to_null = nulls / (nulls + words);
    result.push_back(log_likelihood);
  }
  return result;
}

TEST(HmmAlignmentTraining, HasTheLogLikelihoodsOfLongDoubleEm) {
  const KnownText text = known_text(120, 7);
  HmmAlignmentOptions plain = HmmAlignmentOptions::unsmoothed();
  plain.ibm1_iterations = 0;
  plain.jump_words = 0;
  plain.reach = 3;  // less than the sentences are long
  plain.ends = false;
  std::vector<AlignmentIteration> told;
  trained(text.bitext, AlignmentDirections::forward, plain, 5, &told);
  const Reals wanted = reference_hmm(text.bitext, 3, 0.2L, 5);
  ASSERT_EQ(told.size(), 5u);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(told[i].log_likelihood[0] / static_cast<double>(wanted[i]), 1, 2e-6) << "iteration " << i + 1;
  }
}

TEST(HmmAlignmentTraining, AnIterationInOneDirectionNeverLowersTheLikelihood) {
  const KnownText text = known_text(400, 3);
  for (const auto directions : {AlignmentDirections::forward, AlignmentDirections::reverse}) {
    std::vector<AlignmentIteration> told;
    trained(text.bitext, directions, HmmAlignmentOptions::unsmoothed(), 15, &told);
    const std::size_t d = directions == AlignmentDirections::forward ? 0 : 1;
    ASSERT_EQ(told.size(), 18u);
    for (std::size_t i = 1; i < told.size(); ++i) {
      EXPECT_EQ(told[i].words[d],
                static_cast<int64_t>(d == 0 ? text.bitext.target_words.size() : text.bitext.source_words.size()));
      EXPECT_EQ(told[i].words[1 - d], 0);
      if (told[i].stage != told[i - 1].stage) continue;  // another model
      EXPECT_GE(told[i].log_likelihood[d], told[i - 1].log_likelihood[d] * (1 + 1e-6))
          << told[i].stage << ", iteration " << told[i].iteration;
    }
    EXPECT_GT(told.back().log_likelihood[d], told[3].log_likelihood[d]);
  }
}

TEST(HmmAlignmentTraining, AgreementAlignsBetterThanEitherDirectionAndTheirIntersection) {
  const KnownText text = known_text(400, 5);
  const auto error = [&](AlignmentDirections directions, const Linking& linking) {
    const auto model = trained(text.bitext, directions);
    return alignment_score(links_of(*model, text.bitext, linking), text.gold).aer;
  };
  const double agreement = error(AlignmentDirections::both, {});
  EXPECT_LT(agreement, 0.6 * error(AlignmentDirections::forward, {}));
  EXPECT_LT(agreement, 0.6 * error(AlignmentDirections::reverse, {}));
}

TEST(HmmAlignmentTraining, EqualBitsForAnyNumberOfThreads) {
  const KnownText text = known_text(700, 7);
  const int before = cpu_threads();
  const auto tensors = [&](int threads) {
    set_cpu_threads(threads);
    auto result = trained(text.bitext, AlignmentDirections::both)->to_tensors().tensors;
    set_cpu_threads(before);
    return result;
  };
  const auto one = tensors(1);
  EXPECT_EQ(one, tensors(2));
  EXPECT_EQ(one, tensors(3));
}

TEST(HmmAlignmentTraining, ASavedModelGivesTheSamePosteriorsBitForBit) {
  const TempDir folder;
  const KnownText text = known_text(300, 9);
  for (const auto directions :
       {AlignmentDirections::both, AlignmentDirections::forward, AlignmentDirections::reverse}) {
    const auto model = trained(text.bitext, directions);
    const std::string path = folder / "model.safetensors";
    save_alignment_model(path, *model, *text.bitext.source, *text.bitext.target);
    const LoadedAlignmentModel loaded = load_alignment_model(path);
    EXPECT_EQ(loaded.model->name(), "hmm");
    EXPECT_EQ(loaded.model->directions(), directions);
    AlignmentPosteriors all, part, again;
    model->posteriors(text.bitext, 0, 300, all);
    loaded.model->posteriors(text.bitext, 0, 300, again);
    EXPECT_EQ(all.forward, again.forward);
    EXPECT_EQ(all.reverse, again.reverse);
    loaded.model->posteriors(text.bitext, 17, 40, part);
    const auto begin = all.offsets[17];
    for (std::size_t i = 0; i < part.forward.size(); ++i) {
      ASSERT_EQ(part.forward[i], all.forward[static_cast<std::size_t>(begin) + i]) << "cell " << i;
    }
    for (std::size_t i = 0; i < part.reverse.size(); ++i) {
      ASSERT_EQ(part.reverse[i], all.reverse[static_cast<std::size_t>(begin) + i]) << "cell " << i;
    }
    EXPECT_EQ(links_of(*model, text.bitext), links_of(*loaded.model, text.bitext));
  }
}

TEST(HmmAlignmentTraining, PosteriorsOfAWordSumToAtMostOne) {
  const KnownText text = known_text(200, 11);
  const auto model = trained(text.bitext, AlignmentDirections::both);
  AlignmentPosteriors out;
  model->posteriors(text.bitext, 0, 200, out);
  for (int64_t p = 0; p < 200; ++p) {
    const auto n = text.bitext.source_sentence(p).size();
    const auto m = text.bitext.target_sentence(p).size();
    const auto begin = static_cast<std::size_t>(out.offsets[static_cast<std::size_t>(p)]);
    for (std::size_t i = 0; i < m; ++i) {
      double sum = 0;
      for (std::size_t j = 0; j < n; ++j) sum += out.forward[begin + i * n + j];
      EXPECT_LE(sum, 1 + 1e-4) << "pair " << p << ", target word " << i;
    }
    for (std::size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (std::size_t i = 0; i < m; ++i) sum += out.reverse[begin + i * n + j];
      EXPECT_LE(sum, 1 + 1e-4) << "pair " << p << ", source word " << j;
    }
  }
}

TEST(HmmAlignmentTraining, EmptySidesUnknownWordsAndLongPairsHaveAnAnswer) {
  KnownText text = known_text(100, 13);
  Bitext& b = text.bitext;
  const auto add = [&](int source, int target, int32_t word) {
    b.source_words.insert(b.source_words.end(), static_cast<std::size_t>(source), word);
    b.target_words.insert(b.target_words.end(), static_cast<std::size_t>(target), word);
    b.source_offsets.push_back(static_cast<int64_t>(b.source_words.size()));
    b.target_offsets.push_back(static_cast<int64_t>(b.target_words.size()));
  };
  add(0, 3, 1);
  add(2, 0, 1);
  add(0, 0, 1);
  add(1, 1, 5);
  add(400, 300, 2);
  const auto model = trained(b, AlignmentDirections::both);
  add(3, 4, Vocabulary::kUnknown);
  AlignmentPosteriors out;
  model->posteriors(b, 100, 106, out);
  EXPECT_EQ(out.offsets, (std::vector<int64_t>{0, 0, 0, 0, 1, 120001, 120013}));
  for (const auto* side : {&out.forward, &out.reverse}) {
    ASSERT_EQ(side->size(), 120013u);
    for (const float value : *side) ASSERT_TRUE(value >= 0 && value <= 1.001f) << value;
  }
  EXPECT_THROW(model->posteriors(b, 0, 107, out), ArgumentError);
  Bitext nothing;
  nothing.source = b.source;
  nothing.target = b.target;
  EXPECT_THROW(trained(nothing, AlignmentDirections::both), ArgumentError);
}

TEST(HmmAlignmentTraining, TranslationsComeMostProbableFirstInBothDirections) {
  const KnownText text = known_text(800, 15);
  const auto model = trained(text.bitext, AlignmentDirections::both);
  for (const bool reverse : {false, true}) {
    const auto best = model->translations(reverse, reverse ? 14 : 2, 3);
    ASSERT_EQ(best.size(), 3u);
    EXPECT_EQ(best[0].word, reverse ? 2 : 14);
    EXPECT_GE(best[0].probability, best[1].probability);
  }
  EXPECT_EQ(model->translations(false, AlignmentModel::kNull, 2).size(), 2u);
  EXPECT_TRUE(trained(text.bitext, AlignmentDirections::forward)->translations(true, 2, 3).empty());
}

class HmmAlignmentModel : public OnEveryDevice {
 protected:
  static Bitext with_odd_pairs(int pairs) {
    Bitext bitext = known_text(pairs, 17).bitext;
    bitext.source_words[2] = bitext.target_words[4] = Vocabulary::kUnknown;
    const auto end_pair = [&] {
      bitext.source_offsets.push_back(static_cast<int64_t>(bitext.source_words.size()));
      bitext.target_offsets.push_back(static_cast<int64_t>(bitext.target_words.size()));
    };
    bitext.source_words.push_back(5);  // an empty target side
    end_pair();
    end_pair();  // both empty
    bitext.target_words.push_back(6);
    end_pair();
    bitext.source_words.push_back(7);
    for (int i = 0; i < 40; ++i) bitext.target_words.push_back(i);  // more than a warp
    end_pair();
    return bitext;
  }
  int pairs() const { return on_simulated_device() ? 30 : 200; }

  std::unique_ptr<AlignmentModel> trained_on(Device device, const Bitext& bitext, AlignmentDirections directions,
                                             std::vector<AlignmentIteration>& told, int64_t memory = 0) const {
    auto model = make_hmm_alignment(
        {.directions = directions, .iterations = 2, .device = device, .device_memory = memory}, few_);
    model->train(bitext, [&](const AlignmentIteration& iteration) { told.push_back(iteration); });
    return model;
  }

  HmmAlignmentOptions few_ = {.ibm1_iterations = 2, .jump_words = 5};
};

TEST_P(HmmAlignmentModel, TrainsAndAlignsAsOnTheCpu) {
  const Bitext bitext = with_odd_pairs(pairs());
  for (const auto directions :
       {AlignmentDirections::both, AlignmentDirections::forward, AlignmentDirections::reverse}) {
    std::vector<AlignmentIteration> wanted_told, told;
    const auto wanted = trained_on(Device::cpu(), bitext, directions, wanted_told);
    const auto model = trained_on(device(), bitext, directions, told);
    ASSERT_EQ(told.size(), wanted_told.size());
    for (std::size_t i = 0; i < told.size(); ++i) {
      EXPECT_EQ(told[i].words, wanted_told[i].words);
      EXPECT_EQ(told[i].stage, wanted_told[i].stage);
      for (const std::size_t d : {0, 1}) {
        EXPECT_NEAR(told[i].log_likelihood[d], wanted_told[i].log_likelihood[d],
                    2e-5 * std::abs(wanted_told[i].log_likelihood[d]))
            << "iteration " << i + 1 << ", direction " << d;
      }
    }
    AlignmentPosteriors a, b;
    wanted->posteriors(bitext, 0, bitext.pairs(), a);
    model->posteriors(bitext, 0, bitext.pairs(), b);
    EXPECT_EQ(a.offsets, b.offsets);
    for (const auto& [x, y] : {std::pair{&a.forward, &b.forward}, std::pair{&a.reverse, &b.reverse}}) {
      ASSERT_EQ(x->size(), y->size());
      for (std::size_t i = 0; i < x->size(); ++i) ASSERT_NEAR((*x)[i], (*y)[i], 2e-4) << "cell " << i;
    }
  }
}

TEST_P(HmmAlignmentModel, ATextThatIsCopiedInPartsGivesTheSameBits) {
  const Bitext bitext = with_odd_pairs(pairs());
  std::vector<AlignmentIteration> whole_told;
  const auto whole = trained_on(device(), bitext, AlignmentDirections::both, whole_told);
  for (const int64_t memory : {int64_t{1}, int64_t{20'000}}) {
    std::vector<AlignmentIteration> told;
    const auto parts = trained_on(device(), bitext, AlignmentDirections::both, told, memory);
    EXPECT_EQ(parts->to_tensors().tensors, whole->to_tensors().tensors) << memory << " bytes";
    for (std::size_t i = 0; i < told.size(); ++i) {
      EXPECT_EQ(told[i].log_likelihood, whole_told[i].log_likelihood) << memory << " bytes, iteration " << i + 1;
    }
  }
}

TEST_P(HmmAlignmentModel, ALoadedModelGivesTheSameBits) {
  const Bitext bitext = with_odd_pairs(pairs());
  std::vector<AlignmentIteration> told;
  const auto model = trained_on(device(), bitext, AlignmentDirections::both, told);
  TempDir dir;
  save_alignment_model(dir / "m", *model, *bitext.source, *bitext.target);
  const LoadedAlignmentModel loaded = load_alignment_model(dir / "m", device());
  AlignmentPosteriors all, part;
  model->posteriors(bitext, 0, bitext.pairs(), all);
  std::vector<float> forward, reverse;
  for (int64_t first = 0; first < bitext.pairs(); first += 7) {
    loaded.model->posteriors(bitext, first, std::min(first + 7, bitext.pairs()), part);
    forward.insert(forward.end(), part.forward.begin(), part.forward.end());
    reverse.insert(reverse.end(), part.reverse.begin(), part.reverse.end());
  }
  EXPECT_EQ(all.forward, forward);
  EXPECT_EQ(all.reverse, reverse);
}

DGM_ON_EVERY_DEVICE(HmmAlignmentModel);

}  // namespace
}  // namespace dgm::test
