#!/usr/bin/env bash
# Tunes a matrix product on the best device of this machine with an empty database, then starts a second
# process that launches it from what the first one left.
set -euo pipefail
cd "$(dirname "$0")/.."

# cudadent looks for NVRTC in the environment's Python packages, among other places.
export VIRTUAL_ENV="$PWD/.venv"
program=build/demo/cudadent-tune
mkdir -p build/demo
export CUDADENT_CACHE="$PWD/build/demo/cudadent.db"
rm -f "$CUDADENT_CACHE"*

if nvidia-smi -L >/dev/null 2>&1; then
  problem=(m=4096 n=4096 k=4096 dtype=bf16)
else
  problem=(m=1024 n=1024 k=1024 dtype=f32)
fi
budget=${CUDADENT_DEMO_BUDGET:-30s}

shown() { echo "\$ cudadent-tune $*"; "$program" "$@"; }

echo "1. Tune: search for the fastest configuration for at most $budget."
shown tune gemm "${problem[@]}" --budget "$budget"
echo
echo "2. Run: another process launches the winner from the database $CUDADENT_CACHE."
shown run gemm "${problem[@]}"
