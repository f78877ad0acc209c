"""The documentation works as it is written.

A block of README.md or a file in docs/ is tested when the line before it is one of these comments,
which readers do not see:

    <!-- test: file PATH -->  the block is a file, there for all other blocks of the document
    <!-- test: run -->        lines that begin with "$ " are commands; the others are what they print
    <!-- test: python -->     a program
    <!-- test: c++ -->        a program, or statements that could stand in main()

More words may follow a comma: "NVRTC" or "GPU" for what a block needs, without which it is skipped.
The blocks of a document run in order, in one folder, with one database, on the host device unless
they need a GPU.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import cudadent

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^<!-- test: (?P<kind>file|run|python|c\+\+)(?: (?P<path>[^\s,]+))?(?P<needs>(?:, \w+)*) -->\n"
    r"```[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    document: str
    line: int
    kind: str
    path: str
    needs: frozenset
    text: str


def blocks_of(document):
    text = document.read_text(encoding="utf-8")
    found = [
        Block(
            document.name,
            text.count("\n", 0, match.start()) + 1,
            match["kind"],
            match["path"] or "",
            frozenset(re.findall(r"\w+", match["needs"])),
            match["text"],
        )
        for match in BLOCK.finditer(text)
    ]
    # A comment that the pattern does not know must not go unnoticed.
    assert len(found) == text.count("<!-- test: "), f"{document}: a malformed test comment"
    return found


BLOCKS = [block for document in DOCUMENTS if document.exists() for block in blocks_of(document)]
BUILD = Path(cudadent.__file__).parents[2]  # of a package in build/release/python


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for each document, with its files."""
    folders = {}
    for block in BLOCKS:
        if block.document not in folders:
            folders[block.document] = tmp_path_factory.mktemp("documentation")
        if block.kind == "file":
            file = folders[block.document] / block.path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
    return folders


def has_gpu():
    return shutil.which("nvidia-smi") is not None and (
        subprocess.run(["nvidia-smi", "-L"], capture_output=True, check=False).returncode == 0
    )


def environment_for(block, cache):
    environment = {**os.environ, "CUDADENT_CACHE": str(cache)}
    environment.pop("CUDADENT_TEMPLATE_PATH", None)
    if "GPU" not in block.needs:
        environment["CUDADENT_DEVICE"] = "host"
    environment.setdefault("VIRTUAL_ENV", sys.prefix)  # where NVRTC may be
    environment["PATH"] = os.pathsep.join([str(BUILD), environment.get("PATH", "")])
    package = str(Path(cudadent.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([package, environment.get("PYTHONPATH", "")])
    return environment


def commands_of(block):
    """The lines after "$ ", with those that continue them."""
    script, continues = [], False
    for line in block.text.splitlines():
        if line.startswith("$ ") or continues:
            script.append(line.removeprefix("$ "))
            continues = line.endswith("\\")
    assert script, f"{block.document}:{block.line} has no command"
    return "\n".join(script)


def cpp_command(block, folder):
    compiler, library = shutil.which("c++"), BUILD / "libcudadent.so"
    if compiler is None or not library.exists():
        pytest.skip("no C++ compiler, or no library to link")
    text = block.text
    if "int main(" not in text:
        lines = text.splitlines()
        includes = [line for line in lines if line.startswith("#include")]
        rest = [line for line in lines if not line.startswith("#include")]
        text = "\n".join([*includes, "int main() {", *rest, "}"])
    source, program = folder / f"snippet_{block.line}.cpp", folder / f"snippet_{block.line}"
    source.write_text(text, encoding="utf-8")
    options = ["-std=c++20", "-Wall", "-Wextra", f"-I{ROOT / 'include'}", str(source)]
    link = [str(library), f"-Wl,-rpath,{BUILD}", "-o", str(program)]
    result = subprocess.run(
        [compiler, *options, *link], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return [str(program)]


def command_of(block, folder, environment):
    if block.kind == "python":
        return [sys.executable, "-c", block.text]
    if block.kind == "c++":
        return cpp_command(block, folder)
    if "cudadent-tune" in block.text and not shutil.which(
        "cudadent-tune", path=environment["PATH"]
    ):
        pytest.skip("cudadent-tune is not built")
    return ["bash", "-euxo", "pipefail", "-c", commands_of(block)]


@pytest.mark.parametrize(
    "block",
    [
        pytest.param(block, id=f"{block.document}:{block.line}")
        for block in BLOCKS
        if block.kind != "file"
    ],
)
def test_block(block, folders):
    if "GPU" in block.needs and not has_gpu():
        pytest.skip("no GPU")
    folder = folders[block.document]
    environment = environment_for(block, folder / "cudadent.db")
    result = subprocess.run(
        command_of(block, folder, environment),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
        check=False,
    )
    if "NVRTC" in block.needs and "pip install nvidia-cuda-nvrtc" in result.stderr:
        pytest.skip("NVRTC not found")
    assert result.returncode == 0, f"{result.stdout}\n{result.stderr}"


def test_the_tutorial_is_tested():
    kinds = [block.kind for block in BLOCKS if block.document == "writing-a-template.md"]
    assert kinds.count("file") >= 9
    assert {"run", "python", "c++"} <= set(kinds)


TEXTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("document", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere_and_tables_can_be_read(document):
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, _ = target.partition("#")
        if path and "://" not in path:
            assert (document.parent / path).exists(), f"{document.name} links to {target}"
    for line in text.splitlines():
        if line.startswith("|"):
            longest = max(line.split("|"), key=len)
            assert len(longest) <= 600, f"{document.name}: a table cell of {len(longest)} characters"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 110
