// SPDX-License-Identifier: Apache-2.0
#include <dgm/core/random.hpp>

#include "host/core/check.hpp"

namespace dgm {

Draws::Draws(uint64_t seed, const Stream& stream) : seed_(seed), step_(Tensor<int64_t>::zeros({1}, stream)) {}

Draws Draws::at(int site) const {
  check<ArgumentError>(0 <= site && site < 65536, "Draws::at: site is ", site, "; 0 <= site < 65536 is needed");
  Draws result = *this;
  result.site_ = site;
  return result;
}

void Draws::set_step(int64_t step) {
  check<ArgumentError>(0 <= step && step < (int64_t{1} << 30), "Draws::set_step: step is ", step,
                       "; 0 <= step < 2^30 is needed");
  detail::copy_from_host(step_.data(), step_.stream(), &step, sizeof(step));
}

}  // namespace dgm
