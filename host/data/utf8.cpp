// SPDX-License-Identifier: Apache-2.0
#include "host/data/utf8.hpp"

#include <cstdint>

namespace dgm {
namespace {

// Bytes of the sequence that begins with this one; 0 for one that cannot begin any.
std::size_t sequence_length(unsigned char first) {
  if (first < 0x80) return 1;
  if (first < 0xc2) return 0;  // a continuation, or an over-long form
  if (first < 0xe0) return 2;
  if (first < 0xf0) return 3;
  return first < 0xf5 ? 4 : 0;
}

bool between(std::uint32_t value, std::uint32_t low, std::uint32_t high) { return value >= low && value <= high; }

std::uint32_t lower(std::uint32_t c) {
  // Blocks in which the cases alternate, the capital first at even or at odd numbers.
  const bool even_capitals = between(c, 0x100, 0x12f) || between(c, 0x132, 0x137) || between(c, 0x14a, 0x177) ||
                             c == 0x1a0 || between(c, 0x48a, 0x4bf) || between(c, 0x4d0, 0x52f) ||
                             between(c, 0x1e00, 0x1e95) || between(c, 0x1ea0, 0x1eff);
  if (even_capitals) return c | 1;
  if (between(c, 0x139, 0x148) || between(c, 0x179, 0x17e) || c == 0x1af) return c + (c & 1);
  if ((between(c, 0xc0, 0xde) && c != 0xd7) || between(c, 0x391, 0x3ab) || between(c, 0x410, 0x42f)) return c + 0x20;
  if (between(c, 0x400, 0x40f)) return c + 0x50;
  if (between(c, 0x388, 0x38a)) return c + 0x25;
  switch (c) {
    case 0x178:
      return 0xff;
    case 0x386:
      return 0x3ac;
    case 0x38c:
      return 0x3cc;
    case 0x38e:
      return 0x3cd;
    case 0x38f:
      return 0x3ce;
    default:
      return c;
  }
}

}  // namespace

std::size_t valid_utf8_prefix(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size()) {
    const auto first = static_cast<unsigned char>(bytes[at]);
    const std::size_t length = sequence_length(first);
    if (length == 0 || at + length > bytes.size()) return at;
    for (std::size_t i = 1; i < length; ++i) {
      const auto next = static_cast<unsigned char>(bytes[at + i]);
      unsigned low = 0x80;
      unsigned high = 0xbf;
      if (i == 1 && first == 0xe0) low = 0xa0;
      if (i == 1 && first == 0xed) high = 0x9f;
      if (i == 1 && first == 0xf0) low = 0x90;
      if (i == 1 && first == 0xf4) high = 0x8f;
      if (next < low || next > high) return at;
    }
    at += length;
  }
  return at;
}

void lowercase_utf8(std::string& bytes) {
  for (std::size_t at = 0; at < bytes.size();) {
    const auto first = static_cast<unsigned char>(bytes[at]);
    const std::size_t length = sequence_length(first);
    const auto rest = [&](std::size_t i) { return static_cast<std::uint32_t>(bytes[at + i]) & 0x3fu; };
    if (length == 1) {
      if (first >= 'A' && first <= 'Z') bytes[at] = static_cast<char>(first + 32);
    } else if (length == 2) {
      const std::uint32_t c = lower((first & 0x1fu) << 6 | rest(1));
      bytes[at] = static_cast<char>(0xc0u | c >> 6);
      bytes[at + 1] = static_cast<char>(0x80u | (c & 0x3fu));
    } else if (length == 3) {
      const std::uint32_t c = lower((first & 0x0fu) << 12 | rest(1) << 6 | rest(2));
      bytes[at] = static_cast<char>(0xe0u | c >> 12);
      bytes[at + 1] = static_cast<char>(0x80u | (c >> 6 & 0x3fu));
      bytes[at + 2] = static_cast<char>(0x80u | (c & 0x3fu));
    }
    at += length > 0 ? length : 1;
  }
}

}  // namespace dgm
