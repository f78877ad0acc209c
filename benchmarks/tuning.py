"""How good tuning is: against a long search, against another seed, and against Triton's autotuner.

    python benchmarks/tuning.py --work FOLDER --output FILE [--part short] [--part long] …

The parts, each of which keeps what it has done in FOLDER, shape by shape, and is not repeated:

    short    tunes each shape from an empty cache with a small budget (seed 1)
    long     searches each shape for --long seconds with another seed, whatever the strategy expects;
             its best stands for that of an exhaustive search
    seeds    tunes as `short` does, with seeds 2 and 3
    triton   lets Triton's autotuner choose, from an empty cache in a process of its own
    compare  times all winners and torch.mm in turns in one process, the L2 cache flushed before each
             run, and compares medians

Without --part all are done in this order. A part that was interrupted resumes; --limit
ends the program before a shape that would take it beyond so many seconds. A problem's winners come
from databases of their own, one per search.

`--device host` runs the same on the processor, in f32, on tiny shapes unless --shapes says otherwise:
a rehearsal, without Triton.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cudadent
from common import State, provenance, timed

GPU_SHAPES = "4096x4096x4096,8192x8192x8192,2048x2048x2048,2048x6144x4096,64x4096x4096,333x777x1000"
HOST_SHAPES = "96x96x96,64x128x64"
PARTS = ("short", "long", "seeds", "triton", "compare")
SHORT_SEED, LONG_SEED, SEEDS = 1, 1000, (2, 3)


def extents(shape):
    m, n, k = (int(extent) for extent in shape.split("x"))
    return m, n, k


def whole_budget(seconds):
    """Seconds to be used up even when the strategy expects nothing more."""
    try:
        return cudadent.Budget(seconds, until_converged=False)
    except TypeError:  # a version that never stops early
        return cudadent.Budget(seconds)


def search(arguments, database, shape, budget, seed):
    """Tunes one shape with one database and says how it went."""
    m, n, k = extents(shape)
    start = time.perf_counter()
    with cudadent.Runtime(arguments.device, cache=database) as runtime:
        result = runtime.tune(
            "gemm", m=m, n=n, k=k, dtype=arguments.dtype, budget=budget, seed=seed
        )
        device = runtime.device_name
    statuses = [trial.status for trial in result.trials]
    return {
        "seconds": time.perf_counter() - start,
        "device": device,
        "seed": seed,
        "template": result.winner.template,
        "configuration": result.winner.configuration,
        "median": result.winner.seconds,
        "tried": len(statuses),
        "failed": len(statuses) - statuses.count("ok"),
        "candidates": result.candidates,
        "stopped_by": result.stopped_by,
        "phases": {
            phase: getattr(result, f"{phase}_seconds")
            for phase in ("enumerate", "compile", "measure", "verify", "search", "idle")
        },
    }


def from_empty(database):
    for suffix in ("", "-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    return database


# ------------------------------------------------------------------------------- parts


def run_short(arguments, state, shape):
    database = from_empty(state.database("short", shape))
    return search(arguments, database, shape, arguments.short, SHORT_SEED)


def run_long(arguments, state, shape):
    # One that was interrupted goes on with the trials it has.
    database = state.database("long", shape)
    return search(arguments, database, shape, whole_budget(arguments.long), LONG_SEED)


def run_seeds(arguments, state, shape):
    results = {}
    for seed in SEEDS:
        database = from_empty(state.database(f"seed{seed}", shape))
        results[str(seed)] = search(arguments, database, shape, arguments.short, seed)
    return results


def run_triton(arguments, state, shape):
    """In a process of its own: Triton keeps compiled kernels in memory and on disk."""
    if arguments.device == "host":
        return {"skipped": "Triton has no host device"}
    with tempfile.TemporaryDirectory() as cache:
        answer = subprocess.run(
            [sys.executable, __file__, "--triton-only", shape],
            env={**os.environ, "TRITON_CACHE_DIR": cache},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
    if answer.returncode != 0:
        return {"skipped": f"the process with Triton ended with status {answer.returncode}"}
    return json.loads(answer.stdout.splitlines()[-1])


def triton_only(shape):
    import torch

    import triton_matmul

    torch.cuda.synchronize()  # making the context is not tuning
    start = time.perf_counter()
    configuration, tried = triton_matmul.autotune(*extents(shape))
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "configuration": configuration, "tried": tried}))


def run_compare(arguments, state, shape):
    missing = [part for part in ("short", "long", "seeds") if not state.done(part, shape)]
    if missing:
        return {"skipped": f"not yet done: {', '.join(missing)}"}
    compare = compare_on_host if arguments.device == "host" else compare_on_gpu
    return compare(arguments, state, shape)


def winners(arguments, state, shape):
    """Runtimes that launch what each search found, by the search's name."""
    names = ["short", "long"] + [f"seed{seed}" for seed in SEEDS]
    return {
        name: cudadent.Runtime(
            arguments.device, cache=state.database(name, shape), on_miss="fail"
        )
        for name in names
    }


def compare_on_gpu(arguments, state, shape):
    import torch

    m, n, k = extents(shape)
    a = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
    expected = torch.mm(a, b.T)
    # One output for all: what is compared must not differ in where it writes.
    c = torch.empty_like(expected)
    runtimes = winners(arguments, state, shape)
    calls = {
        name: lambda gemm=runtime.op("gemm"): gemm(a, b, out=c) for name, runtime in runtimes.items()
    }
    calls["torch"] = lambda: torch.mm(a, b.T, out=c)
    tuned_by_triton = (state.done("triton", shape) or {}).get("configuration")
    if tuned_by_triton:
        import triton_matmul

        calls["triton"] = triton_matmul.launcher(a, b, c, tuned_by_triton)
    differences = {}
    for name, call in calls.items():
        c.fill_(float("nan"))
        call()
        differences[name] = float((c.double() - expected.double()).norm() / expected.double().norm())
    seconds = timed(list(calls.values()), arguments.rounds)
    for runtime in runtimes.values():
        runtime.close()
    return {"seconds": dict(zip(calls, seconds)), "differences": differences}


def compare_on_host(arguments, state, shape):
    import numpy as np

    from host import medians

    m, n, k = extents(shape)
    generator = np.random.default_rng(7)
    a, b = (generator.standard_normal(size, dtype=np.float32) for size in ((m, k), (n, k)))
    c, expected = np.empty((m, n), np.float32), a @ b.T
    runtimes = winners(arguments, state, shape)
    calls = {
        name: lambda gemm=runtime.op("gemm"): gemm(a, b, out=c) for name, runtime in runtimes.items()
    }
    differences = {}
    for name, call in calls.items():
        c.fill(np.nan)
        call()
        differences[name] = float(np.linalg.norm(c - expected) / np.linalg.norm(expected))
    seconds = medians(list(calls.values()), arguments.rounds)
    for runtime in runtimes.values():
        runtime.close()
    return {"seconds": dict(zip(calls, seconds)), "differences": differences}


# ------------------------------------------------------------------------------- results


def summary(state, shape):
    """One row: what was reached, and how it stands to the rest; None where it is not known."""
    compared = (state.done("compare", shape) or {}).get("seconds")
    if not compared:
        return None
    m, n, k = extents(shape)
    rates = {name: 2e-12 * m * n * k / seconds for name, seconds in compared.items()}
    first, second = (compared[f"seed{seed}"] for seed in SEEDS)
    triton = state.done("triton", shape) or {}
    return {
        "shape": shape,
        "tune_seconds": state.done("short", shape)["seconds"],
        "tflops": rates,
        "of_long": compared["long"] / compared["short"],
        "long_trials": state.done("long", shape)["tried"],
        "long_stopped_by": state.done("long", shape)["stopped_by"],
        "triton_tune_seconds": triton.get("seconds"),
        "over_triton": compared["triton"] / compared["short"] if "triton" in compared else None,
        "over_torch": compared["torch"] / compared["short"] if "torch" in compared else None,
        "seeds_apart": abs(first - second) / min(first, second),
    }


def print_table(rows):
    def text(value, form):
        return format(value, form) if value is not None else "–"

    print(
        f"{'shape':18}{'tuned in':>10}{'TFLOP/s':>9}{'long':>9}{'of long':>9}"
        f"{'Triton in':>11}{'TFLOP/s':>9}{'ratio':>7}{'cuBLAS':>9}{'seeds apart':>13}"
    )
    for row in rows:
        rates = row["tflops"]
        print(
            f"{row['shape']:18}{row['tune_seconds']:8.1f} s{rates['short']:9.3f}{rates['long']:9.3f}"
            f"{row['of_long']:8.1%} {text(row['triton_tune_seconds'], '9.1f'):>9} s"
            f"{text(rates.get('triton'), '.1f'):>9}{text(row['over_triton'], '.2f'):>7}"
            f"{text(rates.get('torch'), '.1f'):>9}{row['seeds_apart']:12.1%}"
        )
    near = sum(row["of_long"] >= 0.97 for row in rows)
    alike = sum(row["seeds_apart"] <= 0.02 for row in rows)
    print(f"within 3 % of the long search: {near} of {len(rows)} shapes")
    print(f"winners of two seeds within 2 % of each other: {alike} of {len(rows)} shapes")


def duration_hint(arguments, part):
    """What a shape of a part takes at most, about, in seconds."""
    hints = {"short": arguments.short, "long": arguments.long, "seeds": 2 * arguments.short}
    return hints.get(part, 90 if part == "triton" else 20) * 1.1 + 5


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, help="folder for databases and what is done so far")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N, host")
    parser.add_argument("--shapes", help="MxNxK,MxNxK,…")
    parser.add_argument("--short", type=float, default=10, help="seconds of a short search")
    parser.add_argument("--long", type=float, default=120, help="seconds of a long search")
    parser.add_argument("--rounds", type=int, default=100, help="of the comparison")
    parser.add_argument("--limit", type=float, help="seconds this call may take")
    parser.add_argument("--triton-only", metavar="MxNxK", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.triton_only and not arguments.work:
        parser.error("--work FOLDER is needed")
    arguments.dtype = "f32" if arguments.device == "host" else "bf16"
    default_shapes = HOST_SHAPES if arguments.device == "host" else GPU_SHAPES
    arguments.shapes = (arguments.shapes or default_shapes).split(",")
    try:
        for shape in arguments.shapes:
            extents(shape)
    except ValueError:
        parser.error(f'"{shape}" is not MxNxK, such as 4096x4096x4096')
    return arguments


def main():
    arguments = parse_arguments()
    if arguments.triton_only:
        triton_only(arguments.triton_only)
        return
    state = State(arguments.work)
    work = {
        "short": run_short,
        "long": run_long,
        "seeds": run_seeds,
        "triton": run_triton,
        "compare": run_compare,
    }
    start = time.monotonic()
    for part in arguments.part or PARTS:
        for shape in arguments.shapes:
            known = state.done(part, shape)
            if known and "skipped" not in known:
                print(f"{part} {shape}: done before", flush=True)
                continue
            spent = time.monotonic() - start
            if arguments.limit and spent + duration_hint(arguments, part) > arguments.limit:
                print(f"{part} {shape}: left for another call", flush=True)
                continue
            result = work[part](arguments, state, shape)
            state.put(part, shape, result)
            what = f"skipped: {result['skipped']}" if "skipped" in result else "done"
            print(f"{part} {shape}: {what} in {time.monotonic() - start - spent:.1f} s", flush=True)
    rows = [row for row in (summary(state, shape) for shape in arguments.shapes) if row]
    if rows:
        print_table(rows)
    if arguments.output:
        results = {"provenance": provenance(gpu=arguments.device != "host"), "results": rows, "parts": state.parts}
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
