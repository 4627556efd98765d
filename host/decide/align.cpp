// SPDX-License-Identifier: Apache-2.0
#include <dgm/decide/align.hpp>

#include <string>
#include <vector>

#include "host/core/check.hpp"
#include "host/cpu/parallel.hpp"

namespace dgm {
namespace {

std::int64_t cells_of(const Bitext& bitext, std::int64_t pair) {
  return static_cast<std::int64_t>(bitext.source_sentence(pair).size() * bitext.target_sentence(pair).size());
}

}  // namespace

void link_pairs(const AlignmentModel& model, const Bitext& bitext, std::int64_t first, std::int64_t last,
                const Linking& linking, const std::function<void(const LinkedPairs&)>& visit) {
  check<ArgumentError>(0 <= first && first <= last && last <= bitext.pairs(), "link_pairs: pairs ", first, " to ", last,
                       " are not within the ", bitext.pairs(), " of the bitext");
  const bool has_forward = model.directions() != AlignmentDirections::reverse;
  const bool has_reverse = model.directions() != AlignmentDirections::forward;
  const bool both = has_forward && has_reverse;
  const bool by_agreement = both && !linking.symmetrisation;
  const bool wants_best = linking.directions || !by_agreement;

  AlignmentPosteriors posteriors;
  std::vector<Links> links, forward, reverse;
  std::vector<std::string> pieces(static_cast<std::size_t>(cpu_threads()));
  while (first < last) {
    std::int64_t end = first + 1;
    std::int64_t cells = cells_of(bitext, first);
    for (; end < last; ++end) {
      cells += cells_of(bitext, end);
      if (cells > linking.cells) break;
    }
    model.posteriors(bitext, first, end, posteriors);
    const auto count = static_cast<std::size_t>(end - first);
    // They only grow, so that the memory of each pair's links is used again.
    if (links.size() < count) links.resize(count);
    if (wants_best && has_forward && forward.size() < count) forward.resize(count);
    if (wants_best && has_reverse && reverse.size() < count) reverse.resize(count);
    for (std::string& piece : pieces) piece.clear();

    cpu::parallel_ranges(end - first, 256, [&](std::int64_t from, std::int64_t to, int thread) {
      std::string& piece = pieces[static_cast<std::size_t>(thread)];
      for (std::int64_t k = from; k < to; ++k) {
        const auto i = static_cast<std::size_t>(k);
        const auto m = static_cast<std::int64_t>(bitext.source_sentence(first + k).size());
        const auto n = static_cast<std::int64_t>(bitext.target_sentence(first + k).size());
        const auto begin = static_cast<std::size_t>(posteriors.offsets[i]);
        const auto of = [&](const std::vector<float>& all, bool there) {
          return there ? std::span(all).subspan(begin, static_cast<std::size_t>(m * n)) : std::span<const float>();
        };
        const std::span<const float> p = of(posteriors.forward, has_forward);
        const std::span<const float> q = of(posteriors.reverse, has_reverse);
        if (wants_best && has_forward) best_source_links(p, n, m, forward[i]);
        if (wants_best && has_reverse) best_target_links(q, n, m, reverse[i]);
        if (by_agreement) {
          links_by_agreement(p, q, n, m, linking.threshold, links[i]);
        } else if (both) {
          symmetrise(forward[i], reverse[i], *linking.symmetrisation, links[i]);
        } else {
          links[i] = has_forward ? forward[i] : reverse[i];
        }
        append_pharaoh(links[i], piece);
      }
    });
    for (std::size_t t = 1; t < pieces.size(); ++t) pieces[0] += pieces[t];
    const auto shown = [&](const std::vector<Links>& all, bool there) {
      return there ? std::span(all).first(count) : std::span<const Links>();
    };
    visit({.first = first,
           .links = shown(links, true),
           .forward = shown(forward, wants_best && has_forward),
           .reverse = shown(reverse, wants_best && has_reverse),
           .posteriors = posteriors,
           .pharaoh = pieces[0]});
    first = end;
  }
}

}  // namespace dgm
