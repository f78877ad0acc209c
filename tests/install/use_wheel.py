"""Uses an installed wheel: `use_wheel.py tune DATABASE` with a C++ compiler, then `use_wheel.py launch DATABASE`
on a machine that has none, nor NumPy, nor anything else but Python. Started by scripts/check_wheel.sh."""

import array
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
    """Memory with a shape, as NumPy describes it."""

    def __init__(self, values, *shape):
        self.values = array.array("f", values)
        self.__array_interface__ = {
            "version": 3,
            "typestr": "<f4",
            "shape": shape,
            "data": (self.values.buffer_info()[0], False),
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


def main():
    what, database = sys.argv[1:]
    print(f"cudadent {cudadent.__version__} in {sys.prefix}")
    print(said_by("--version").strip())
    print(tune(database) if what == "tune" else launch(database))
    if what == "launch":
        print(without_compiler(database))
        try:
            import nvidia  # noqa: F401
        except ImportError:
            print("no NVRTC here")
        else:
            print(compile_for_gpu())
    # Chart.js is in the program, where the machine that built it has it.
    if os.environ.get("CHARTS"):
        page = database + ".html"
        said_by("report", "--db", database, "--html", page)
        print(f"a report of {os.path.getsize(page)} bytes")


if __name__ == "__main__":
    main()
