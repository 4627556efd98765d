// SPDX-License-Identifier: Apache-2.0
// Binary array formats, from bytes to numbers.
#pragma once

#include <dgm/data/array.hpp>

#include <map>
#include <string>
#include <string_view>

namespace dgm {

bool is_npy(std::string_view bytes);
bool is_idx(std::string_view bytes);
bool is_zip(std::string_view bytes);

/// name is for the messages of FileErrors.
Array parse_npy(std::string_view bytes, const std::string& name);
Array parse_idx(std::string_view bytes, const std::string& name);
std::map<std::string, Array> parse_npz(std::string_view bytes, const std::string& name);

/// Shape in words: "(3, 4)".
std::string shape_text(const std::vector<std::int64_t>& shape);

/// Product of a shape without negative axes; false if it does not fit 63 bits.
bool element_count(const std::vector<std::int64_t>& shape, std::int64_t& count);

}  // namespace dgm
