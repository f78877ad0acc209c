"""Tuning, its results, its interruption, and what other threads and processes make of it."""

import json
import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import reference

import cudadent

PROBLEM = {"m": 32, "n": 32, "k": 32, "dtype": "f32"}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """A database with a tuned problem, the result, and the progress reported."""
    cache = tmp_path_factory.mktemp("tuned") / "cudadent.db"
    progress = []
    with cudadent.Runtime("host", cache=cache, on_miss="fail") as runtime:
        result = runtime.tune(
            "gemm", PROBLEM, budget=cudadent.Budget(trials=3), on_progress=progress.append
        )
    return cache, result, progress


def test_the_result_tells_what_was_found(tuned):
    _, result, progress = tuned
    assert result.problem.startswith("gemm m=32 k=32 n=32")
    assert result.winner.template == "host"
    assert result.winner.seconds > 0 and result.seconds == result.winner.seconds
    assert result.winner.provenance == "tuned"
    assert result.flops == 2 * 32**3
    assert result.flops_per_second == pytest.approx(result.flops / result.seconds)
    assert 3 <= len(result.trials) <= 6  # the budget, and finalists measured besides
    assert any(trial.status == "ok" and trial.samples for trial in result.trials)
    assert result.candidates > 100
    assert "gemm" in repr(result) and "GFLOP/s" in repr(result)
    assert progress and progress[-1].measured >= 1
    assert {step.phase for step in progress} <= {"search", "finalists"}


def test_a_tuned_problem_launches(tuned, generator):
    cache, result, _ = tuned
    a, b = (generator.standard_normal((32, 32), dtype=np.float32) for _ in range(2))
    with cudadent.Runtime("host", cache=cache, on_miss="fail") as runtime:
        winner = runtime.winner("gemm", PROBLEM)
        assert winner.configuration == result.winner.configuration
        assert runtime.winner("gemm", PROBLEM, k=33) is None
        assert reference.relative_error(runtime.gemm(a, b), reference.gemm(a, b)) < 1e-5


def test_another_process_launches_from_the_cache(tuned):
    cache, _, _ = tuned
    script = """
        import sys, numpy as np, cudadent
        a = np.eye(32, dtype=np.float32)
        with cudadent.Runtime("host", cache=sys.argv[1], on_miss="fail") as runtime:
            assert (runtime.gemm(a, 2 * a) == 2 * a).all()
            print(runtime.gemm.prepare(a, a).winner.provenance)
    """
    # Without a compiler: the binary comes from the database.
    environment = {**os.environ, "CUDADENT_HOST_COMPILER": "/no/such/compiler"}
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(cache)],
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "cached"


def test_a_first_call_tunes(tmp_path):
    x = np.ones((2, 16), np.float32)
    with cudadent.Runtime("host", cache=tmp_path / "c.db", budget="1 trials") as runtime:
        runtime.rms_norm(x, x[0])
        assert runtime.winner("rms_norm", rows=2, columns=16, dtype=np.float32).seconds > 0


def test_budgets():
    assert cudadent.Budget().seconds == 60
    assert cudadent.Budget(trials=5).seconds == 0
    assert cudadent.Budget(3, patience=2).patience == 2


def test_a_callbacks_exception_ends_the_run(tmp_path):
    def fail(progress):
        raise LookupError("enough")

    with cudadent.Runtime("host", cache=":memory:") as runtime:
        with pytest.raises(LookupError, match="enough"):
            runtime.tune("rms_norm", rows=2, columns=8, dtype="f32", on_progress=fail)


def test_an_interrupt_ends_the_run():
    script = """
        import os, signal, threading, cudadent
        # A background job of a shell is started with interrupts ignored, and Python then lets them be.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with cudadent.Runtime("host", cache=":memory:") as runtime:
            threading.Timer(1.5, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            try:
                runtime.tune("gemm", m=256, n=256, k=256, dtype="f32", budget="10m")
            except KeyboardInterrupt:
                print("interrupted")
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.stdout.strip() == "interrupted", result.stderr


def test_threads_call_at_once(host, generator):
    inputs = [
        (generator.standard_normal((rows, 33), dtype=np.float32), np.ones(33, np.float32))
        for rows in (1, 2, 3, 5)
    ]
    expected = [reference.rms_norm(*pair)[0] for pair in inputs]
    failures = []

    def work(start):
        try:
            for i in range(40):
                which = (start + i) % len(inputs)
                y = host.rms_norm(*inputs[which])
                assert reference.relative_error(y, expected[which]) < 1e-5
        except BaseException as error:  # noqa: BLE001: told to the main thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_other_threads_run_while_one_tunes():
    ticks = []
    done = threading.Event()

    def tick():
        while not done.wait(0.01):
            ticks.append(1)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        with cudadent.Runtime("host", cache=":memory:") as runtime:
            runtime.tune("rms_norm", rows=2, columns=24, dtype="f32", budget="2 trials")
    finally:
        done.set()
        thread.join()
    assert len(ticks) > 10


NAPS = """
#include <time.h>
#include <unistd.h>
void nap(const Block&, const float* x, float* y, int n) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  usleep(300000 + now.tv_nsec % 12 * 1000 + KIND);  // as noisy as a race that lasts: 2 %
  for (int i = 0; i < n; ++i) y[i] = 2 * x[i];
}
"""


def test_an_interrupt_while_finalists_race_ends_the_run(tmp_path):
    home = tmp_path / "templates" / "nap"
    home.mkdir(parents=True)
    tensor = {"shape": ["n"], "dtype": "f32"}
    operator = {"op": "nap", "tensors": {"x": tensor, "y": {**tensor, "role": "output"}}}
    operator["tolerance"] = {"f32": 1e-6}
    (home / "op.json").write_text(json.dumps(operator))
    template = {"template": "nap", "backend": "host", "parameters": {"KIND": [0, 1]}}
    template["launches"] = [{"entry": "nap", "grid": [1], "args": ["x", "y", "n"]}]
    (home / "nap.json").write_text(json.dumps(template))
    (home / "nap.cpp").write_text(NAPS)
    script = f"""
        import os, signal, time, cudadent
        signal.signal(signal.SIGINT, signal.default_int_handler)
        asked = None
        def interrupt(progress):
            global asked
            if progress.phase == "finalists" and asked is None:
                asked = time.monotonic()
                os.kill(os.getpid(), signal.SIGINT)
        with cudadent.Runtime("host", cache={str(tmp_path / "a.db")!r},
                              template_paths={str(home.parent)!r}) as runtime:
            try:
                runtime.tune("nap", n=8, budget="2h", on_progress=interrupt)
            except KeyboardInterrupt:
                print("interrupted after", time.monotonic() - asked)
            print(runtime.winner("nap", n=8))
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    first, *rest = result.stdout.splitlines()
    assert first.startswith("interrupted after"), result.stdout + result.stderr
    # Rounds take two seconds, and there would be forty.
    assert float(first.split()[-1]) < 20
    assert "nap" in rest[0], "the best so far is remembered"
