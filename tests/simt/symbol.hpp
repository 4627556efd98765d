// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace simt {

/// Demangled name of the function at an address of this process, also one with internal linkage (as
/// kernels are); the address in hex where the file has no symbols.
std::string symbol_name(const void* address);

}  // namespace simt
