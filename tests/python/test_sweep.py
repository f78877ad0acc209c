"""Sweeps with the real program: killed at any moment they lose nothing that was told and measure nothing
twice."""

import contextlib
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
import spin

PROGRAM = shutil.which("cudadent-tune")
pytestmark = pytest.mark.skipif(PROGRAM is None, reason="cudadent-tune is not built, or not in PATH")

PARAMETERS = {"SPIN": [64, 32, 8, 128, 1, 96, 16, 48]}
FASTEST = {"SPIN": 1}
CONFIGURATIONS = 8


@pytest.fixture
def folder(tmp_path):
    spin.write(tmp_path, PARAMETERS)
    return tmp_path


def write_sweep(folder, sizes):
    file = folder / "sweep.json"
    file.write_text(json.dumps({"problems": [{"op": "spin", "problem": {"n": sizes}}]}))
    return file


def command(folder, *words):
    return [PROGRAM, *words, "--device", "host", "--db", str(folder / "a.db"),
            "--templates", str(folder / "templates")]


def start(folder, output, *more):
    return subprocess.Popen(
        [*command(folder, "sweep", str(folder / "sweep.json")), "--json",
         "--strategy", "exhaustive", *more],
        stdout=output, stderr=subprocess.DEVNULL, start_new_session=True, env={**os.environ, "CUDADENT_HOST_THREADS": "1"})


def run(folder, *words):
    return subprocess.run(command(folder, *words), capture_output=True, text=True, check=False,
                          timeout=120, env={**os.environ, "CUDADENT_HOST_THREADS": "1"})


def events(file):
    """What a sweep told. The last line of one that was killed may be cut off."""
    told = []
    for line in Path(file).read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            told.append(json.loads(line))
    return told


def trials_told(told):
    problems = {event["number"]: event["problem"] for event in told if event["event"] == "start"}
    return [(problems[event["number"]], event["configuration"]["SPIN"], event["status"])
            for event in told if event["event"] == "trial"]


def trials_stored(file):
    with contextlib.closing(sqlite3.connect(file)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [(problem, json.loads(configuration)["SPIN"], status)
                for problem, configuration, status in database.execute(
                    "SELECT description, configuration, status FROM problems"
                    " JOIN trials ON trials.problem = problems.id")]


def test_a_hundred_kills_lose_nothing(folder):
    """kill -9 of the process and all it started, at random moments."""
    chance = random.Random(7)
    told, kills, sweeps = [], 0, 0
    while kills < 100:
        # A sweep may get done before it has been killed often enough: then there is another.
        sweeps += 1
        write_sweep(folder, [1000 * sweeps + i for i in range(12)])
        done = False
        while not done and kills < 100:
            with (folder / "out").open("w") as output:
                process = start(folder, output)
                try:
                    process.wait(chance.uniform(0.02, 0.45))
                    done = True
                    assert process.returncode == 0
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                    kills += 1
            told += trials_told(events(folder / "out"))
            stored = trials_stored(folder / "a.db") if (folder / "a.db").exists() else []
            assert set(told) <= set(stored)
    # The last one goes on where it was, to the end.
    with (folder / "out").open("w") as output:
        assert start(folder, output).wait(120) == 0
    told += trials_told(events(folder / "out"))
    assert len(told) == len(set(told)), "measured twice"
    shown = json.loads(run(folder, "show", "spin", "--json").stdout)
    assert len(shown) == 12 * sweeps
    assert all(winner["configuration"] == FASTEST for winner in shown)
    stored = trials_stored(folder / "a.db")
    assert len(stored) == 12 * sweeps * CONFIGURATIONS
    assert {status for _, _, status in stored} == {"ok"}


def test_the_interrupt_key_ends_after_the_trial_under_way(folder):
    write_sweep(folder, [100 + i for i in range(50)])
    with (folder / "out").open("w") as output:
        process = start(folder, output)
        deadline = time.monotonic() + 60
        while len(trials_told(events(folder / "out"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    told = events(folder / "out")
    assert told[-1]["event"] == "finished"
    assert told[-1]["interrupted"] + told[-1]["tuned"] + told[-1]["pending"] == 50
    assert told[-1]["pending"] > 0
    assert set(trials_told(told)) == set(trials_stored(folder / "a.db"))


def test_problems_are_listed_before_and_told_of_after(folder):
    write_sweep(folder, [5, 6])
    before = run(folder, "sweep", str(folder / "sweep.json"), "--dry-run", "--json")
    assert [job["state"] for job in json.loads(before.stdout)] == ["pending", "pending"]
    lines = run(folder, "sweep", str(folder / "sweep.json"), "--per-problem", "2")
    assert lines.returncode == 0, lines.stderr
    assert "[1/2] spin n=5" in lines.stdout
    assert "2 problems: 2 tuned" in lines.stdout
    after = run(folder, "sweep", str(folder / "sweep.json"), "--dry-run")
    assert after.stdout.count("known") == 2


def test_a_problem_that_fails_is_told_of_and_is_the_exit_code(folder):
    file = folder / "sweep.json"
    file.write_text(json.dumps({"problems": [{"op": "spin", "problem": {"n": [5, -5]}}]}))
    result = run(folder, "sweep", str(file), "--per-problem", "1")
    assert result.returncode == 1
    assert "1 tuned, 1 failed" in result.stdout
    wrong = run(folder, "sweep", str(folder / "no-such.json"))
    assert wrong.returncode == 2
    assert "no-such.json" in wrong.stderr
