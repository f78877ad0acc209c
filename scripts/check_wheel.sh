#!/usr/bin/env bash
# Builds and installs the Python package as pip would, into a scratch folder, and uses it from there.
set -euo pipefail
cd "$(dirname "$0")/.."

target=$PWD/build/wheel-test
rm -rf "$target"
# The tools of .venv instead of a fresh environment; the compiler and flags of the release build, so that
# ccache knows most of the objects already.
export CCACHE_BASEDIR="$PWD" CCACHE_NOHASHDIR=1 CXX="${CXX:-c++}"
.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps \
    --no-index -C cmake.define.CUDADENT_WERROR=ON --target "$target" .
cd "$target"
PYTHONPATH=$target "$OLDPWD/.venv/bin/python" -c 'import cudadent; print(cudadent.__version__)'
if [[ -e bin/cudadent-tune ]]; then
  bin/cudadent-tune --version
  # Where the machine has Chart.js, the program carries it.
  PYTHONPATH=$target "$OLDPWD/.venv/bin/python" - <<'PY'
import cudadent
with cudadent.Runtime("host", cache="report.db") as runtime:
    runtime.tune("rms_norm", rows=4, columns=64, dtype="f32", budget="1 trials")
PY
  if [[ -e /usr/share/javascript/chart.js/chart.min.js ]]; then
    bin/cudadent-tune report --db report.db --html report.html
  fi
fi
