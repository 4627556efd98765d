#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# exports.sh LIBRARY: fails if the shared library exports what is not its own, or its launches and backends: an
# application may use other versions of the libraries that we are built on, and must not come to lean on what changes.
names=$(nm -DC --defined-only "$1" | cut -c20-) || exit 1
# Templates of the standard library are weak, and shared by all who use them.
bad=$(echo "$names" | grep -vE '\<(dgm|std|__gnu_cxx)::|^\.gomp_critical_user_dgm_'
  echo "$names" | grep -E 'dgm::(kernels|cpu|cuda)::|nlohmann::|hwy::|\(anonymous namespace\)')
if [ -n "$bad" ]; then
  echo "$1 exports, in spite of cmake/exports.map:"
  echo "$bad" | sort -u | head -n 40
  exit 1
fi
count=$(echo "$names" | grep -c 'dgm::')
[ "$count" -gt 100 ] || { echo "$1 exports only $count names"; exit 1; }
echo "$count exported names"
