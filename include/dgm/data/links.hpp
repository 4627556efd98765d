// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dgm {

/// A word of the source and a word of the target that translate each other: positions in their sentences, from 0.
struct Link {
  std::int32_t source = 0;
  std::int32_t target = 0;
  friend auto operator<=>(const Link&, const Link&) = default;
};

/// The links of one pair, in ascending order, each once.
using Links = std::vector<Link>;

/// Appends a line in the Pharaoh format, source-target from 0: "0-0 1-2\n".
void append_pharaoh(std::span<const Link> links, std::string& out);

/// Reads links in the Pharaoh format, a line a pair; sorts them, and drops repeated ones.
///
/// Throws    FileError naming the line.
std::vector<Links> read_pharaoh(const std::string& path);

/// Links that people annotated: sure ones, and possible ones, of which the sure are a part.
struct GoldLinks {
  /// By sentence; a sentence that was not annotated has no links.
  std::vector<Links> sure, possible;
};

/// Reads lines `sentence source target S|P`, all from 1, sure where the letter is missing; a position 0 stands for NULL
/// and is left out. Lines may come in any order.
///
/// swapped   the columns are `sentence target source`.
/// Throws    FileError naming the line.
/// Source    Mihalcea & Pedersen 2003, An evaluation exercise for word alignment, HLT-NAACL workshop.
GoldLinks read_gold_links(const std::string& path, bool swapped = false);

/// How well links agree with gold links A, S, P over all annotated sentences:
///
///   precision = |A and P| / |A|,  recall = |A and S| / |S|,  AER = 1 - (|A and S| + |A and P|) / (|A| + |S|).
///
/// A quotient of nothing by nothing is 1, and its AER 0.
struct AlignmentScore {
  double precision = 1;
  double recall = 1;
  double aer = 0;
  std::int64_t links = 0;      // |A|, in annotated sentences
  std::int64_t sure = 0;       // |S|
  std::int64_t possible = 0;   // |P|
  std::int64_t sentences = 0;  // that have gold links
};

/// links     by sentence, sorted; at least as many sentences as gold knows, further ones are not counted.
/// Throws    ShapeError if gold has links in more sentences than links.
/// Source    Och & Ney 2003, A systematic comparison of various statistical alignment models, CL 29(1).
AlignmentScore alignment_score(std::span<const Links> links, const GoldLinks& gold);

}  // namespace dgm
