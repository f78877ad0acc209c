#!/usr/bin/env bash
# scripts/build.sh [release|demo|debug|asan|tsan] [target…]: configures and builds build/<preset>.
# Run scripts/setup.sh first.
set -euo pipefail
cd "$(dirname "$0")/.."

# Clones in different folders share what ccache knows.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1

# Clang compiles sanitized sources in half the time that GCC takes: the newest that scripts/setup.sh installs and that
# has its sanitizers, which are a package of their own.
sanitizer_compiler() {
  local version
  for version in 19 18 17 16; do
    if command -v "clang++-$version" >/dev/null &&
       "clang++-$version" -fsanitize=address,undefined -x c++ -o /dev/null - <<<'int main() {}' 2>/dev/null; then
      command -v "clang++-$version"
      return
    fi
  done
  echo "build: no Clang 16 to 19 with its sanitizers here (clang-19, libclang-rt-19-dev): GCC takes twice as long" >&2
  command -v c++
}

preset=${1:-release}
shift || true
options=()
if [[ "$preset" == release || "$preset" == debug ]]; then
  options+=(-DCUDADENT_PYTHON=ON "-DPython_EXECUTABLE=$PWD/.venv/bin/python")
elif [[ "$preset" != demo ]]; then
  # What a precompiled header needs, see cudadent_precompile_headers.
  export CCACHE_SLOPPINESS=pch_defines,time_macros
  [[ -n "${CXX:-}" ]] || options+=("-DCMAKE_CXX_COMPILER=$(sanitizer_compiler)")
fi
# pip's ninja or cmake would do too, but the system's are there.
cmake --preset "$preset" "${options[@]}" -Wno-dev --log-level=WARNING >/dev/null
cmake --build --preset "$preset" ${1:+--target "$@"}
