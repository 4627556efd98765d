// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace dgm {

/// Bytes of the longest prefix that is UTF-8: no surrogates, no over-long forms, nothing beyond U+10FFFF, and no
/// sequence cut off.
std::size_t valid_utf8_prefix(std::string_view bytes);

/// Lower-cases the Latin, Greek and Cyrillic letters of valid UTF-8, where both cases have as many bytes (so not the
/// Turkish capital I with a dot).
void lowercase_utf8(std::string& bytes);

}  // namespace dgm
