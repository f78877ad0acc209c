#!/usr/bin/env bash
# Writes tests/golden anew, out of what the program does now: hashes of templates, keys of problems, file formats.
# A difference that nobody meant is a fault. What changed hashes of templates puts winners out of date (docs/cache.md).
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh release cudadent_tests
CUDADENT_RENEW_GOLDEN=1 build/release/tests/cudadent_tests -tc='golden: *' --minimal
git --no-pager diff --stat -- tests/golden
