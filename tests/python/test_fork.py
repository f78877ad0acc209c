"""Children of a fork, and waiting threads: what Python programs do with processes, threads and Ctrl-C."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
import warnings
from pathlib import Path

import numpy as np
import pytest
import spin

import cudadent

# Python 3.12 and later warn of forks beside threads, which is what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")

X = np.arange(100, dtype=np.float32)


def in_child(action, seconds=120):
    """Runs action() in a child; its exit status, 0 when it returned, and not before `seconds` are over."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "it hangs"


@pytest.fixture
def runtime(tmp_path):
    templates = spin.write(tmp_path, {"SPIN": [2, 1]})
    with cudadent.Runtime(
        "host", cache=tmp_path / "cache.db", template_paths=templates, on_miss="nearest"
    ) as made:
        yield made


def test_a_child_calls_what_its_parent_has_called_and_what_is_new(runtime):
    np.testing.assert_array_equal(runtime.spin(X), 2 * X)

    def use():
        np.testing.assert_array_equal(runtime.spin(X), 2 * X)
        np.testing.assert_array_equal(runtime.spin(X[:50]), 2 * X[:50])
        assert runtime.winner("spin", n=100) is None
        runtime.close()

    assert in_child(use) == 0
    np.testing.assert_array_equal(runtime.spin(X), 2 * X)


double = None  # what processes of a pool call: they find functions by their names


def call_double(x):
    return double(x)


def test_a_pool_of_forked_processes(tmp_path):
    global double
    templates = spin.write(tmp_path, {"SPIN": [2, 1]})
    cudadent.set_default_options(
        cache=tmp_path / "cache.db", template_paths=templates, on_miss="nearest"
    )
    try:
        double = cudadent.op("spin")
        double(X)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with multiprocessing.get_context("fork").Pool(2) as pool:
                results = pool.map_async(call_double, [X[:n] for n in range(10, 50, 5)])
                for n, result in zip(range(10, 50, 5), results.get(timeout=120)):
                    np.testing.assert_array_equal(result, 2 * X[:n])
    finally:
        cudadent.set_default_options()


def test_a_child_of_a_program_whose_other_thread_tunes(tmp_path):
    templates = spin.write(tmp_path, {"SPIN": [2, 1]})
    begun, end = threading.Event(), threading.Event()

    def wait(_):
        begun.set()
        end.wait()

    with cudadent.Runtime("host", cache=tmp_path / "cache.db", template_paths=templates) as runtime:
        tuner = threading.Thread(target=runtime.tune, args=("spin",), kwargs={"n": 100, "on_progress": wait})
        tuner.start()
        try:
            assert begun.wait(120)

            def use():
                np.testing.assert_array_equal(runtime.spin(X), 2 * X)  # tunes for itself
                runtime.close()

            assert in_child(use) == 0
        finally:
            end.set()
            tuner.join()
        assert runtime.winner("spin", n=100) is not None


def test_a_callback_that_forks_and_exits_the_child(tmp_path):
    templates = spin.write(tmp_path, {"SPIN": [2, 1]})
    children = []

    def fork(_):
        if not children:
            child = os.fork()
            if child == 0:
                sys.exit(7)
            children.append(child)

    with cudadent.Runtime("host", cache=tmp_path / "cache.db", template_paths=templates) as runtime:
        try:
            result = runtime.tune("spin", n=100, on_progress=fork)
        except SystemExit as exit:  # in the child
            os._exit(exit.code)
        assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 7
        assert all(trial.status == "ok" for trial in result.trials)


# One thread tunes for long; the main one waits for it, in the way that it is told, and is interrupted.
WAITS = """
import os, sys, threading, time
import numpy, cudadent

folder, how = sys.argv[1:]
x = numpy.arange(100, dtype=numpy.float32)
begun, end = threading.Event(), threading.Event()
def wait(_):
    begun.set()
    end.wait()
with cudadent.Runtime("host", cache=folder + "/a.db", template_paths=folder + "/templates") as runtime:
    tuner = threading.Thread(target=lambda: runtime.tune("spin", n=100, on_progress=wait))
    tuner.start()
    begun.wait()
    ticks = []
    threading.Thread(target=lambda: [ticks.append(time.sleep(0.01)) for _ in range(10)]).start()
    try:
        print("waiting", flush=True)
        if how == "call":
            runtime.spin(x)
        elif how == "prepare":
            runtime.spin.prepare(x)
        elif how == "tune the same":
            runtime.tune("spin", n=100)
        else:
            runtime.tune("spin", n=7)
        print("went on", flush=True)
    except KeyboardInterrupt:
        print("interrupted after", len(ticks), flush=True)
    end.set()
    tuner.join()
    numpy.testing.assert_array_equal(runtime.spin(x), 2 * x)
"""


@pytest.mark.parametrize("how", ["call", "prepare", "tune the same", "tune another"])
def test_waiting_for_another_thread_hears_ctrl_c_and_lets_threads_run(tmp_path, how):
    spin.write(tmp_path, {"SPIN": [2, 1]})
    package = str(Path(cudadent.__file__).parents[1])
    environment = {
        **os.environ,
        "CUDADENT_HOST_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([package, os.environ.get("PYTHONPATH", "")]),
    }
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, str(tmp_path), how],
        stdout=subprocess.PIPE, text=True, env=environment,
    ) as process:
        assert process.stdout.readline() == "waiting\n"
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        # All ten of another thread's ticks: who waits does not hold the interpreter's lock.
        assert process.stdout.readline() == "interrupted after 10\n"
        assert process.wait(120) == 0
