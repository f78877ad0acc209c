#!/usr/bin/env bash
# scripts/check_wheel.sh [WHEEL]: builds the wheel, unless one is named, looks at which libraries it needs, installs it into
# an empty environment in a root folder that has nothing but Python and glibc, and uses it there:
# tests/install/use_wheel.py.
set -euo pipefail
cd "$(dirname "$0")/.."

if [[ -n "${1:-}" ]]; then
  wheel=$(realpath "$1")
else
  # Compiled as build/release is, so that ccache has most of the objects already.
  wheel=$PWD/$(CXX="${CXX:-c++}" scripts/wheel.sh -C cmake.define.CUDADENT_WERROR=ON \
      -C cmake.define.CUDADENT_UNITY=OFF | tail -n 1)
fi
python=$PWD/.venv/bin/python
scratch=$PWD/build/wheel-test
rm -rf "$scratch"
mkdir -p "$scratch"

# ------------------------------------------------------------------------------ what it needs

"$python" -m zipfile -e "$wheel" "$scratch/unpacked"
needed=$(find "$scratch/unpacked" -type f \( -name '*.so' -o -name 'cudadent-*' \) -exec objdump -p {} + |
         awk '/NEEDED/ { print $2 }' | sort -u)
echo "needs: ${needed//$'\n'/ }"
if grep -v -E '^(libc|libm|libdl|librt|libpthread|ld-linux-x86-64|ld-linux-aarch64)\.so\.[0-9]+$' <<<"$needed"; then
  echo "check_wheel: these libraries are not glibc's" >&2
  exit 1
fi

# ----------------------------------------------------- with a compiler: an environment of its own

# What is tuned here is launched below, where there is no compiler.
"$python" -m venv "$scratch/env"
"$scratch/env/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps "$wheel"
export CUDADENT_SHIPPED=none
unset PYTHONPATH CUDADENT_WORKER
[[ ! -e /usr/share/javascript/chart.js/chart.min.js ]] || export CHARTS=yes
(cd "$scratch" && env/bin/python "$OLDPWD/tests/install/use_wheel.py" tune wheel.db)

# --------------------------------------------------------------- without: Python and glibc only

root=$scratch/root
scripts/bare_root.sh "$root" "$python"
cp "$wheel" tests/install/use_wheel.py "$scratch/wheel.db" "$root/tmp/"
# inside <program> <argument…>: in that root, with /proc, and without this environment.
as_root=()
((EUID == 0)) || as_root=(--map-root-user)
inside() {
  PATH=$PATH:/usr/sbin unshare --mount "${as_root[@]}" sh -c 'mount --rbind /proc "$0/proc" && exec env -i \
      HOME=/tmp PATH=/nothing CUDADENT_SHIPPED=none CHARTS="$CHARTS" "$(command -v chroot)" "$0" "$@"' "$root" "$@"
}
export CHARTS=${CHARTS:-}
if ! inside /python -c '' 2>"$scratch/enter.log"; then
  cat "$scratch/enter.log"
  echo "not done: this machine lets nobody enter another root folder, so the wheel was used in an environment only"
  exit 0
fi
inside /python -m venv /tmp/env
inside /tmp/env/bin/python -m pip install --quiet --disable-pip-version-check --no-index --no-deps \
    "/tmp/$(basename "$wheel")"
inside /tmp/env/bin/python /tmp/use_wheel.py launch /tmp/wheel.db

# The package that the extra "nvrtc" names, from .venv, since it is large. A library of NVIDIA's in it needs libstdc++.
nvrtc=$("$python" -c 'import nvidia, os; print(os.path.realpath(list(nvidia.__path__)[0]))' 2>/dev/null || true)
if [[ -n "$nvrtc" ]]; then
  cp -r "$nvrtc" "$root"/tmp/env/lib/python3.*/site-packages/
  libraries=$(find "$nvrtc" -name 'libnvrtc-builtins.so*' -exec ldd {} + | grep -o -E '/[^ ]+/lib(stdc\+\+|gcc_s)\.so[^ ]*' | sort -u)
  for library in $libraries; do cp -L "$library" "$root$library"; done
  inside /tmp/env/bin/python /tmp/use_wheel.py compile /tmp/wheel.db
fi
rm -rf "$root" "$scratch/env"
