"""The examples run."""

import os
import subprocess
import sys
from pathlib import Path

import cudadent

EXAMPLES = Path(__file__).parents[2] / "examples" / "python"


def run(tmp_path, script, *arguments):
    environment = {**os.environ, "CUDADENT_CACHE": str(tmp_path / "cudadent.db")}
    package = str(Path(cudadent.__file__).parents[1])
    environment["PYTHONPATH"] = os.pathsep.join([package, environment.get("PYTHONPATH", "")])
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_quickstart(tmp_path):
    assert "TuneResult" in run(tmp_path, "quickstart.py", "2 trials")


def test_own_kernel(tmp_path):
    output = run(tmp_path, "own_kernel/run.py")
    assert "axpby" in output
    assert float(output.rsplit("largest error:", 1)[1]) < 1e-6


def test_own_search(tmp_path):
    assert "rms_norm rows=64 columns=256" in run(tmp_path, "own_search.py")


def test_own_observer(tmp_path):
    output = run(tmp_path, "own_observer.py")
    assert "slowest_seconds" in output and "binary_bytes" in output


def test_examples_of_searches_and_observers_stay_short():
    for name in ("own_search.py", "own_observer.py"):
        assert len((EXAMPLES / name).read_text(encoding="utf-8").splitlines()) <= 30
