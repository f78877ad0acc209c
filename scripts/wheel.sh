#!/usr/bin/env bash
# scripts/wheel.sh [pip option…]: builds a self-contained wheel for the Python of .venv into dist/, and prints its path.
# It needs no library but glibc's, of this machine's version or later. Run scripts/setup.sh first.
set -euo pipefail
cd "$(dirname "$0")/.."

# The tools of .venv instead of a fresh environment. Clones share what ccache knows.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1
rm -rf build/wheel-new
.venv/bin/python -m pip wheel --quiet --disable-pip-version-check --no-build-isolation --no-deps --no-index \
    -C build-dir=build/wheel -C cmake.define.CUDADENT_SELF_CONTAINED=ON "$@" --wheel-dir build/wheel-new .
mkdir -p dist
wheel=$(basename build/wheel-new/*.whl)
mv "build/wheel-new/$wheel" "dist/$wheel"
echo "dist/$wheel"
