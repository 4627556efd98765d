// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

// LLVM's OpenMP keeps what it allocated for its threads until the process ends.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libomp.so\n"; }

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
