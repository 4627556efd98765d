// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/error.hpp>
#include <dgm/decide/symmetrise.hpp>

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <set>

namespace dgm {
namespace {

Links symmetrised(const Links& forward, const Links& reverse, Symmetrisation method) {
  Links out = {{9, 9}};  // what was there is replaced
  symmetrise(forward, reverse, method, out);
  return out;
}

// The definition on whole matrices.
struct Grid {
  int m, n;
  std::vector<std::vector<bool>> forward, reverse, linked;

  Grid(int sources, int targets, const Links& f, const Links& r)
      : m(sources), n(targets), forward(cells()), reverse(cells()), linked(cells()) {
    for (const Link& link : f) forward[link.source][link.target] = true;
    for (const Link& link : r) reverse[link.source][link.target] = true;
    for (int s = 0; s < m; ++s) {
      for (int t = 0; t < n; ++t) linked[s][t] = forward[s][t] && reverse[s][t];
    }
  }
  std::vector<std::vector<bool>> cells() const { return std::vector(m, std::vector<bool>(n)); }
  bool source_free(int s) const {
    for (int t = 0; t < n; ++t) {
      if (linked[s][t]) return false;
    }
    return true;
  }
  bool target_free(int t) const {
    for (int s = 0; s < m; ++s) {
      if (linked[s][t]) return false;
    }
    return true;
  }
  bool neighbour(int s, int t) const {
    for (int i = std::max(0, s - 1); i <= std::min(m - 1, s + 1); ++i) {
      for (int j = std::max(0, t - 1); j <= std::min(n - 1, t + 1); ++j) {
        if ((i != s || j != t) && linked[i][j]) return true;
      }
    }
    return false;
  }
  void grow_diag() {
    for (bool grown = true; grown;) {
      grown = false;
      for (int s = 0; s < m; ++s) {
        for (int t = 0; t < n; ++t) {
          if ((forward[s][t] || reverse[s][t]) && !linked[s][t] && (source_free(s) || target_free(t)) &&
              neighbour(s, t)) {
            linked[s][t] = grown = true;
          }
        }
      }
    }
  }
  void finish(const std::vector<std::vector<bool>>& direction, bool both) {
    for (int s = 0; s < m; ++s) {
      for (int t = 0; t < n; ++t) {
        if (!direction[s][t] || linked[s][t]) continue;
        if (both ? source_free(s) && target_free(t) : source_free(s) || target_free(t)) linked[s][t] = true;
      }
    }
  }
  Links links() const {
    Links out;
    for (int s = 0; s < m; ++s) {
      for (int t = 0; t < n; ++t) {
        if (linked[s][t]) out.push_back({s, t});
      }
    }
    return out;
  }
};

TEST(Symmetrise, AgreesWithTheDefinitionOnRandomLinks) {
  std::mt19937 draw(11);
  for (int round = 0; round < 5000; ++round) {
    const int m = 1 + static_cast<int>(draw() % 9);
    const int n = 1 + static_cast<int>(draw() % 9);
    const unsigned rarity = 2 + draw() % 6;
    std::set<Link> f;
    std::set<Link> r;
    for (int s = 0; s < m; ++s) {
      for (int t = 0; t < n; ++t) {
        const bool near = std::abs(s - t) < 2;
        if (draw() % (near ? 2 : rarity * 2) == 0) f.insert({s, t});
        if (draw() % (near ? 2 : rarity * 2) == 0) r.insert({s, t});
      }
    }
    const Links forward(f.begin(), f.end());
    const Links reverse(r.begin(), r.end());
    Grid grid(m, n, forward, reverse);
    ASSERT_EQ(symmetrised(forward, reverse, Symmetrisation::intersect), grid.links());
    grid.grow_diag();
    ASSERT_EQ(symmetrised(forward, reverse, Symmetrisation::grow_diag), grid.links()) << round;
    for (const bool both : {false, true}) {
      Grid finished = grid;
      finished.finish(grid.forward, both);
      finished.finish(grid.reverse, both);
      ASSERT_EQ(
          symmetrised(forward, reverse, both ? Symmetrisation::grow_diag_final_and : Symmetrisation::grow_diag_final),
          finished.links())
          << round << " both " << both;
    }
    f.insert(r.begin(), r.end());
    ASSERT_EQ(symmetrised(forward, reverse, Symmetrisation::unite), Links(f.begin(), f.end()));
    ASSERT_EQ(symmetrised(forward, reverse, Symmetrisation::forward), forward);
    ASSERT_EQ(symmetrised(forward, reverse, Symmetrisation::reverse), reverse);
  }
}

TEST(Symmetrise, OfNothingIsNothing) {
  for (const char* name :
       {"forward", "reverse", "intersect", "union", "grow-diag", "grow-diag-final", "grow-diag-final-and"}) {
    const Symmetrisation method = parse_symmetrisation(name);
    EXPECT_EQ(name_of(method), name);
    EXPECT_EQ(symmetrised({}, {}, method), Links{});
  }
  EXPECT_THROW(parse_symmetrisation("grow"), ArgumentError);
}

TEST(BestLinks, TakeTheMostProbablePartnerUnlessNullIsAsProbable) {
  // Rows: 0.5 at source 1; NULL 0.5 beats 0.3; NULL 0.5 equals 0.5; the first of equals.
  const std::vector<float> forward = {.25f, .5f, .0f, .3f, .1f, .1f, 0, 0, .5f, .4f, .2f, .4f};
  Links links;
  best_source_links(forward, 4, 3, links);
  EXPECT_EQ(links, (Links{{0, 3}, {1, 0}}));
  // The same numbers transposed are the other direction.
  std::vector<float> reverse(12);
  for (std::size_t i = 0; i < 4; ++i) {
    for (std::size_t j = 0; j < 3; ++j) reverse[j * 4 + i] = forward[i * 3 + j];
  }
  best_target_links(reverse, 3, 4, links);
  EXPECT_EQ(links, (Links{{0, 1}, {3, 0}}));
  EXPECT_THROW(best_source_links(forward, 4, 4, links), ShapeError);
  EXPECT_THROW(best_target_links(forward, 5, 3, links), ShapeError);
  best_source_links({}, 0, 3, links);
  EXPECT_TRUE(links.empty());
  best_target_links({}, 0, 3, links);
  EXPECT_TRUE(links.empty());
}

TEST(LinksByAgreement, AreThoseWhoseGeometricMeanPassesTheThreshold) {
  std::mt19937 draw(5);
  std::uniform_real_distribution<float> uniform(0, 1);
  const int n = 7;
  const int m = 5;
  std::vector<float> forward(n * m);
  std::vector<float> reverse(n * m);
  for (float& p : forward) p = uniform(draw);
  for (float& p : reverse) p = uniform(draw);
  Links links;
  for (const float threshold : {-1.f, 0.f, .25f, .5f, .9f, 1.f}) {
    Links agreed;
    Links alone;
    for (int j = 0; j < m; ++j) {
      for (int i = 0; i < n; ++i) {
        if (std::sqrt(static_cast<double>(forward[i * m + j]) * reverse[i * m + j]) > threshold)
          agreed.push_back({j, i});
        if (reverse[i * m + j] > threshold) alone.push_back({j, i});
      }
    }
    links_by_agreement(forward, reverse, n, m, threshold, links);
    EXPECT_EQ(links, agreed) << threshold;
    links_by_agreement({}, reverse, n, m, threshold, links);
    EXPECT_EQ(links, alone) << threshold;
    links_by_agreement(reverse, {}, n, m, threshold, links);
    EXPECT_EQ(links, alone) << threshold;
  }
  EXPECT_THROW(links_by_agreement(forward, reverse, n, m + 1, .5f, links), ShapeError);
  EXPECT_THROW(links_by_agreement(forward, std::span(reverse).first(3), n, m, .5f, links), ShapeError);
}

}  // namespace
}  // namespace dgm
