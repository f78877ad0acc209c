"""Winners that ship with the package, with the real program: from a tuned database to a launch elsewhere."""

import json
import os
import shutil
import subprocess

import numpy as np
import pytest
import spin

import cudadent

PROGRAM = shutil.which("cudadent-tune")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="cudadent-tune is not built, or not in PATH")
X = np.arange(10, dtype=np.float32)


def run(folder, *words, shipped="none"):
    return subprocess.run(
        [PROGRAM, *map(str, words), "--templates", str(folder / "templates")],
        capture_output=True, text=True, check=False, timeout=120, cwd=folder,
        env={**os.environ, "CUDADENT_HOST_THREADS": "1", "CUDADENT_DEVICE": "host",
             "CUDADENT_SHIPPED": str(shipped)})


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """An operator, two databases in a folder, and what ships made of them."""
    folder = tmp_path_factory.mktemp("shipped")
    spin.write(folder, {"SPIN": [64, 1, 16]})
    (folder / "databases").mkdir()
    (folder / "shipped").mkdir()
    for n in (10, 20):
        tuned = run(folder, "tune", "spin", f"n={n}", "--db", f"databases/{n}.db",
                    "--strategy", "exhaustive")
        assert tuned.returncode == 0, tuned.stderr
    made = run(folder, "export", "--ship", "--from", "databases", "-o", "shipped/host.json")
    assert made.returncode == 0, made.stderr
    assert "2 winners" in made.stdout
    return folder


@pytest.fixture
def folder(tuned, tmp_path):
    shutil.copytree(tuned, tmp_path / "copy")
    return tmp_path / "copy"


def change_template(folder):
    source = folder / "templates" / "spin" / "spin.cpp"
    source.write_text(source.read_text() + "// changed\n")


def test_what_ships_is_small_and_names_no_machine(folder):
    shipped = json.loads((folder / "shipped" / "host.json").read_text())
    assert shipped["trials"] == shipped["runs"] == []
    assert [winner["configuration"] for winner in shipped["winners"]] == [{"SPIN": 1}] * 2
    assert all(winner["uuid"] == "" for winner in shipped["winners"])


def test_a_first_launch_elsewhere_finds_it(folder):
    words = "run", "spin", "n=10", "--db", "new.db", "--on-miss", "fail", "--json"
    launched = json.loads(run(folder, *words, shipped="shipped").stdout)
    assert launched["winner"]["provenance"] == "shipped"
    assert launched["winner"]["configuration"] == {"SPIN": 1}
    for refused in (run(folder, *words), run(folder, *words, "--no-shipped", shipped="shipped")):
        assert refused.returncode == 1
        assert "no winner" in refused.stderr


def test_show_tells_what_ships_and_what_is_out_of_date(folder):
    words = "show", "--db", "new.db"
    text = run(folder, *words, shipped="shipped").stdout
    assert "shipped with cudadent: 2 winners, of which 0 are not used" in text
    assert "shipped in shipped/host.json" in text
    assert "shipped" not in run(folder, *words, "--no-shipped", shipped="shipped").stdout
    change_template(folder)
    text = run(folder, *words, shipped="shipped").stdout
    assert "shipped with cudadent: 2 winners, of which 2 are not used" in text
    shown = json.loads(run(folder, *words, "--json", shipped="shipped").stdout)
    assert [winner["outdated"] for winner in shown] == [True, True]
    # And nobody is told that a winner of theirs is out of date.
    assert json.loads(run(folder, "verify", "--db", "new.db", "--json", shipped="shipped").stdout) == []


def test_winners_of_templates_that_changed_are_not_shipped_again(folder):
    change_template(folder)
    tuned = run(folder, "tune", "spin", "n=20", "--db", "databases/20.db", "--budget", "1")
    assert tuned.returncode == 0, tuned.stderr
    made = run(folder, "export", "--ship", "--from", "databases")
    assert len(json.loads(made.stdout)["winners"]) == 1
    assert "1 winners are left out" in made.stderr
    nothing = run(folder, "export", "--ship", "--db", "databases/10.db")
    assert nothing.returncode == 2
    assert "nothing to ship" in nothing.stderr
    assert run(folder, "export", "--ship", "--from", "shipped").returncode == 2  # no databases there


def test_from_python(folder, monkeypatch):
    monkeypatch.setenv("CUDADENT_SHIPPED", str(folder / "shipped"))
    monkeypatch.setenv("CUDADENT_HOST_THREADS", "1")  # part of what the device is
    options = {"template_paths": folder / "templates", "budget": "1 trials"}
    with cudadent.Runtime("host", cache=":memory:", **options) as runtime:
        np.testing.assert_array_equal(runtime.spin(X), 2 * X)
        assert runtime.spin.prepare(X).winner.provenance == "shipped"
        assert runtime.winner("spin", n=10).configuration == {"SPIN": 1}
        # Asked to, it tunes: what ships is a start, and the winner is then its own.
        result = runtime.tune("spin", n=10, budget="2 trials")
        assert result.winner.configuration == {"SPIN": 1}
        assert runtime.spin.prepare(X).winner.provenance == "cached"
    with cudadent.Runtime("host", cache=":memory:", shipped_winners=False, **options) as runtime:
        assert runtime.winner("spin", n=10) is None
        assert runtime.spin.prepare(X).winner.provenance == "tuned"
