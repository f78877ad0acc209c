"""Several processes that meet the same new problem, and tuning in the background."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest

import cudadent

OPERATOR = {
    "op": "wait",
    "doc": "y = x, after a while",
    "tensors": {
        "x": {"shape": ["n"], "dtype": "f32"},
        "y": {"shape": ["n"], "dtype": "f32", "role": "output"},
    },
    "tuning_key": {"n": "pow2_ceil(n)"},
}
# The less WORK, the faster: the winner is beyond doubt.
TEMPLATE = {
    "template": "host",
    "backend": "host",
    "compile_time": [],
    "parameters": {"WORK": [4000, 2000, 1000, 1]},
    "launches": [{"entry": "wait", "grid": [1], "args": ["x", "y", "n"]}],
}
SOURCE = """
void wait(const Block&, const float* x, float* y, int n) {
  volatile int sum = 0;
  for (int i = 0; i < WORK * 100; ++i) sum = sum + i;
  for (int i = 0; i < n; ++i) y[i] = x[i];
}
"""

ONE_PROCESS = """
import json, sys
import numpy as np
import cudadent

with cudadent.Runtime("host", cache=sys.argv[1], template_paths=sys.argv[2]) as runtime:
    x = np.arange(100, dtype=np.float32)
    sys.stdin.readline()  # all begin together
    y = runtime.wait(x)
    winner = runtime.wait.prepare(x).winner
    print(json.dumps([bool((y == x).all()), winner.provenance, winner.configuration]))
"""


@pytest.fixture
def templates(tmp_path):
    home = tmp_path / "templates" / "wait"
    home.mkdir(parents=True)
    (home / "op.json").write_text(json.dumps(OPERATOR))
    (home / "host.json").write_text(json.dumps(TEMPLATE))
    (home / "host.cpp").write_text(SOURCE)
    return home.parent


def test_of_eight_processes_one_tunes_and_all_have_its_winner(tmp_path, templates):
    cache = tmp_path / "shared.db"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", ONE_PROCESS, str(cache), str(templates)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(8)
    ]
    time.sleep(1)
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    results = []
    for process in processes:
        out, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        results.append(json.loads(out))
    assert all(right for right, _, _ in results)
    assert sorted(provenance for _, provenance, _ in results) == ["cached"] * 7 + ["tuned"]
    assert all(configuration == {"WORK": 1} for _, _, configuration in results)


def test_in_the_background_a_launch_waits_for_nothing_and_later_ones_are_fast(tmp_path, templates):
    x = np.arange(100, dtype=np.float32)
    with cudadent.Runtime(
        "host", cache=tmp_path / "cache.db", template_paths=templates, on_miss="background"
    ) as runtime:
        assert (runtime.wait(x) == x).all()
        first = runtime.wait.prepare(x).winner
        assert first.provenance == "default"
        assert first.configuration == {"WORK": 4000}
        deadline = time.monotonic() + 120
        while runtime.wait.prepare(x).winner.provenance == "default":
            assert time.monotonic() < deadline
            assert (runtime.wait(x) == x).all()
            time.sleep(0.05)
        later = runtime.wait.prepare(x).winner
        assert later.provenance == "cached"
        assert later.configuration == {"WORK": 1}
        assert (runtime.wait(x) == x).all()


def test_closing_ends_tuning_in_the_background(tmp_path, templates):
    x = np.arange(100, dtype=np.float32)
    begin = time.monotonic()
    with cudadent.Runtime(
        "host", cache=tmp_path / "cache.db", template_paths=templates, on_miss="background",
        budget=3600,
    ) as runtime:
        runtime.wait(x)
    assert time.monotonic() - begin < 60
