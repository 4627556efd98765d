#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh INCLUDE: fails if a header below INCLUDE includes anything but <dgm/...> and headers of
# the standard library (whose names have no dot and no slash), or names CUDA or a compiler macro of it.
cd "$1" || exit 1
count=$(find dgm -name '*.hpp' | wc -l)
[ "$count" -gt 0 ] || { echo "no headers in $1"; exit 1; }
bad=$(grep -rnE '^[[:space:]]*#[[:space:]]*include' dgm | grep -vE '#[[:space:]]*include[[:space:]]+<(dgm/[a-z0-9_/]+\.hpp|[a-z0-9_]+)>')
bad="$bad$(grep -rnE '__CUDACC__|__CUDA_ARCH__|__device__|__global__|cudaStream_t[^.,;)]' dgm)"
if [ -n "$bad" ]; then
  echo "Public headers include <dgm/...> and the standard library, nothing else:"
  echo "$bad"
  exit 1
fi
echo "$count headers include only one another and the standard library"
