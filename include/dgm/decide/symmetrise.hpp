// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <dgm/data/links.hpp>

#include <cstdint>
#include <span>
#include <string_view>

namespace dgm {

/// How the links of two models, one a direction, become one set.
///
/// forward, reverse     the links of one direction alone.
/// intersect, unite     in both; in either.
/// grow_diag            the intersection, then again and again, until nothing changes: those of the union that are a
///                      neighbour (also diagonally) of a link there is, and whose source or target word has no link
///                      yet.
/// grow_diag_final      then links of forward, then of reverse, whose source or target word has no link yet.
/// grow_diag_final_and  the same for links of which neither word has a link yet.
/// Candidates are looked at in ascending order, (source, target), and count at once; so does atools of fast_align.
///
/// Source    Koehn, Och & Marcu 2003; Koehn et al. 2005 (grow-diag-final); `final-and` as in Moses.
enum class Symmetrisation { forward, reverse, intersect, unite, grow_diag, grow_diag_final, grow_diag_final_and };

/// "forward", "reverse", "intersect", "union", "grow-diag", "grow-diag-final" or "grow-diag-final-and".
/// Throws    ArgumentError for anything else.
Symmetrisation parse_symmetrisation(std::string_view name);
std::string_view name_of(Symmetrisation method);

/// forward, reverse  sorted; both are source-target, whatever the direction they were found in.
/// out               is replaced; its memory is used again.
void symmetrise(std::span<const Link> forward, std::span<const Link> reverse, Symmetrisation method, Links& out);

/// The best partner of every target word: its most probable source word, unless NULL is at least as probable; of equals
/// the first.
///
/// posterior (target_length, source_length) row-major: p(target word i was generated from source word j). What is
///           missing to 1 in a row is the probability of NULL.
/// Throws    ShapeError unless posterior holds that many numbers.
void best_source_links(std::span<const float> posterior, std::int64_t target_length, std::int64_t source_length,
                       Links& out);
/// The best partner of every source word: the same for the columns of p(source word j was generated from target word
/// i), which lies in the same order, (target_length, source_length) row-major.
void best_target_links(std::span<const float> posterior, std::int64_t target_length, std::int64_t source_length,
                       Links& out);

/// Links on which both posteriors agree: sqrt(forward * reverse) > threshold. With an empty reverse: forward >
/// threshold, and the other way round.
///
/// Throws    ShapeError unless each posterior is empty or holds target_length * source_length numbers.
/// Source    Liang, Taskar & Klein 2006, Alignment by agreement, section 3.
void links_by_agreement(std::span<const float> forward, std::span<const float> reverse, std::int64_t target_length,
                        std::int64_t source_length, float threshold, Links& out);

}  // namespace dgm
