// SPDX-License-Identifier: Apache-2.0
#include <dgm/decide/align.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include "host/core/check.hpp"
#include "host/cpu/tasks.hpp"

namespace dgm {
namespace {

std::int64_t cells_of(const Bitext& bitext, std::int64_t pair) {
  return static_cast<std::int64_t>(bitext.source_sentence(pair).size() * bitext.target_sentence(pair).size());
}

// Consecutive pairs and what becomes of them. Its memory is used again.
struct Batch {
  std::int64_t first = 0, last = 0;
  AlignmentPosteriors posteriors;
  std::vector<Links> links, forward, reverse;
  std::string pharaoh;

  std::size_t size() const { return static_cast<std::size_t>(last - first); }
};

class Linker {
 public:
  Linker(const AlignmentModel& model, const Bitext& bitext, const Linking& linking)
      : model_(model),
        bitext_(bitext),
        linking_(linking),
        has_forward_(model.directions() != AlignmentDirections::reverse),
        has_reverse_(model.directions() != AlignmentDirections::forward) {}

  void link(Batch& batch) const {
    model_.posteriors(bitext_, batch.first, batch.last, batch.posteriors);
    // They only grow, so that the memory of each pair's links is used again.
    const auto grow = [&](std::vector<Links>& links) {
      if (links.size() < batch.size()) links.resize(batch.size());
    };
    grow(batch.links);
    if (wants_best() && has_forward_) grow(batch.forward);
    if (wants_best() && has_reverse_) grow(batch.reverse);
    batch.pharaoh.clear();
    for (std::size_t i = 0; i < batch.size(); ++i) {
      link_pair(batch, i);
      append_pharaoh(batch.links[i], batch.pharaoh);
    }
  }

  LinkedPairs shown(const Batch& batch) const {
    const auto of = [&](const std::vector<Links>& all, bool there) {
      return there ? std::span(all).first(batch.size()) : std::span<const Links>();
    };
    return {.first = batch.first,
            .links = of(batch.links, true),
            .forward = of(batch.forward, wants_best() && has_forward_),
            .reverse = of(batch.reverse, wants_best() && has_reverse_),
            .posteriors = batch.posteriors,
            .pharaoh = batch.pharaoh};
  }

 private:
  bool both() const { return has_forward_ && has_reverse_; }
  bool by_agreement() const { return both() && !linking_.symmetrisation; }
  bool wants_best() const { return linking_.directions || !by_agreement(); }

  void link_pair(Batch& batch, std::size_t i) const {
    const std::int64_t pair = batch.first + static_cast<std::int64_t>(i);
    const auto m = static_cast<std::int64_t>(bitext_.source_sentence(pair).size());
    const auto n = static_cast<std::int64_t>(bitext_.target_sentence(pair).size());
    const auto begin = static_cast<std::size_t>(batch.posteriors.offsets[i]);
    const auto of = [&](const std::vector<float>& all, bool there) {
      return there ? std::span(all).subspan(begin, static_cast<std::size_t>(m * n)) : std::span<const float>();
    };
    const std::span<const float> p = of(batch.posteriors.forward, has_forward_);
    const std::span<const float> q = of(batch.posteriors.reverse, has_reverse_);
    if (wants_best() && has_forward_) best_source_links(p, n, m, batch.forward[i]);
    if (wants_best() && has_reverse_) best_target_links(q, n, m, batch.reverse[i]);
    if (by_agreement()) {
      links_by_agreement(p, q, n, m, linking_.threshold, batch.links[i]);
    } else if (both()) {
      symmetrise(batch.forward[i], batch.reverse[i], *linking_.symmetrisation, batch.links[i]);
    } else {
      batch.links[i] = has_forward_ ? batch.forward[i] : batch.reverse[i];
    }
  }

  const AlignmentModel& model_;
  const Bitext& bitext_;
  const Linking& linking_;
  bool has_forward_, has_reverse_;
};

}  // namespace

void link_pairs(const AlignmentModel& model, const Bitext& bitext, std::int64_t first, std::int64_t last,
                const Linking& linking, const std::function<void(const LinkedPairs&)>& visit) {
  check<ArgumentError>(0 <= first && first <= last && last <= bitext.pairs(), "link_pairs: pairs ", first, " to ", last,
                       " are not within the ", bitext.pairs(), " of the bitext");
  const Linker linker(model, bitext, linking);
  // More than threads, since they take unequal time.
  std::vector<Batch> batches(2 * static_cast<std::size_t>(cpu_threads()));
  while (first < last) {
    std::int64_t used = 0;
    for (; used < std::ssize(batches) && first < last; ++used) {
      Batch& batch = batches[static_cast<std::size_t>(used)];
      const std::int64_t stop = std::min(last, std::max(model.batch_end(first), first + 1));
      std::int64_t cells = cells_of(bitext, first);
      for (batch.first = first++; first < stop; ++first) {
        cells += cells_of(bitext, first);
        if (cells > linking.cells) break;
      }
      batch.last = first;
    }
    cpu::parallel_tasks(used, [&](std::int64_t b, int) { linker.link(batches[static_cast<std::size_t>(b)]); });
    for (std::int64_t b = 0; b < used; ++b) visit(linker.shown(batches[static_cast<std::size_t>(b)]));
  }
}

}  // namespace dgm
