#!/usr/bin/env bash
# Installs build/release into a scratch folder, and builds and runs a small project and the C++ examples
# against what was installed.
set -euo pipefail
cd "$(dirname "$0")/.."

prefix=$PWD/build/install
rm -rf "$prefix" build/install-test build/install-examples
cmake --install build/release --prefix "$prefix" --component development

# built <project folder> <build folder>
built() {
  cmake -S "$1" -B "$2" -G Ninja "-DCMAKE_CXX_FLAGS=-Wall -Wextra -Wconversion -Wshadow -Werror" \
      "-DCMAKE_PREFIX_PATH=$prefix${CMAKE_PREFIX_PATH:+;$CMAKE_PREFIX_PATH}"
  cmake --build "$2"
}
built tests/install build/install-test
build/install-test/with_shared
build/install-test/with_static

export CUDADENT_CACHE="$prefix/cudadent.db"
built examples/cpp build/install-examples
build/install-examples/quickstart 2
build/install-examples/own_kernel

# A build that lacks something says so in one line, with what to install.
if cmake -S . -B build/install-lacking -G Ninja -DCMAKE_DISABLE_FIND_PACKAGE_SQLite3=ON >build/install-lacking.log 2>&1; then
  echo "check_install: configured without SQLite" >&2
  exit 1
fi
grep 'cudadent: not found: SQLite 3 (libsqlite3-dev)\. .* apt-get install libsqlite3-dev;' build/install-lacking.log
