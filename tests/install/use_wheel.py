"""Uses an installed wheel, step by step, as scripts/check_wheel.sh says:

use_wheel.py tune DATABASE     with a C++ compiler
use_wheel.py launch DATABASE   on a machine that has none, nor NumPy, nor anything else but Python
use_wheel.py compile DATABASE  with NVRTC
"""

import ctypes
import json
import math
import os
import subprocess
import sys

import cudadent

ROWS, COLUMNS = 4, 64
PROGRAM = os.path.join(sys.prefix, "bin", "cudadent-tune")
PROBLEM = ["rms_norm", f"rows={ROWS}", f"columns={COLUMNS}", "dtype=f32"]


class Tensor:
    """Memory with a shape, as NumPy describes it; aligned, as that of the problem that was tuned."""

    def __init__(self, values, *shape):
        self.memory = (ctypes.c_char * (4 * len(values) + 64))()
        start = -ctypes.addressof(self.memory) % 64
        self.values = (ctypes.c_float * len(values)).from_buffer(self.memory, start)
        self.values[:] = values
        self.__array_interface__ = {
            "version": 3,
            "typestr": "<f4",
            "shape": shape,
            "data": (ctypes.addressof(self.values), False),
        }


def said_by(*words, fails=False):
    result = subprocess.run([PROGRAM, *words], capture_output=True, text=True, check=False)
    assert (result.returncode != 0) == fails, f"{words}: {result.stdout}\n{result.stderr}"
    return result.stderr if fails else result.stdout


def tune(database):
    result = json.loads(
        said_by("tune", *PROBLEM, "--device", "host", "--db", database, "--budget", "2 trials",
                "--isolation", "worker", "--json")
    )
    assert result["isolated"], "candidates did not run in the worker"
    return f"tuned in the worker: {result['winner']['template']}"


def launch(database):
    x = Tensor([math.sin(i) for i in range(ROWS * COLUMNS)], ROWS, COLUMNS)
    weight, y = Tensor([1.0] * COLUMNS, COLUMNS), Tensor([0.0] * ROWS * COLUMNS, ROWS, COLUMNS)
    with cudadent.Runtime("host", cache=database) as runtime:
        runtime.op("rms_norm")(x, weight, out=y)
    for row in range(ROWS):
        values = x.values[row * COLUMNS : (row + 1) * COLUMNS]
        scale = 1 / math.sqrt(sum(value * value for value in values) / COLUMNS + 1e-6)
        for column, value in enumerate(values):
            assert abs(y.values[row * COLUMNS + column] - value * scale) < 1e-5
    return "launched the winner, and its result is right"


def without_compiler(database):
    run = json.loads(said_by("run", *PROBLEM, "--device", "host", "--db", database, "--json"))
    assert run["winner"]["provenance"] == "cached", run
    other = said_by("run", "rms_norm", "rows=4", "columns=65", "dtype=f32", "--device", "host",
                    "--db", database, fails=True)
    assert "no C++ compiler found" in other, other
    return "cudadent-tune launches it, and says what is missing for others"


def compile_for_gpu():
    words = ["compile", "gemm", "m=512", "n=512", "k=512", "dtype=f16", "--arch", "sm_90a", "--json"]
    compiled = json.loads(said_by(*words, "--template", "wgmma"))
    return f"NVRTC compiled {len(compiled)} specializations for sm_90a"


def worker():
    program = os.path.join(os.path.dirname(cudadent.__file__), "cudadent-worker")
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def report(database):
    page = database + ".html"
    said_by("report", "--db", database, "--html", page)
    return f"a report of {os.path.getsize(page)} bytes"


def main():
    what, database = sys.argv[1:]
    print(f"cudadent {cudadent.__version__} in {sys.prefix}, cudadent-tune {said_by('--version').strip()}, {worker()}")
    if what == "tune":
        print(tune(database))
        print(launch(database))
    elif what == "launch":
        print(launch(database))
        print(without_compiler(database))
        # Chart.js is in the program, where the machine that built it has it.
        if os.environ.get("CHARTS"):
            print(report(database))
    else:
        print(compile_for_gpu())


if __name__ == "__main__":
    main()
