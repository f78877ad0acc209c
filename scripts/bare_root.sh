#!/usr/bin/env bash
# scripts/bare_root.sh FOLDER PYTHON: makes a root folder that has the Python given and the libraries that it needs, and
# nothing else: no compiler, no shell, no SQLite. There Python is /python.
set -euo pipefail

root=$1
read -r program version home < <("$2" - <<'PY'
import os, sys
print(os.path.realpath(sys.executable), "python%d.%d" % sys.version_info[:2], sys.base_prefix)
PY
)
mkdir -p "$root"/{tmp,dev,proc,etc}
copied() { mkdir -p "$root$(dirname "$1")" && cp -L "$1" "$root$1"; }

copied "$program"
ln -s "$program" "$root/python"
mkdir -p "$root$home/lib"
(cd "$home/lib" && tar -c --exclude=test --exclude=tests --exclude=__pycache__ --exclude=site-packages \
    --exclude=dist-packages --exclude='config-*' --exclude=idlelib --exclude='_sqlite3.*' --exclude='_tkinter.*' \
    --exclude='_curses*' --exclude='readline.*' --exclude='nis.*' "$version") | tar -x -C "$root$home/lib"
# Where the system keeps what venv installs pip from, if not in the library itself.
[[ ! -d /usr/share/python-wheels ]] || cp -r --parents /usr/share/python-wheels "$root"

ldd "$program" "$root$home/lib/$version"/lib-dynload/*.so |
  grep -o -E '/[^ ]+\.so[^ ]*' | grep -v ":$" | sort -u | while read -r library; do
  [[ "$library" == "$root"* ]] || copied "$library"
done
# The rest of glibc, which others are linked with.
libc=$(ldd "$program" | grep -o -E '/[^ ]+/libc\.so\.6')
for part in libpthread.so.0 libdl.so.2 librt.so.1 libutil.so.1; do
  [[ ! -e "$(dirname "$libc")/$part" ]] || copied "$(dirname "$libc")/$part"
done
# Where the loader looks first.
[[ ! -e /etc/ld.so.cache ]] || ldconfig -r "$root" 2>/dev/null || true
if ((EUID == 0)); then mknod -m 666 "$root/dev/null" c 1 3; else : >"$root/dev/null"; fi
