#!/usr/bin/env bash
# scripts/setup.sh [demo]: installs what building and testing need and this machine lacks: Debian or Ubuntu packages,
# and a Python environment in .venv. For `demo` only what the program needs, which is no Python without a GPU.
# Does nothing, and touches no network, when nothing changed since it last ran.
set -euo pipefail
cd "$(dirname "$0")/.."

purpose=${1:-all}
packages=(g++ cmake ninja-build ccache
          libsqlite3-dev libxxhash-dev libfmt-dev nlohmann-json3-dev libcli11-dev zlib1g-dev libjs-chart.js)
requirements=(-r scripts/requirements.txt)
if [[ "$purpose" == demo ]]; then
  requirements=()
  if nvidia-smi -L >/dev/null 2>&1; then
    packages+=(python3 python3-dev python3-venv)
    # NVRTC, without what the line says of the platform.
    requirements=("$(sed -n 's/^\(nvidia-cuda-nvrtc[^;]*\);.*/\1/p' scripts/requirements.txt)")
  fi
else
  packages+=(git ca-certificates doctest-dev python3 python3-dev python3-venv)
fi

# The root folder counts: a virtual environment cannot be moved or copied.
stamp_for() { { pwd; echo "$1"; cat scripts/setup.sh scripts/requirements.txt; } | sha256sum | cut -d' ' -f1; }
stamp=$(stamp_for "$purpose")
# What serves everything serves the demo.
for made in "$stamp" "$(stamp_for all)"; do
  if [[ "$(cat .venv/.stamp 2>/dev/null)" == "$made" ]] && .venv/bin/python -c '' 2>/dev/null &&
     command -v g++ cmake ninja >/dev/null; then
    exit 0
  fi
done

log=$(mktemp)
trap 'rm -f "$log"' EXIT
quietly() {
  "$@" >"$log" 2>&1 || { cat "$log" >&2; echo "setup: failed: $*" >&2; return 1; }
}

# ---------------------------------------------------------------------------------- system packages

installed() { [[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" == installed ]]; }
known() { apt-cache show --quiet=2 "$1" >/dev/null 2>&1; }

# Which Clang this release of the system has, with its sanitizers: one that is installed, else the newest.
clang_packages() {
  local has version
  for has in installed known; do
    for version in 19 18 17 16; do
      if "$has" "clang-$version" && "$has" "libclang-rt-$version-dev"; then
        echo "clang-$version libclang-rt-$version-dev"
        return
      fi
    done
  done
}

if command -v apt-get >/dev/null; then
  as_root=(env)
  ((EUID == 0)) || as_root=(sudo env)
  apt=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300)
  can_install() { ((EUID == 0)) || command -v sudo >/dev/null; }
  # Package lists may be absent (a container) or stale; only then are they fetched.
  updated=
  update() { quietly "${apt[@]}" update && updated=yes; }

  missing=()
  for package in "${packages[@]}"; do
    installed "$package" || missing+=("$package")
  done
  if [[ "$purpose" == all ]]; then
    # One can do without Clang, so nothing fails where it cannot be had.
    read -r -a clang <<<"$(clang_packages)"
    if ((${#clang[@]} == 0)) && can_install; then
      update || true
      read -r -a clang <<<"$(clang_packages)"
    fi
    for package in "${clang[@]}"; do
      installed "$package" || { can_install && missing+=("$package"); } || clang=()
    done
    ((${#clang[@]})) || echo "setup: no Clang 16 to 19 here: GCC builds for the sanitizers, in twice the time"
  fi

  if ((${#missing[@]})); then
    echo "setup: installing ${missing[*]}"
    if ! can_install; then
      echo "setup: run as root or install sudo, or install these packages: ${missing[*]}" >&2
      exit 1
    fi
    install=("${apt[@]}" install --no-install-recommends "${missing[@]}")
    if [[ -n "$updated" ]]; then
      quietly "${install[@]}"
    elif ! "${install[@]}" >"$log" 2>&1; then
      update
      quietly "${install[@]}"
    fi
  fi
else
  for tool in g++ cmake ninja; do
    command -v "$tool" >/dev/null || {
      echo "setup: $tool is missing, and this is no Debian or Ubuntu: see docs/dependencies.md" >&2
      exit 1
    }
  done
fi

# ------------------------------------------------------------------------------- Python environment

# Where there is nothing to put into it, none is made.
((${#requirements[@]})) || exit 0

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
quietly .venv/bin/python -m pip install --disable-pip-version-check "${requirements[@]}"
echo "$stamp" >.venv/.stamp
