// SPDX-License-Identifier: Apache-2.0
// Tests of vector code on every instruction set that this machine has.
#pragma once

#include <hwy/targets.h>

namespace dgm::test {

/// body(name) with HWY_DYNAMIC_DISPATCH choosing that instruction set.
template <class Body>
void on_every_target(const Body& body) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    body(hwy::TargetName(target));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace dgm::test
