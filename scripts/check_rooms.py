#!/usr/bin/env python3
"""Fails when a room knows a room above it. The rooms are described in docs/architecture.md."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Lowest first. The longest prefix of a path names its room.
RANKS = {"include": 0, "runtime/base": 1, "runtime/language": 2, "runtime/operators": 3, "runtime/backends": 4,
         "runtime/backends/cuda": 5, "runtime/backends/host": 5, "runtime/launch": 5, "runtime/devices": 6,
         "runtime/backends/worker": 7, "cache": 8, "tuner": 9, "emulator": 10, "api": 10, "cli": 11, "bindings": 11}

# Compiled with what kernels become, on the emulator: it sees nothing of ours but itself.
DEVICE_CODE = ROOT / "emulator" / "device"

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)
COMMENTS = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
COMMENTS_AND_STRINGS = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.DOTALL)
GETENV = re.compile(r"\b(?:std::|secure_)?getenv\b")
BACKEND_BY_NAME = re.compile(r'[=!]=\s*"(?:cuda|host)"|"(?:cuda|host)"\s*[=!]=|"cuda:')
TYPE = re.compile(r"^\s*(?:class|struct)\s+(?:[A-Z_]+\s+)?(?:\w+::)*(\w+)\s*(?:final\s*)?(?::[^;{]*)?\{", re.MULTILINE)
MEMBER = re.compile(r"^(?! )[\w:<>,&*\[\] ]*?\b(\w+)::(~?\w+)\(", re.MULTILINE)
CUDA_API = re.compile(r"\b(?:nvrtc[A-Z]\w*|cu[A-Z]\w*|CU[a-z]\w*)\b")


def room_of(path: str) -> str | None:
    return max((room for room in RANKS if path.startswith(room + "/")), key=len, default=None)


def faults_of(path: str, text: str) -> list[str]:
    faults = []
    includes = [(quote == '"', name) for quote, name in INCLUDE.findall(text)]
    if path.startswith("kernel_templates/"):
        if path.endswith((".cu", ".cuh")):
            own = path.split("/")[1] + "/"  # the operator's folder
            faults += [f'includes {name}: device code includes "ptx/…" and "{own}…" only'
                       for quoted, name in includes
                       if not (quoted and name.startswith(("ptx/", own)))]
        return faults

    room = room_of(path)
    for quoted, name in includes:
        target = "include/" + name if name.startswith("cudadent/") else name
        other = room_of(target)
        if quoted and other is None:
            faults.append(f'includes "{name}", which is not a path from the root')
        elif other is not None and other != room and RANKS[other] >= RANKS[room]:
            faults.append(f"includes {name}: {room} is below {other}")
        if name == "sqlite3.h" and room != "cache":
            faults.append("includes sqlite3.h: only cache/ knows SQLite")
        if re.match(r"(cuda|nvrtc)[\w.]*h?$", name):
            faults.append(f"includes {name}: the CUDA APIs are declared in runtime/backends/cuda")
    code = COMMENTS_AND_STRINGS.sub(" ", text)
    # What a user can set is in one table; a switch for trying something out stays on the machine of who tries.
    if path != "runtime/base/environment.cpp" and GETENV.search(code):
        faults.append("reads the environment: only runtime/base/environment.cpp does")
    if BACKEND_BY_NAME.search(COMMENTS.sub(" ", text)):
        faults.append("compares a backend's name: ask the table in runtime/language/backend_kind.h")
    if not path.startswith("runtime/backends/cuda/"):
        faults += [f"mentions {name}: only runtime/backends/cuda knows the CUDA APIs"
                   for name in sorted(set(CUDA_API.findall(code)))]
    return faults


def strangers_in(files: dict[str, str]) -> list[str]:
    """Functions of a class in another room than the class; those of a class in the public header are in one room."""
    homes: dict[str, set[str]] = {}
    for path, text in files.items():
        for name in TYPE.findall(text):
            homes.setdefault(name, set()).add(room_of(path))
    faults = []
    of_public: dict[str, str] = {}
    for path, text in files.items():
        for name, function in MEMBER.findall(text) if path.endswith(".cpp") else []:
            home, room = homes.get(name, set()), room_of(path)
            if home == {"include"}:
                home = {of_public.setdefault(name, room)}
            if home and room not in home:
                faults.append(f"{path}: {name}::{function} is in {room}, other functions of the class in {min(home)}")
    return faults


def main() -> int:
    count = failures = 0
    hosts = {}
    for top in ["include", "runtime", "cache", "emulator", "tuner", "api", "cli", "bindings", "kernel_templates"]:
        for file in sorted((ROOT / top).rglob("*")):
            if file.suffix not in {".h", ".cpp", ".cu", ".cuh"} or DEVICE_CODE in file.parents:
                continue
            count += 1
            path = file.relative_to(ROOT).as_posix()
            text = file.read_text(encoding="utf-8")
            if top != "kernel_templates":
                hosts[path] = text
            for fault in faults_of(path, text):
                failures += 1
                print(f"{path}: {fault}")
    for fault in strangers_in(hosts):
        failures += 1
        print(fault)
    print(f"rooms: {count} files, {failures} faults")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
