#!/usr/bin/env bash
# scripts/build.sh [release|debug|asan|tsan] [target…]: configures and builds build/<preset>.
# Run scripts/setup.sh first.
set -euo pipefail
cd "$(dirname "$0")/.."

# Clones in different folders share what ccache knows.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1

preset=${1:-release}
shift || true
options=()
if [[ "$preset" == release || "$preset" == debug ]]; then
  options+=(-DCUDADENT_PYTHON=ON "-DPython_EXECUTABLE=$PWD/.venv/bin/python")
fi
# pip's ninja or cmake would do too, but the system's are there.
cmake --preset "$preset" "${options[@]}" -Wno-dev --log-level=WARNING >/dev/null
cmake --build --preset "$preset" ${1:+--target "$@"}
