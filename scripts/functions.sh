# SPDX-License-Identifier: Apache-2.0
# What the scripts share; sourced by them, for bash.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
jobs=${DGM_JOBS:-$(nproc 2>/dev/null || echo 2)}

say() { printf '%s\n' "$@"; }
fail() {
  printf '%s\n' "$*" >&2
  exit 1
}
header() { printf '\n==== %s\n' "$*"; }
seconds_since() { echo $((SECONDS - $1)); }

# A prefix of carried dependencies (scripts/carry_dependencies) for machines without packages.
if [ -n "${DGM_PREFIX:-}" ]; then
  export PATH=$DGM_PREFIX/bin:$PATH
  for folder in "$DGM_PREFIX"/lib/*-linux-gnu "$DGM_PREFIX/lib"; do
    [ ! -d "$folder" ] || export LD_LIBRARY_PATH=$folder${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
  done
fi

has_command() { command -v "$1" >/dev/null 2>&1; }

# Whether a C++ compiler finds a header (DGM_PREFIX names a prefix that holds more of them).
has_header() {
  local compiler=g++
  has_command g++ || compiler=c++
  has_command $compiler || return 1
  echo "#include <$1>" | $compiler -std=c++20 -E -x c++ \
    ${DGM_PREFIX:+-I"$DGM_PREFIX/include" -I"$DGM_PREFIX/include/$($compiler -print-multiarch)"} - >/dev/null 2>&1
}

# Whether there is what multiplies matrices: oneDNN, of use on x86-64 alone, or a BLAS.
has_matrix_library() { { [ "$(uname -m)" = x86_64 ] && has_header oneapi/dnnl/dnnl.h; } || has_header cblas.h; }
matrix_packages="libopenblas-openmp-dev libopenblas-dev"
[ "$(uname -m)" != x86_64 ] || matrix_packages="libdnnl-dev $matrix_packages"

# Whether clang++ links with these flags: its OpenMP and its sanitizers are packages of their own.
clang_links() {
  has_command clang++ || return 1
  echo 'int main() {}' | clang++ -x c++ "$@" - -o /dev/null >/dev/null 2>&1
}

# What is needed and how to see that it is there. One line each: the probe, then the packages of
# Debian and Ubuntu that have it, the first that exists being taken.
needs_library='has_command g++: g++
has_command cmake: cmake
has_command ninja: ninja-build
has_header hwy/highway.h: libhwy-dev
has_matrix_library: '"$matrix_packages"'
has_header zlib.h: zlib1g-dev
has_header nlohmann/json.hpp: nlohmann-json3-dev
has_header stb/stb_image_write.h: libstb-dev'
needs_samples='has_header CLI/CLI.hpp: libcli11-dev
has_command gnuplot: gnuplot-nox'
needs_bench='has_header benchmark/benchmark.h: libbenchmark-dev'
needs_tests='has_header gtest/gtest.h: libgtest-dev
has_header cblas.h: libopenblas-openmp-dev libopenblas-dev
has_command clang++: clang
clang_links -fopenmp: libomp-dev
clang_links -fsanitize=address,undefined: libclang-rt-dev
has_command clang-format: clang-format
has_command pkg-config: pkg-config
has_command python3: python3'

# The packages, of the given lists of needs, that are not there.
missing_packages() {
  local probe packages
  printf '%s\n' "$@" | while IFS=: read -r probe packages; do
    [ -z "$probe" ] || $probe || echo "$packages"
  done
}

# Installs what is missing through apt-get where that needs no password; else prints the line that
# a person has to run and returns 1.
install_dependencies() {
  local lines line package candidate log packages="" first="" as_root=""
  lines=$(missing_packages "$@")
  [ -n "$lines" ] || return 0
  while read -r line; do first="$first ${line%% *}"; done <<<"$lines"
  if ! has_command apt-get; then
    say "These are missing, under the names that Debian gives them:" "$first" >&2
    say "There is no apt-get here: install them, or point DGM_PREFIX at a prefix that holds them." >&2
    return 1
  fi
  if [ "$(id -u)" != 0 ]; then
    if ! has_command sudo; then
      say "Some packages are missing, and there is no sudo here to install them with. Please run, as root," >&2
      say "" "  apt-get update && apt-get install -y --no-install-recommends$first" "" "and then this script again." >&2
      return 1
    fi
    if ! sudo -n true 2>/dev/null; then
      say "Some packages are missing, and installing them needs a password. Please run" >&2
      say "" "  sudo apt-get update && sudo apt-get install -y --no-install-recommends$first" "" \
        "and then this script again." >&2
      return 1
    fi
    as_root="sudo -n"
  fi
  $as_root apt-get update -qq </dev/null || say "apt-get update failed; trying with the lists that are there" >&2
  while read -r line; do
    package=${line%% *}
    for candidate in $line; do
      if apt-cache show "$candidate" >/dev/null 2>&1; then
        package=$candidate
        break
      fi
    done
    packages="$packages $package"
  done <<<"$lines"
  say "Installing:$packages"
  log=$(mktemp)
  if ! $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages \
      </dev/null >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    say "apt-get could not install them. The line was" >&2
    say "" "  ${as_root:+sudo }apt-get install -y --no-install-recommends$packages" "" >&2
    return 1
  fi
  rm -f "$log"
  lines=$(missing_packages "$@")
  if [ -n "$lines" ]; then
    say "Installed, but still not found by the compiler:" $lines >&2
    return 1
  fi
}

# The CUDA compiler of this machine, or nothing.
find_nvcc() {
  if [ -n "${CUDACXX:-}" ] && has_command "$CUDACXX"; then
    command -v "$CUDACXX"
  elif has_command nvcc; then
    command -v nvcc
  elif [ -x /usr/local/cuda/bin/nvcc ]; then
    echo /usr/local/cuda/bin/nvcc
  fi
}

# Sums up one run of ctest: the cases of the GoogleTest programs, whose reports lie in $2, and one
# for every other test of the JUnit file $1. Prints "passed failed skipped".
count_tests() {
  local junit=$1 reports=$2 name status skipped_line
  local passed=0 failed=0 skipped=0 p f s
  while read -r name status; do
    if [ -f "$reports/$name.xml" ]; then
      read -r p f s < <(awk '
        /<testsuite / {
          if (match($0, / tests="[0-9]+"/)) tests += substr($0, RSTART + 8, RLENGTH - 9)
          if (match($0, / failures="[0-9]+"/)) failures += substr($0, RSTART + 11, RLENGTH - 12)
          if (match($0, / disabled="[0-9]+"/)) skipped += substr($0, RSTART + 11, RLENGTH - 12)
          if (match($0, / skipped="[0-9]+"/)) skipped += substr($0, RSTART + 10, RLENGTH - 11)
        }
        END { print tests - failures - skipped, failures + 0, skipped + 0 }' "$reports/$name.xml")
      # A program that ends badly after its last case, for instance through a sanitizer.
      if [ "$status" = fail ] && [ "$f" = 0 ]; then f=1; fi
      passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    else
      case $status in
        run) passed=$((passed + 1)) ;;
        notrun | disabled) skipped=$((skipped + 1)) ;;
        *) failed=$((failed + 1)) ;;
      esac
    fi
  done < <(awk '/<testcase / {
      match($0, / name="[^"]*"/); name = substr($0, RSTART + 7, RLENGTH - 8); gsub(/ /, "_", name)
      match($0, / status="[^"]*"/); print name, substr($0, RSTART + 9, RLENGTH - 10)
    }' "$junit")
  echo "$passed $failed $skipped"
}

# configure_and_build DIR TARGETS... -- CMAKE_ARGUMENTS...
configure_and_build() {
  local dir=$1 targets=()
  shift
  while [ "$1" != -- ]; do
    targets+=("$1")
    shift
  done
  shift
  cmake -S "$root" -B "$dir" -G Ninja ${DGM_PREFIX:+-DCMAKE_PREFIX_PATH="$DGM_PREFIX"} "$@" >"$dir.configure.log" 2>&1 || {
    cat "$dir.configure.log"
    return 1
  }
  grep -h '^-- CUDA kernels' "$dir.configure.log"
  # Ninja's own lines only where something fails or a compiler has something to say.
  NINJA_STATUS='[%f/%t] ' cmake --build "$dir" -j "$jobs" ${targets:+--target "${targets[@]}"} >"$dir.build.log" 2>&1 || {
    grep -v '^\[[0-9]*/[0-9]*\] ' "$dir.build.log" | tail -n 150
    say "The whole log is in ${dir#"$root"/}.build.log"
    return 1
  }
}

# run_ctest DIR ARGUMENTS...: sets passed, failed and skipped; prints the tests that fail.
run_ctest() {
  local dir=$1 status=0 counts
  shift
  rm -rf "$dir/reports" "$dir/ctest.xml"
  mkdir -p "$dir/reports"
  (cd "$dir" && GTEST_OUTPUT="xml:$dir/reports/" ctest --output-on-failure --no-tests=error -j "$jobs" \
    --output-junit "$dir/ctest.xml" "$@") >"$dir/ctest.log" 2>&1 || status=1
  if [ -f "$dir/ctest.xml" ]; then counts=$(count_tests "$dir/ctest.xml" "$dir/reports"); else counts="0 1 0"; fi
  read -r passed failed skipped <<<"$counts"
  # Of a program's output what its failing cases said.
  if [ $status != 0 ]; then
    grep -v -E '^\[( RUN      |       OK |  SKIPPED |----------|==========)\]|no CUDA device can be used here' "$dir/ctest.log" | tail -n 300
    [ "$failed" != 0 ] || failed=1
  else
    grep -E '^ *[0-9]+/[0-9]+ Test' "$dir/ctest.log"
  fi
  return $status
}
