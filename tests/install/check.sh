#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# check.sh BUILD WORK CMAKE GENERATOR COMPILER LIBDIR (see CMakeLists.txt)
build=$1 work=$2 cmake=$3 generator=$4 compiler=$5 libdir=$6
source=$(cd "$(dirname "$0")" && pwd)
set -eu

# A name with a space, and moved after the installation: nothing may hang on the prefix.
rm -rf "$work/first" "$work/a prefix" "$work/consumer"
mkdir -p "$work"
"$cmake" --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/a prefix"
prefix="$work/a prefix"

expect() {
  wanted='means (-2.0, 1.0) and (3.0, -1.0)'
  got=$("$@" | head -n 1)
  [ "$got" = "$wanted" ] || { echo "$*: printed '$got', wanted '$wanted'"; exit 1; }
  echo "$(basename "$1"): $got"
}

if grep -rlE '#include <(hwy|cblas|omp|zlib|cuda|cublas|curand|CLI|nlohmann|stb)' "$prefix/include"; then
  echo "an installed header includes what an application need not have"
  exit 1
fi
if grep -rl "$build" "$prefix/$libdir/cmake" "$prefix/$libdir/pkgconfig"; then
  echo "an installed file names the build folder"
  exit 1
fi

echo "-- The README's example is the consumer"
mkdir -p "$work"
sed -n '/^```cpp$/,/^```$/p' "$source/../../README.md" | sed '/^```/d' >"$work/readme.cpp"
sed 1d "$source/consumer/main.cpp" | diff - "$work/readme.cpp" || exit 1

echo "-- CMake, shared and static"
"$cmake" -S "$source/consumer" -B "$work/consumer" -G "$generator" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_PREFIX_PATH="$prefix" >"$work/configure.log" 2>&1 || { cat "$work/configure.log"; exit 1; }
"$cmake" --build "$work/consumer" >"$work/build.log" 2>&1 || { cat "$work/build.log"; exit 1; }
expect "$work/consumer/with_shared"
expect "$work/consumer/with_static"

if ! command -v pkg-config >/dev/null 2>&1; then
  echo "-- pkg-config is not here"
  exit 0
fi
echo "-- pkg-config"
PKG_CONFIG_PATH="$prefix/$libdir/pkgconfig"
export PKG_CONFIG_PATH
# pkg-config escapes the space in the prefix for a shell.
eval "\"$compiler\" \"$source/consumer/main.cpp\" $(pkg-config --cflags --libs dgm_cuda) -o \"$work/with_pkg_config\""
LD_LIBRARY_PATH="$prefix/$libdir" expect "$work/with_pkg_config"

# An installed program runs from where it is.
for program in "$prefix"/bin/*; do
  [ -x "$program" ] || continue
  "$program" --help >/dev/null || { echo "$program --help fails"; exit 1; }
  echo "$(basename "$program") --help runs"
done
