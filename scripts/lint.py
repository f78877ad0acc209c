#!/usr/bin/env python3
"""Runs clang-tidy over the sources named in build/release/compile_commands.json, several at once. A file
that passed is not looked at again until it, a header of ours that it includes, or the checks change."""

import hashlib
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
PASSED = ROOT / "build" / "lint"
CLANG_TIDY = ROOT / ".venv" / "bin" / "clang-tidy"
# Not the tests (doctest's macros are not ours to lint) nor what is generated.
ROOMS = ("runtime/", "cache/", "tuner/", "api/", "bindings/", "cli/", "emulator/")
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^>"]+)[>"]', re.MULTILINE)


def our_headers(source: Path) -> list[Path]:
    """The source and every file of ours that it includes, directly or not."""
    found, queue = {source}, [source]
    while queue:
        for name in INCLUDE.findall(queue.pop().read_text(encoding="utf-8")):
            for header in (ROOT / name, ROOT / "include" / name):
                if header.is_file() and header not in found:
                    found.add(header)
                    queue.append(header)
    return sorted(found)


def key_of(entry: dict) -> str:
    digest = hashlib.sha256()
    for text in (entry["command"], (ROOT / ".clang-tidy").read_text(),
                 (ROOT / "scripts" / "requirements.txt").read_text()):
        digest.update(text.encode() + b"\0")
    for file in our_headers(Path(entry["file"])):
        digest.update(file.read_bytes() + b"\0")
    return digest.hexdigest()


def lint(entry: dict) -> str:
    """What clang-tidy says; empty when it is content."""
    stamp = PASSED / key_of(entry)
    if stamp.exists():
        return ""
    result = subprocess.run([CLANG_TIDY, "-p", BUILD, "--quiet", entry["file"]], capture_output=True,
                            text=True, check=False)
    if result.returncode == 0:
        stamp.touch()
        return ""
    return result.stdout or result.stderr


def main() -> int:
    PASSED.mkdir(parents=True, exist_ok=True)
    entries = [entry for entry in json.loads((BUILD / "compile_commands.json").read_text())
               if Path(entry["file"]).is_relative_to(ROOT)
               and Path(entry["file"]).relative_to(ROOT).as_posix().startswith(ROOMS)]
    only = sys.argv[1:]
    if only:
        entries = [entry for entry in entries if any(entry["file"].endswith(name) for name in only)]
    failures = 0
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for complaint in pool.map(lint, entries):
            if complaint:
                failures += 1
                print(complaint.replace(f"{ROOT}/", ""), flush=True)
    print(f"lint: {len(entries)} files, {failures} with faults")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
