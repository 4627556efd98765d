// SPDX-License-Identifier: Apache-2.0
// One way to refuse bad input: check<ShapeError>(condition, "function: what is wrong; what is needed").
#pragma once

#include <dgm/core/error.hpp>

#include <sstream>
#include <string>

namespace dgm {

/// The parts, streamed one after the other.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// Throws E with the parts as its message unless the condition holds.
template <class E, class... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) [[unlikely]] {
    throw E(text(parts...));
  }
}

}  // namespace dgm
