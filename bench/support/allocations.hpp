// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

namespace dgm::bench {

/// Bytes that a second call of body() has allocated at most at a time, all threads together and beside
/// tensors, which come from their stream's pool.
double peak_allocation(const std::function<void()>& body);

}  // namespace dgm::bench
