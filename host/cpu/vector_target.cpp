// SPDX-License-Identifier: Apache-2.0
// Chooses the instruction set when the library is loaded. A pointer that HWY_DYNAMIC_DISPATCH gives before that is
// one to a function that asks the processor anew in each call, which costs tens of microseconds on a virtual machine.
#include <hwy/targets.h>

namespace dgm::cpu {
namespace {
[[maybe_unused]] const bool kChosen = (hwy::GetChosenTarget().Update(hwy::SupportedTargets()), true);
}  // namespace
}  // namespace dgm::cpu
