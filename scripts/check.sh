#!/usr/bin/env bash
# scripts/check.sh ROOM [option of doctest or pytest…]: builds and runs the tests of one room: a folder of tests/, such
# as cache or tuner, one in it (runtime/launch), or python.
set -euo pipefail
cd "$(dirname "$0")/.."

room=${1:-}
room=${room%/}
if [[ -z "$room" || ! -d "tests/$room" ]]; then
  rooms=$(find tests -name '*_test.cpp' -printf '%P\n' | xargs -n 1 dirname | sort -u | tr '\n' ' ')
  echo "check: no room \"$room\" among the tests. There are: ${rooms}python" >&2
  exit 2
fi
shift

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
. scripts/environment.sh

if [[ "$room" == python* ]]; then
  scripts/build.sh release
  PYTHONPATH="$PWD/build/release/python" .venv/bin/python -m pytest -q -p no:cacheprovider "tests/$room" "$@"
else
  scripts/build.sh release "cudadent_tests_${room%%/*}"
  "build/release/tests/cudadent_tests_${room%%/*}" "--source-file=*/tests/$room/*" "$@"
fi
