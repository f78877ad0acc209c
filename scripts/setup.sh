#!/usr/bin/env bash
# Installs what building and testing need and this machine lacks: Debian or Ubuntu packages, and a Python
# environment in .venv. Does nothing, and touches no network, when nothing changed since it last ran.
set -euo pipefail
cd "$(dirname "$0")/.."

packages=(g++ cmake ninja-build ccache git ca-certificates
          libsqlite3-dev libxxhash-dev libfmt-dev nlohmann-json3-dev libcli11-dev doctest-dev zlib1g-dev libjs-chart.js
          python3 python3-dev python3-venv)
requirements=scripts/requirements.txt

# The root folder counts: a virtual environment cannot be moved or copied.
stamp="$( { pwd; cat scripts/setup.sh "$requirements"; } | sha256sum | cut -d' ' -f1)"
if [[ "$(cat .venv/.stamp 2>/dev/null)" == "$stamp" ]] && .venv/bin/python -c '' 2>/dev/null &&
   command -v g++ cmake ninja >/dev/null; then
  exit 0
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
  "$@" >"$log" 2>&1 || { cat "$log" >&2; echo "setup: failed: $*" >&2; return 1; }
}

# ---------------------------------------------------------------------------------- system packages

installed() { [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]; }

if command -v apt-get >/dev/null; then
  missing=()
  for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
  done
  if ((${#missing[@]})); then
    echo "setup: installing ${missing[*]}"
    if ((EUID == 0)); then
      as_root=(env)
    elif command -v sudo >/dev/null; then
      as_root=(sudo env)
    else
      echo "setup: run as root or install sudo, or install these packages: ${missing[*]}" >&2
      exit 1
    fi
    apt=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
    install=("${apt[@]}" install --no-install-recommends "${missing[@]}")
    # Package lists may be absent (a container) or stale; only then are they fetched.
    if ! "${install[@]}" >"$log" 2>&1; then
      quietly "${apt[@]}" update
      quietly "${install[@]}"
    fi
  fi
else
  for tool in g++ cmake ninja python3; do
    command -v "$tool" >/dev/null || {
      echo "setup: $tool is missing, and this is no Debian or Ubuntu: see docs/dependencies.md" >&2
      exit 1
    }
  done
fi

# ------------------------------------------------------------------------------- Python environment

# The first one that can build extension modules: it has its headers, and venv.
python=
for candidate in python3 /usr/bin/python3; do
  if "$candidate" - 2>/dev/null <<'PY'
import ensurepip, os, sys, sysconfig, venv
headers = os.path.join(sysconfig.get_paths()["include"], "Python.h")
sys.exit(not (sys.version_info >= (3, 11) and os.path.exists(headers)))
PY
  then python=$candidate; break; fi
done
if [[ -z "$python" ]]; then
  echo "setup: no Python 3.11 or later with its headers and venv was found" >&2
  exit 1
fi

echo "setup: making .venv"
rm -f .venv/.stamp
quietly "$python" -m venv --clear .venv
quietly .venv/bin/python -m pip install --disable-pip-version-check -r "$requirements"
echo "$stamp" >.venv/.stamp
