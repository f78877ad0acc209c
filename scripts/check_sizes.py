#!/usr/bin/env python3
"""Fails when a host file or a function in one has grown too long, which mostly means that it has two subjects."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("api", "bindings", "cache", "cli", "emulator", "include", "runtime", "tuner")
FILE_LINES, FUNCTION_LINES = 400, 60

# What is still longer, with its length today: it may shrink, but not grow. What is no longer too long is a fault too, so
# that the lists stay true.
FILES_LEFT: dict[str, int] = {}
FUNCTIONS_LEFT: dict[str, int] = {}

TOKENS = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'|[{};]|\n',
                    re.DOTALL)
TYPE = re.compile(r"^(?:template\s*<.*>\s*)?(?:class|struct|union|enum)\b", re.DOTALL)
NAMESPACE = re.compile(r'^(?:inline\s+)?namespace\b|^extern\s+""$|^extern\s*$')
NAME = re.compile(r"([\w:~]+(?:\s*operator\s*[^\s(]+)?)\s*\(")


def functions_of(text: str):
    """(name, first line, lines) of each function's body that text defines, in classes too."""
    line, head, head_start = 1, "", 0
    stack = []  # (kind, name, line)
    at = 0
    for match in TOKENS.finditer(text):
        if match.start() > at:
            head += text[at:match.start()]
        at = match.end()
        token = match[0]
        if token == "\n":
            line += 1
            head += " "
            if head.lstrip().startswith("#"):
                head = ""
            continue
        if token == "{":
            kind = kind_of(head.strip(), stack[-1][0] if stack else "namespace")
            name = NAME.search(head)
            stack.append((kind, name[1] if name else "?", line, head))
            head = ""
        elif token == "}":
            if not stack:
                continue
            kind, name, start, opened = stack.pop()
            if kind == "function":
                yield name, start, line - start + 1
            head = opened if kind == "initialiser" else ""
        elif token == ";":
            head = ""
        else:
            line += token.count("\n")
            head += '""' if token.endswith('"') else " "


def kind_of(head: str, outside: str) -> str:
    if outside in {"function", "block"}:
        return "block"
    head = re.sub(r"^(?:public|private|protected)\s*:", "", head).strip()
    if NAMESPACE.match(head):
        return "namespace"
    if TYPE.match(head) and not re.search(r"\)\s*(?:const|noexcept|override|final|\s)*$", head):
        return "type"
    if re.search(r"\)\s*(?:(?:const|noexcept|override|final|mutable|requires\b.*|->.*|&{1,2})\s*)*$", head, re.DOTALL) or re.search(r"\)\s*(?:noexcept\s*)?:\s*\w", head):
        # A member initialised with braces, before the body.
        if re.search(r"\)\s*(?:noexcept\s*)?:\s*\w", head) and re.search(r"\w$|>$", head):
            return "initialiser"
        return "function"
    return "block" if outside == "block" else "initialiser"


def main() -> int:
    failures = files = count = 0
    left = set(FILES_LEFT) | set(FUNCTIONS_LEFT)
    for room in ROOMS:
        for file in sorted((ROOT / room).rglob("*")):
            if file.suffix not in {".h", ".cpp"}:
                continue
            files += 1
            path = file.relative_to(ROOT).as_posix()
            text = file.read_text(encoding="utf-8")
            lines = text.count("\n")
            if lines > FILE_LINES:
                left.discard(path)
            if lines > FILES_LEFT.get(path, FILE_LINES):
                failures += 1
                print(f"{path}: {lines} lines; {FILE_LINES} are the most: which of its subjects can have a file of its own?")
            for name, start, length in functions_of(text):
                count += 1
                if length > FUNCTION_LINES:
                    left.discard(f"{path}: {name}")
                if length > FUNCTIONS_LEFT.get(f"{path}: {name}", FUNCTION_LINES):
                    failures += 1
                    print(f"{path}:{start}: {name} has {length} lines; {FUNCTION_LINES} are the most")
    for name in sorted(left):
        failures += 1
        print(f"{name} is no longer too long: take it off the list in scripts/check_sizes.py")
    print(f"sizes: {files} files, {count} functions, {failures} faults")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
