"""Several processes and one new problem: one tunes, all launch its winner."""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import spin

import cudadent

# Several are equally fast, so that runs of their own would hardly choose alike.
PARAMETERS = {"SPIN": [4, 8], "SAME": [1, 2, 3, 4]}
RANK = """
import json, os, sys, time
import numpy, cudadent

folder, number = sys.argv[1:]
with cudadent.Runtime("host", cache=folder + "/a.db", template_paths=folder + "/templates",
                      seed=int(number)) as runtime:
    x = numpy.arange(100, dtype=numpy.float32)
    open(folder + "/ready-" + number, "w").close()
    while not os.path.exists(folder + "/go"):
        time.sleep(0.001)
    numpy.testing.assert_array_equal(runtime.spin(x), 2 * x)
    winner = runtime.winner("spin", n=100)
    print(json.dumps([winner.template, winner.configuration]))
"""


def test_eight_processes_meet_one_new_problem(tmp_path):
    spin.write(tmp_path, PARAMETERS)
    package = str(Path(cudadent.__file__).parents[1])
    environment = {
        **os.environ,
        "CUDADENT_HOST_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]),
    }
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", RANK, str(tmp_path), str(number)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in range(8)
    ]
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("ready-*"))) < 8 and time.monotonic() < deadline:
        time.sleep(0.01)
    (tmp_path / "go").touch()
    told = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 8, told
    winners = [json.loads(output) for output, _ in told]
    assert all(winner == winners[0] for winner in winners), winners
    with contextlib.closing(sqlite3.connect(tmp_path / "a.db")) as database:
        assert database.execute("SELECT count(*) FROM runs").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM winners").fetchone() == (1,)
        assert database.execute("SELECT count(*) FROM claims").fetchone() == (0,)
