#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh REPORT...: fails if ptxas spilled a register of any kernel to memory, if a report is
# missing, or if the reports name no kernel at all. Prints registers and stack of every kernel.
for report in "$@"; do
  if [ ! -f "$report" ]; then
    echo "$report: there is no such report; was the kernel compiled by this build?"
    exit 1
  fi
done
demangle=cat
command -v c++filt >/dev/null 2>&1 && demangle=c++filt
cat "$@" | awk '
  /Compiling entry function/ {
    split($0, part, "\047"); kernel = part[2]; arch = part[4]; stack = 0; stores = 0; loads = 0
  }
  # Of functions that are called and not inlined ptxas prints properties too; they count as the kernel they follow.
  /bytes stack frame/ {
    for (i = 1; i < NF; ++i) {
      if ($(i + 1) == "bytes" && $(i + 2) == "stack") stack = $i
      if ($(i + 1) == "bytes" && $(i + 2) == "spill" && $(i + 3) ~ /^stores/) stores += $i
      if ($(i + 1) == "bytes" && $(i + 2) == "spill" && $(i + 3) ~ /^loads/) loads += $i
    }
  }
  /Used [0-9]+ registers/ {
    for (i = 1; i < NF; ++i) if ($i == "Used") registers = $(i + 1)
    ++kernels
    if (stores + loads > 0) {
      ++spilled
      printf "SPILL    %3d registers, %d bytes stored, %d bytes loaded  %s  %s\n", registers, stores, loads, arch, kernel
    } else {
      printf "no spill %3d registers, %d bytes of stack  %s  %s\n", registers, stack, arch, kernel
    }
  }
  END {
    printf "%d kernels, %d of them spill registers\n", kernels, spilled
    if (kernels == 0) print "No kernel found: does the compiler still run with -Xptxas=-v?"
    exit kernels == 0 || spilled > 0
  }' >"${TMPDIR:-/tmp}/dgm-resources.$$"
status=$?
$demangle <"${TMPDIR:-/tmp}/dgm-resources.$$"
rm -f "${TMPDIR:-/tmp}/dgm-resources.$$"
exit $status
