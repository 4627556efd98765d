// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/bitext.hpp>
#include <dgm/data/links.hpp>
#include <dgm/decide/symmetrise.hpp>
#include <dgm/models/alignment_model.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string_view>

namespace dgm {

/// How posteriors become links.
struct Linking {
  /// The heuristic that joins the best links of both directions; without one, links by agreement of the posteriors. A
  /// model of one direction takes its best links whatever stands here.
  std::optional<Symmetrisation> symmetrisation = std::nullopt;
  /// What the geometric mean of both posteriors of a link must pass.
  float threshold = 0.5f;
  /// Whether LinkedPairs::forward and reverse are wanted also where the links can be found without them.
  bool directions = false;
  /// Cells (source words x target words) of the pairs that a thread handles at once; a pair with more is handled alone.
  /// Scratch memory of both directions is 16 bytes a cell and thread.
  std::int64_t cells = std::int64_t{1} << 19;
};

/// The links of the pairs first, first + 1, ..., one after the other.
struct LinkedPairs {
  std::int64_t first = 0;
  std::span<const Links> links;
  /// The best links of each direction; none for a direction that the model does not have, or if they are not wanted.
  std::span<const Links> forward, reverse;
  const AlignmentPosteriors& posteriors;
  /// The links in the Pharaoh format, a line a pair.
  std::string_view pharaoh;
};

/// Aligns the pairs first .. last - 1 of a bitext and hands their links over in order, some thousands of pairs at a
/// time, on the calling thread; what is handed over is valid during the call. Uses cpu_threads() threads; the links do
/// not depend on their number. A pair with an empty side has no links.
///
/// Throws    ArgumentError for a range that is not in the bitext; what the model and visit throw.
void link_pairs(const AlignmentModel& model, const Bitext& bitext, std::int64_t first, std::int64_t last,
                const Linking& linking, const std::function<void(const LinkedPairs&)>& visit);

}  // namespace dgm
