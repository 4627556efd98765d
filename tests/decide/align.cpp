// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/decide/align.hpp>

#include <gtest/gtest.h>

#include <atomic>
#include <random>

namespace dgm {
namespace {

// A model whose posteriors are a hash of the words: any number of pairs at once gives the same.
class FakeModel : public AlignmentModel {
 public:
  explicit FakeModel(AlignmentDirections directions) : directions_(directions) {}
  std::string name() const override { return "fake"; }
  AlignmentDirections directions() const override { return directions_; }
  void train(const Bitext&, const Report&) override {}
  std::vector<Translation> translations(bool, std::int32_t, std::int64_t) const override { return {}; }
  SafeTensors to_tensors() const override { return {}; }

  void posteriors(const Bitext& bitext, std::int64_t first, std::int64_t last,
                  AlignmentPosteriors& out) const override {
    out.offsets = {0};
    out.forward.clear();
    out.reverse.clear();
    for (std::int64_t pair = first; pair < last; ++pair) {
      const auto source = bitext.source_sentence(pair);
      const auto target = bitext.target_sentence(pair);
      for (const std::int32_t t : target) {
        for (const std::int32_t s : source) {
          const auto p = static_cast<float>((s * 7 + t * 13) % 11) / 11.f;
          const auto q = static_cast<float>((s * 5 + t * 3) % 7) / 7.f;
          if (directions_ != AlignmentDirections::reverse) out.forward.push_back(p / static_cast<float>(source.size()));
          if (directions_ != AlignmentDirections::forward) out.reverse.push_back(q / static_cast<float>(target.size()));
        }
      }
      out.offsets.push_back(out.offsets.back() + static_cast<std::int64_t>(source.size() * target.size()));
    }
    std::int64_t longest = longest_call;
    while (longest < last - first && !longest_call.compare_exchange_weak(longest, last - first)) {
    }
  }

  mutable std::atomic<std::int64_t> longest_call = 0;

 private:
  AlignmentDirections directions_;
};

Bitext random_bitext(std::int64_t pairs) {
  std::mt19937 draw(2);
  Bitext bitext;
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const bool empty = pair % 17 == 3;
    for (unsigned j = empty ? 0 : 1 + draw() % 9; j > 0; --j)
      bitext.source_words.push_back(static_cast<int>(draw() % 50));
    for (unsigned i = empty ? 0 : 1 + draw() % 9; i > 0; --i)
      bitext.target_words.push_back(static_cast<int>(draw() % 50));
    bitext.source_offsets.push_back(static_cast<std::int64_t>(bitext.source_words.size()));
    bitext.target_offsets.push_back(static_cast<std::int64_t>(bitext.target_words.size()));
  }
  return bitext;
}

struct Result {
  std::vector<Links> links, forward, reverse;
  std::string pharaoh;
};

Result link_all(const AlignmentModel& model, const Bitext& bitext, std::int64_t first, std::int64_t last,
                const Linking& linking) {
  Result result;
  link_pairs(model, bitext, first, last, linking, [&](const LinkedPairs& pairs) {
    EXPECT_EQ(pairs.first, first + static_cast<std::int64_t>(result.links.size()));
    result.links.insert(result.links.end(), pairs.links.begin(), pairs.links.end());
    result.forward.insert(result.forward.end(), pairs.forward.begin(), pairs.forward.end());
    result.reverse.insert(result.reverse.end(), pairs.reverse.begin(), pairs.reverse.end());
    result.pharaoh += pairs.pharaoh;
  });
  return result;
}

TEST(LinkPairs, GivesWhatTheRulesGivePairByPairForAnyChunksAndThreads) {
  const Bitext bitext = random_bitext(3000);
  const int before = cpu_threads();
  for (const AlignmentDirections directions :
       {AlignmentDirections::both, AlignmentDirections::forward, AlignmentDirections::reverse}) {
    const FakeModel model(directions);
    std::vector<std::optional<Symmetrisation>> rules = {std::nullopt};
    if (directions == AlignmentDirections::both) {
      rules.insert(rules.end(),
                   {Symmetrisation::grow_diag_final_and, Symmetrisation::intersect, Symmetrisation::reverse});
    }
    for (const auto& rule : rules) {
      Result wanted;
      for (std::int64_t pair = 0; pair < bitext.pairs(); ++pair) {
        AlignmentPosteriors p;
        model.posteriors(bitext, pair, pair + 1, p);
        const auto m = static_cast<std::int64_t>(bitext.source_sentence(pair).size());
        const auto n = static_cast<std::int64_t>(bitext.target_sentence(pair).size());
        Links forward, reverse, links;
        if (directions != AlignmentDirections::reverse) best_source_links(p.forward, n, m, forward);
        if (directions != AlignmentDirections::forward) best_target_links(p.reverse, n, m, reverse);
        if (directions == AlignmentDirections::forward) {
          links = forward;
        } else if (directions == AlignmentDirections::reverse) {
          links = reverse;
        } else if (rule) {
          symmetrise(forward, reverse, *rule, links);
        } else {
          links_by_agreement(p.forward, p.reverse, n, m, 0.1f, links);
        }
        append_pharaoh(links, wanted.pharaoh);
        wanted.links.push_back(links);
        if (directions != AlignmentDirections::reverse) wanted.forward.push_back(forward);
        if (directions != AlignmentDirections::forward) wanted.reverse.push_back(reverse);
      }
      for (const int threads : {1, 3}) {
        set_cpu_threads(threads);
        for (const std::int64_t cells :
             {std::int64_t{0}, std::int64_t{100}, std::int64_t{20'000}, std::int64_t{1} << 20}) {
          const Result got = link_all(model, bitext, 0, bitext.pairs(),
                                      {.symmetrisation = rule, .threshold = 0.1f, .directions = true, .cells = cells});
          ASSERT_EQ(got.links, wanted.links);
          ASSERT_EQ(got.forward, wanted.forward);
          ASSERT_EQ(got.reverse, wanted.reverse);
          ASSERT_EQ(got.pharaoh, wanted.pharaoh);
        }
        set_cpu_threads(before);
      }
    }
  }
}

TEST(LinkPairs, TakesPartsOfABitextAndRefusesOthers) {
  const Bitext bitext = random_bitext(50);
  const FakeModel model(AlignmentDirections::both);
  const Result all = link_all(model, bitext, 0, 50, {});
  EXPECT_TRUE(all.forward.empty());
  const Result part = link_all(model, bitext, 20, 31, {});
  EXPECT_EQ(part.links, std::vector<Links>(all.links.begin() + 20, all.links.begin() + 31));
  EXPECT_TRUE(link_all(model, bitext, 50, 50, {}).links.empty());
  EXPECT_THROW(link_all(model, bitext, 20, 51, {}), ArgumentError);
  EXPECT_THROW(link_all(model, bitext, -1, 5, {}), ArgumentError);
  EXPECT_THROW(link_all(model, bitext, 6, 5, {}), ArgumentError);
}

TEST(LinkPairs, HandlesNoMoreCellsAtOnceThanItWasTold) {
  const Bitext bitext = random_bitext(1000);
  const FakeModel model(AlignmentDirections::forward);
  link_all(model, bitext, 0, 1000, {.cells = 100});
  EXPECT_GT(model.longest_call, 1);
  EXPECT_LE(model.longest_call, 101);
}

}  // namespace
}  // namespace dgm
