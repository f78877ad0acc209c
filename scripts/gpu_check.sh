#!/usr/bin/env bash
# For a machine with an NVIDIA GPU: builds into build/gpu with every core, runs the tests (those that need a
# GPU run where there is one), and times the operators. Installs nothing.
#   CMAKE_PREFIX_PATH         folders with dependencies that are not installed (default: .deps, when it exists)
#   CUDADENT_DEVICE           the device to use (default: cuda)
#   CUDADENT_RANDOM_LAUNCHES  how many random launches (default: 3000), CUDADENT_RANDOM_SECONDS at most
#                             (default: 60); others in tests/kernels/random_launches_test.cpp
#   CUDADENT_CHECKER_SECONDS  what each tool of compute-sanitizer may take (default: 240)
#   CUDADENT_GPU_BUDGET       of each tuning run (default: 60s)
set -euo pipefail
cd "$(dirname "$0")/.."

export CUDADENT_DEVICE=${CUDADENT_DEVICE:-cuda}
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader

options=(-DCUDADENT_BENCHMARKS=ON)
prefix=${CMAKE_PREFIX_PATH:-}
if [[ -z "$prefix" && -d .deps ]]; then prefix=$PWD/.deps; fi
[[ -z "$prefix" ]] || options+=("-DCMAKE_PREFIX_PATH=$prefix")
python=python3
[[ ! -x .venv/bin/python ]] || python=$PWD/.venv/bin/python
if "$python" -m pybind11 --cmakedir >/dev/null 2>&1; then
  options+=(-DCUDADENT_PYTHON=ON "-DPython_EXECUTABLE=$(command -v "$python")")
fi
mkdir -p build/gpu
log=build/gpu/build.log
if ! { cmake -S . -B build/gpu -G Ninja -DCMAKE_BUILD_TYPE=Release "${options[@]}" &&
       cmake --build build/gpu; } >"$log" 2>&1; then
  grep -E -A 6 'error|Error' "$log" | head -n 80
  exit 1
fi
echo "built in ${SECONDS} s"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export CUDADENT_CACHE="$scratch/cudadent.db"
export PATH="$PWD/build/gpu:$PATH"

tests=build/gpu/tests/cudadent_tests
status=0
# One at a time: tests that measure share the one device. Of random launches there are a few hundred here.
env -u CUDADENT_RANDOM_LAUNCHES ctest --test-dir build/gpu --output-on-failure --no-tests=error || status=1
if [[ -d build/gpu/python/cudadent ]] && ls tests/python/test_*.py >/dev/null 2>&1; then
  PYTHONPATH=$PWD/build/gpu/python "$python" -m pytest -q -p no:cacheprovider tests/python || status=1
fi

# Random configurations on random problems: says how many there were of each template, and where the time went.
if CUDADENT_RANDOM_LAUNCHES=${CUDADENT_RANDOM_LAUNCHES:-3000} \
    CUDADENT_RANDOM_SECONDS=${CUDADENT_RANDOM_SECONDS:-60} \
    "$tests" --source-file='*/random_launches_test.cpp' >"$scratch/random.log" 2>&1; then
  echo "random launches: all right"
else
  echo "random launches: FAILED"
  status=1
fi
grep -v -E '^(===|TEST CASE|\[doctest\] (doctest|run))' "$scratch/random.log" | tail -n 40 || true

# compute-sanitizer on a small problem of each template, and its slowest tool on the smallest. Errors of API calls are
# not reported: asking the driver for a parameter beyond a kernel's last is how one learns that there are no more.
checker_seconds=${CUDADENT_CHECKER_SECONDS:-240}
check_with() {
  local tool=$1 cases=$2 result=0 start=$SECONDS
  timeout "$checker_seconds" compute-sanitizer --tool "$tool" --report-api-errors no --error-exitcode 9 \
    "$tests" --test-case="$cases" >"$scratch/$tool.log" 2>&1 || result=$?
  case $result in
    0) echo "compute-sanitizer $tool: clean, $((SECONDS - start)) s" ;;
    124) echo "compute-sanitizer $tool: NOT DONE in $checker_seconds s" ;;
    *) echo "compute-sanitizer $tool: FAILED" ;;
  esac
  [[ $result == 0 ]] || { tail -n 30 "$scratch/$tool.log"; status=1; }
}
if command -v compute-sanitizer >/dev/null; then
  check_with memcheck 'cuda templates under a checker'
  check_with synccheck 'cuda templates under a checker'
  check_with racecheck 'cuda templates under a race checker'
fi

# What each operator reaches after a short tuning run from an empty cache, and a fresh process that only
# launches.
budget=${CUDADENT_GPU_BUDGET:-60s}
for problem in "gemm m=4096 n=4096 k=4096 dtype=bf16" "rms_norm rows=16384 columns=8192 dtype=bf16"; do
  read -r -a words <<<"$problem"
  cudadent-tune tune "${words[@]}" --budget "$budget" || status=1
  cudadent-tune run "${words[@]}" || status=1
done
build/gpu/benchmarks/cudadent-launch-overhead || status=1
if [[ -d build/gpu/python/cudadent ]]; then
  PYTHONPATH=$PWD/build/gpu/python "$python" benchmarks/launch_overhead.py || status=1
fi
exit $status
