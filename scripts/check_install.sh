#!/usr/bin/env bash
# Installs build/release into a scratch folder and builds a small project against what was installed.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=$PWD/build/install
rm -rf "$prefix" build/install-test
cmake --install build/release --prefix "$prefix" --component development
cmake -S tests/install -B build/install-test -G Ninja \
    "-DCMAKE_PREFIX_PATH=$prefix${CMAKE_PREFIX_PATH:+;$CMAKE_PREFIX_PATH}"
cmake --build build/install-test
build/install-test/with_shared
build/install-test/with_static
