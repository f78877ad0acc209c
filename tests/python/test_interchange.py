"""export, import, merge, prune and verify, with the real program."""

import json
import os
import shutil
import sqlite3
import subprocess

import pytest
import spin

PROGRAM = shutil.which("cudadent-tune")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="cudadent-tune is not built, or not in PATH")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A folder with the operator and a database that knows two of its problems."""
    folder = tmp_path_factory.mktemp("tuned")
    spin.write(folder, {"SPIN": [64, 1, 16]})
    (folder / "sweep.json").write_text(
        json.dumps({"problems": [{"op": "spin", "problem": {"n": [10, 20]}}]})
    )
    result = run(folder, "sweep", folder / "sweep.json", "--strategy", "exhaustive")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture
def folder(tuned, tmp_path):
    """A copy of it, to be changed."""
    shutil.copytree(tuned, tmp_path / "copy")
    return tmp_path / "copy"


def run(folder, *words, database="a.db"):
    return subprocess.run(
        [PROGRAM, *map(str, words), "--device", "host", "--db", str(folder / database),
         "--templates", str(folder / "templates")],
        capture_output=True, text=True, check=False, timeout=120, cwd=folder,
        env={**os.environ, "CUDADENT_HOST_THREADS": "1"})


def output(folder, *words, database="a.db"):
    result = run(folder, *words, database=database)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_export_and_import_round_trip(folder):
    assert run(folder, "export", "--trials", "-o", "out.json").returncode == 0
    counts = output(folder, "import", "out.json", "--json", database="b.db")
    assert counts["winners"]["added"] == 2
    assert counts["trials"]["added"] == 6
    again = run(folder, "export", "--trials", database="b.db").stdout
    assert again == (folder / "out.json").read_text()
    known = output(folder, "sweep", "sweep.json", "--dry-run", "--json", database="b.db")
    assert [job["state"] for job in known] == ["known", "known"]


def test_formats_of_others(folder):
    cache = output(folder, "export", "spin", "n=10", "--format", "kernel_tuner")
    assert cache["tune_params_keys"] == ["SPIN"]
    assert set(cache["cache"]) == {"1", "16", "64"}
    assert run(folder, "export", "--format", "t4", "-o", "t4/").returncode == 0
    files = sorted((folder / "t4").iterdir())
    assert len(files) == 2
    counts = output(folder, "import", files[0], "--op", "theirs", "--json", database="b.db")
    assert counts["trials"]["added"] == 3
    several = run(folder, "export", "--format", "t4")
    assert several.returncode == 2
    assert "one problem" in several.stderr


def test_an_import_that_fails_changes_nothing(folder):
    exported = output(folder, "export", "--trials")
    exported["trials"][-1]["status"] = "nonsense"
    (folder / "wrong.json").write_text(json.dumps(exported))
    result = run(folder, "import", "wrong.json", database="b.db")
    assert result.returncode == 2
    assert "trials[5]" in result.stderr
    assert not (folder / "b.db").exists()
    assert run(folder, "export", "-o", "no-such-folder/x.json").returncode == 2


def test_merge_and_prune(folder):
    counts = output(folder, "merge", folder / "a.db", "--binaries", "--json", database="b.db")
    assert counts["trials"]["added"] == 6
    assert counts["binaries"]["added"] > 0
    dry = output(folder, "prune", "--binaries", "--dry-run", "--json", database="b.db")
    assert dry["binaries"] > 0
    done = output(folder, "prune", "--binaries", "--json", database="b.db")
    assert done["binaries"] == dry["binaries"]
    # A template that is changed makes its trials and winners outdated.
    source = folder / "templates" / "spin" / "spin.cpp"
    source.write_text(source.read_text() + "// changed\n")
    gone = output(folder, "prune", "--outdated", "--json", database="b.db")
    assert (gone["winners"], gone["trials"]) == (2, 6)
    assert run(folder, "prune").returncode == 2


def test_verify_tells_a_winner_that_no_longer_wins(folder):
    checked = output(folder, "verify", "--json")
    assert [winner["state"] for winner in checked] == ["wins", "wins"]
    with sqlite3.connect(folder / "a.db") as database:
        database.execute("UPDATE winners SET configuration = ? WHERE description LIKE '%n=10%'",
                         ('{"SPIN":64}',))
    result = run(folder, "verify")
    assert result.returncode == 1
    assert "loses" in result.stdout
    fixed = run(folder, "verify", "--fix", "--json")
    assert fixed.returncode == 1
    assert [winner["fixed"] for winner in json.loads(fixed.stdout)] == [True, False]
    assert run(folder, "verify").returncode == 0


def test_unknown_operators_are_told(folder):
    for command in ("show", "verify", "export"):
        result = run(folder, command, "no_such")
        assert result.returncode == 2
        assert "gemm" in result.stderr
        assert "spin" in result.stderr
