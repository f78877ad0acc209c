"""The host device beside NumPy's BLAS, and how soon a fresh process launches from the cache.

    python benchmarks/host.py [--budget 60s] [--size 1024] [--json FILE] [--program cudadent-tune]

The matrix product is tuned from an empty cache, then timed in turns with numpy.matmul in one
process. The fresh process is `cudadent-tune run`; its times count from its own start.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

import cudadent


def medians(contenders, rounds):
    samples = [[] for _ in contenders]
    for call in contenders:
        call()
    for _ in range(rounds):
        for call, times in zip(contenders, samples):
            start = time.perf_counter()
            call()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in samples]


def product(size, budget, cache):
    generator = np.random.default_rng()
    a, b = (generator.standard_normal((size, size), dtype=np.float32) for _ in range(2))
    c, expected = np.empty_like(a), np.empty_like(a)
    with cudadent.Runtime("host", cache=cache, budget=budget) as runtime:
        result = runtime.tune("gemm", m=size, n=size, k=size, dtype="f32")
        gemm = runtime.op("gemm")
        ours, peer = medians(
            [lambda: gemm(a, b, out=c), lambda: np.matmul(a, b.T, out=expected)], rounds=30
        )
        device = runtime.device_name
    worst = max(trial.median for trial in result.trials if trial.status == "ok")
    return {
        "device": device,
        "size": size,
        "gflops": {"cudadent": 2e-9 * size**3 / ours, "numpy": 2e-9 * size**3 / peer},
        "ratio": peer / ours,
        "worst_over_best": worst / result.winner.seconds,
        "default_over_best": result.default_seconds / result.winner.seconds,
        "error": float(np.linalg.norm(c - expected) / np.linalg.norm(expected)),
        "tried": len(result.trials),
        "configuration": result.winner.configuration,
    }


def fresh_process(program, cache, rounds=20):
    """Milliseconds from the start of a process to its first launch, and to its first result."""
    problem = ["gemm", "m=64", "n=64", "k=64", "dtype=f32"]
    common = [*problem, "--device", "host", "--db", str(cache)]
    subprocess.run([program, "tune", *common, "--budget", "10"], check=True, capture_output=True)
    launches, results, whole = [], [], []
    for _ in range(rounds):
        start = time.perf_counter()
        done = subprocess.run(
            [program, "run", *common, "--skip-check", "--json"], check=True, capture_output=True
        )
        whole.append(time.perf_counter() - start)
        answer = json.loads(done.stdout)
        assert answer["winner"]["provenance"] == "cached", answer
        launches.append(answer["seconds_to_launch"])
        results.append(answer["seconds_to_first_result"])
    return {
        "first_launch_ms": 1e3 * statistics.median(launches),
        "first_result_ms": 1e3 * statistics.median(results),
        "whole_process_ms": 1e3 * statistics.median(whole),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--program", default="cudadent-tune")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = os.path.join(folder, "cudadent.db")
        results = {
            "gemm": product(arguments.size, arguments.budget, cache),
            "fresh_process": fresh_process(arguments.program, cache),
        }
    print(json.dumps(results, indent=1))
    if arguments.json:
        results["provenance"] = {
            "cores": len(os.sched_getaffinity(0)),
            "numpy": np.__version__,
            "cudadent": cudadent.__version__,
            "python": platform.python_version(),
            "date": datetime.date.today().isoformat(),
            "command": "python " + " ".join(sys.argv),
        }
        with open(arguments.json, "w") as file:
            json.dump(results, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
