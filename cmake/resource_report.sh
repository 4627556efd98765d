#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs a CUDA compiler (all arguments are the command) and keeps what ptxas -v says about the
# kernels' registers, stack and spills in <object>.resources, which tests/resources reads. The
# rest of what the compiler says goes on to standard error.
object=
previous=
for argument in "$@"; do
  [ "$previous" != -o ] || object=$argument
  previous=$argument
done
case $object in
  *.o) ;;
  *) exec "$@" ;;
esac
rm -f "$object.resources"
"$@" 2>"$object.stderr"
status=$?
resources='^ptxas info|^[[:space:]]*Function properties for |^[[:space:]]*[0-9]+ bytes stack frame'
grep -E "$resources" "$object.stderr" >"$object.resources"
grep -v -E "$resources" "$object.stderr" >&2
rm -f "$object.stderr"
exit $status
