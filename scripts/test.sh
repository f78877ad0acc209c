#!/usr/bin/env bash
# Everything that must hold before a change goes in. One line a step; a step's output is shown only when it
# fails, and kept in build/logs. The last line is the total: every test case of every build, and each check.
set -uo pipefail
cd "$(dirname "$0")/.."

logs=build/logs
mkdir -p "$logs"
passed=0 failed=0 skipped=0

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
. scripts/environment.sh

# step <name> <command…>: runs a command; counts nothing.
step() {
  local name=$1 start=$SECONDS
  log="$logs/$name.log"
  shift
  printf '%-16s' "$name"
  if "$@" >"$log" 2>&1; then
    printf 'ok      %4d s\n' $((SECONDS - start))
    return 0
  fi
  printf 'FAILED  %4d s\n' $((SECONDS - start))
  # What a compiler or test prints last is the least telling; this is where it begins to fail.
  if [[ $(wc -l <"$log") -gt 120 ]]; then
    grep -n -m 40 -E 'error|ERROR|FAILED|Failed|fault' "$log"
    echo "[…]"
  fi
  tail -n 120 "$log"
  echo "(all of it: $log)"
  return 1
}

# check <name> <command…>: a step that counts as one test.
check() {
  if step "$@"; then passed=$((passed + 1)); else failed=$((failed + 1)); return 1; fi
}

# Adds up the cases that doctest reports in a log of ctest -V. A test that cannot run here says so in a
# message "skipped: why" and counts as skipped.
count_doctest() {
  local p=0 f=0 s=0
  read -r p f < <(awk -F'|' '/\[doctest\] test cases:/ { p += $2; f += $3 } END { print p+0, f+0 }' "$log")
  s=$(grep -c -i -E '^[0-9]+: .*skipped: ' "$log" || true)
  ((s > p)) && s=$p
  passed=$((passed + p - s)) failed=$((failed + f)) skipped=$((skipped + s))
  # A crash ends before doctest reports.
  [[ "$1" == 0 || "$f" != 0 ]] || failed=$((failed + 1))
}

# What each failed test of a log of ctest -V printed: tests run side by side, so it is not at the end.
failed_tests() {
  local number
  for number in $(sed -n '/The following tests FAILED:/,/^Errors/s/^[[:space:]]*\([0-9]*\) - .*/\1/p' "$log"); do
    echo "---- test $number"
    grep -E "^$number: " "$log" | head -n 60
    grep -E "^$number: " "$log" | tail -n 30
  done
}

# tests <preset> <command prefix…>
tests() {
  local preset=$1 status=0
  shift
  step "test-$preset" "$@" ctest --test-dir "build/$preset" -V --no-tests=error -j "$(nproc)" || status=1
  ((status == 0)) || failed_tests
  count_doctest $status
}

python_tests() {
  if ! ls tests/python/test_*.py >/dev/null 2>&1; then return; fi
  local status=0 count
  PYTHONPATH="$PWD/build/release/python" step test-python \
      .venv/bin/python -m pytest -q -p no:cacheprovider tests/python || status=1
  count=$(tail -n 1 "$log")
  number() { grep -oE "[0-9]+ $1" <<<"$count" | cut -d' ' -f1 || true; }
  local p f e s
  p=$(number passed) f=$(number failed) e=$(number error) s=$(number skipped)
  passed=$((passed + ${p:-0})) skipped=$((skipped + ${s:-0})) failed=$((failed + ${f:-0} + ${e:-0}))
  ((status == 0 || ${f:-0} + ${e:-0} > 0)) || failed=$((failed + 1))
}

# setarch turns address randomisation off: the thread sanitizer of GCC 12 and 13, and the sanitizers of Clang up to 17,
# cannot live with as much of it as recent kernels use. Where a container forbids that, it is tried as it is.
without_randomisation() {
  if setarch "$(uname -m)" -R true 2>/dev/null; then setarch "$(uname -m)" -R "$@"; else "$@"; fi
}

sources() {
  git ls-files -co --exclude-standard -- '*.h' '*.cpp' '*.cu' '*.cuh' | while read -r file; do
    [[ -f "$file" ]] && printf '%s\n' "$file"
  done
}
format_check() { sources | xargs .venv/bin/clang-format --dry-run --Werror; }

check format format_check
check rooms python3 scripts/check_rooms.py
check sizes python3 scripts/check_sizes.py
if check build-release scripts/build.sh release; then
  tests release
  python_tests
  check install scripts/check_install.sh
  check wheel scripts/check_wheel.sh
  check lint .venv/bin/python scripts/lint.py
fi

# Clang's have names of functions and lines from addr2line: llvm-symbolizer is a large package of its own.
symbolizer=external_symbolizer_path=$(command -v addr2line)
export ASAN_OPTIONS=detect_stack_use_after_return=1:strict_string_checks=1:$symbolizer
export UBSAN_OPTIONS=print_stacktrace=1:$symbolizer
export TSAN_OPTIONS=second_deadlock_stack=1:$symbolizer
if check build-asan scripts/build.sh asan cudadent_tests; then tests asan without_randomisation; fi
if check build-tsan scripts/build.sh tsan cudadent_tests; then tests tsan without_randomisation; fi

printf 'took %d:%02d\n' $((SECONDS / 60)) $((SECONDS % 60))
echo "$passed passed, $failed failed, $skipped skipped"
[[ $failed == 0 ]]
