"""What a user meets first: problems that nobody tuned for, and those tuned for a second or two.

    python benchmarks/first_call.py [--part gemm] [--part attention] [--seed 76] [--output FILE]

Draws problems within the sizes of real models (--seed), decoding among them: matrix products of bf16, and
attentions. None of seed 76 is a problem whose winner ships, nor one that a prior was fitted to. Times each, in turns
in one process, on random inputs, the L2 cache flushed before each run:

    shipped   not tuned, with the winners that ship: what on_miss="nearest" launches
    alone     not tuned, without them
    1s, 2s    tuned so long, from an empty cache, with what ships (--budgets; attention: the first only)
    cublas    torch.mm as it comes
    cudnn     scaled_dot_product_attention, cuDNN's backend; flash's is timed too

and prints how many times as fast as cuBLAS, or cuDNN, each is: the geometric mean, the minimum, and the worst problems.
Where cuDNN refuses a problem, flash stands for it, and the row says so. --prepare compiles what is launched untuned
beforehand, on that number of threads. --isolation says where candidates run.

--device host rehearses it on the processor, in f32, on tiny problems, without peers: the columns are then over
"alone".
"""

import argparse
import gzip
import json
import math
import os
import random
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import first_line, geometric_mean, provenance, timed

# Here the question is what ships is worth; a folder that somebody names is taken.
if os.environ.get("CUDADENT_SHIPPED") == "none":
    del os.environ["CUDADENT_SHIPPED"]

import cudadent  # noqa: E402

WEIGHTS = (  # n×k of linear layers: projections, feed-forward, vocabulary
    (4096, 4096),
    (6144, 4096),
    (22016, 4096),
    (4096, 11008),
    (28672, 4096),
    (4096, 14336),
    (128256, 4096),
    (3584, 3584),
    (4608, 3584),
    (37888, 3584),
    (3584, 18944),
    (5120, 5120),
    (15360, 5120),
    (27648, 5120),
    (5120, 13824),
    (10240, 8192),
    (8192, 8192),
    (57344, 8192),
    (8192, 28672),
    (2304, 768),
    (3072, 768),
    (768, 3072),
    (3072, 1024),
    (4096, 1024),
    (1024, 4096),
    (2048, 2048),
    (3072, 2048),
    (16384, 2048),
    (2048, 8192),
    (9216, 3072),
    (3072, 8192),
    (151936, 1536),
    (1536, 8960),
    (7168, 2048),
    (1536, 7168),
    (24576, 1536),
)
HEADS = (  # heads, of them for keys and values, head_dim
    (32, 8, 128),
    (28, 4, 128),
    (32, 32, 128),
    (64, 8, 128),
    (40, 40, 128),
    (16, 16, 64),
    (12, 12, 64),
    (32, 8, 64),
    (12, 2, 128),
    (48, 8, 128),
)


class Gemm:
    op, peer = "gemm", "cublas"

    def __init__(self, m, n, k, dtype="bf16", layout_b="nk"):
        self.values = {"m": m, "n": n, "k": k, "dtype": dtype, "layout_b": layout_b}
        self.name = f"{m}x{n}x{k}" + ("-kn" if layout_b == "kn" else "")
        self.options = {"layout_b": layout_b}
        self.seconds = 2 * m * n * k / 6e14 + 2 * (m * k + n * k + m * n) / 3e12  # roughly

    def shapes(self):
        m, n, k = (self.values[name] for name in "mnk")
        return (m, k), ((n, k) if self.values["layout_b"] == "nk" else (k, n)), (m, n)

    def peers(self, a, b, c):
        import torch

        view = b.t() if self.values["layout_b"] == "nk" else b
        return {"cublas": lambda: torch.mm(a, view, out=c)}


class Attention:
    op, peer = "attention", "cudnn"

    def __init__(self, heads, batch, queries, keys, causal, dtype="bf16"):
        self.heads, self.batch, self.causal = heads, batch, causal
        self.queries, self.keys = queries, keys
        of_all, of_keys, head_dim = heads
        self.values = {
            "batch": batch,
            "query_length": queries,
            "kv_length": keys,
            "heads": of_all,
            "kv_heads": of_keys,
            "head_dim": head_dim,
            "dtype": dtype,
            "causal": causal,
        }
        self.name = f"hd{head_dim}-h{of_all}x{of_keys}-b{batch}-s{queries}" + (
            f"k{keys}" if keys != queries else ""
        )
        self.name += "-causal" if causal else ""
        self.options = {"causal": causal}
        pairs = queries * keys * (0.5 if causal else 1)
        self.seconds = 4 * batch * of_all * head_dim * pairs / 5e14 + (
            4 * batch * keys * of_keys * head_dim / 3e12
        )

    def shapes(self):
        of_all, of_keys, head_dim = self.heads
        q = (self.batch, self.queries, of_all, head_dim)
        k = (self.batch, self.keys, of_keys, head_dim)
        return q, k, k, q

    def peers(self, q, k, v, out):
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.nn.functional import scaled_dot_product_attention

        turned = [tensor.transpose(1, 2) for tensor in (q, k, v)]
        grouped = self.heads[0] != self.heads[1]

        def with_backend(backend):
            def call():
                with sdpa_kernel(backend):
                    scaled_dot_product_attention(
                        *turned, is_causal=self.causal, enable_gqa=grouped
                    )

            return call

        return {
            "cudnn": with_backend(SDPBackend.CUDNN_ATTENTION),
            "flash": with_backend(SDPBackend.FLASH_ATTENTION),
        }


# ------------------------------------------------------------------------------- what is drawn


def spread(draw, least, most):
    """A whole number whose logarithm is drawn evenly."""
    return round(math.exp(draw.uniform(math.log(least), math.log(most))))


def drawn_gemms(draw, count):
    """Two fifths of few rows, two fifths of many, and a fifth of other sizes than a layer's."""
    found = {}
    while len(found) < count:
        kind = len(found) % 5
        if kind < 2:
            problem = Gemm(spread(draw, 1, 128), *draw.choice(WEIGHTS))
        elif kind < 4:
            m = spread(draw, 129, 8192)
            m = m if draw.random() < 0.4 else max(1, round(m / 128)) * 128
            layout = "kn" if draw.random() < 0.2 else "nk"
            problem = Gemm(m, *draw.choice(WEIGHTS), layout_b=layout)
        else:
            # Squares, few tiles and a long k, sizes of no model.
            m, n, k = (spread(draw, 256, 4096), spread(draw, 256, 4096), spread(draw, 256, 24576))
            step = draw.choice((8, 64, 256))
            problem = Gemm(m, *(max(1, round(extent / step)) * step for extent in (n, k)))
        if problem.seconds < 2.5e-3:
            found[problem.name] = problem
    return list(found.values())


def drawn_attentions(draw, count):
    """Two fifths of one query or a few, the others prompts, most of them causal."""
    found = {}
    while len(found) < count:
        heads = draw.choice(HEADS)
        if len(found) % 5 < 2:
            batch, keys = spread(draw, 1, 64), spread(draw, 200, 60000)
            problem = Attention(heads, batch, 1, keys, causal=False)
            size = 4 * batch * keys * heads[1] * heads[2]
        else:
            length = spread(draw, 128, 8192)
            length = length if draw.random() < 0.5 else max(1, round(length / 128)) * 128
            batch = max(1, round(draw.choice((1024, 4096, 16384)) / length))
            problem = Attention(heads, batch, length, length, causal=draw.random() < 0.7)
            size = 0
        if problem.seconds < 2.5e-3 and size < 4e9:
            found[problem.name] = problem
    return list(found.values())


def drawn(part, arguments):
    draw = random.Random(f"{part} {arguments.seed}")
    if arguments.device == "host":
        if part == "gemm":
            sizes = [(spread(draw, 1, 64), spread(draw, 8, 96)) for _ in range(2)]
            return [Gemm(m, n, 64, dtype="f32") for m, n in sizes]
        lengths = [spread(draw, 1, 40) for _ in range(2)]
        return [Attention((4, 2, 16), 1, length, 40, False, dtype="f16") for length in lengths]
    if part == "gemm":
        return drawn_gemms(draw, arguments.gemms)
    return drawn_attentions(draw, arguments.attentions)


# ------------------------------------------------------------------------------- one problem


def tensors_of(problem, device):
    if device == "host":
        import numpy

        dtype = {"f32": numpy.float32, "f16": numpy.float16}[problem.values["dtype"]]
        draw = numpy.random.default_rng(1)
        return [draw.standard_normal(shape).astype(dtype) for shape in problem.shapes()]
    import torch

    return [torch.randn(*shape, device="cuda", dtype=torch.bfloat16) for shape in problem.shapes()]


def seconds_of(calls, problem, arguments):
    """Median seconds of each call, by name."""
    if arguments.device == "host":
        samples = {name: [] for name in calls}
        for _ in range(5):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                samples[name].append(time.perf_counter() - start)
        return {name: sorted(times)[len(times) // 2] for name, times in samples.items()}
    # More rounds of what is short: medians of short runs move more.
    rounds = max(arguments.rounds, min(100, int(arguments.rounds * 1e-4 / problem.seconds)))
    return dict(zip(calls, timed(list(calls.values()), rounds)))


def working(calls):
    """Those of the peers that take the problem; of the others, why not."""
    found, refused = {}, {}
    for name, call in calls.items():
        try:
            call()
            found[name] = call
        except Exception as error:  # of another project: it may be any
            refused[name] = first_line(error)
    return found, refused


def operator_of(runtime, problem):
    return runtime.op(problem.op, **problem.options)


def launcher(runtime, problem, tensors):
    """A call that launches the problem, and what is launched."""
    operator = operator_of(runtime, problem)
    *inputs, out = tensors
    explanation = operator.prepare(*inputs, out=out)
    winner = explanation.winner
    said = {
        "template": winner.template,
        "configuration": winner.configuration,
        "provenance": winner.provenance,
        "predicted_seconds": getattr(winner, "predicted_seconds", 0),
    }
    return (lambda: operator(*inputs, out=out)), said


def tuned_runtime(problem, seconds, arguments):
    """A Runtime that was tuned for the problem alone, so long, and how that went."""
    runtime = cudadent.Runtime(arguments.device, cache=":memory:", on_miss="fail")
    start = time.perf_counter()
    moments = []  # at which trials ended, in seconds
    try:
        result = runtime.tune(
            problem.op,
            problem.values,
            budget=seconds,
            isolation=arguments.isolation,
            on_progress=lambda progress: moments.append(round(progress.elapsed, 3)),
        )
    except cudadent.Error:
        runtime.close()
        raise
    if arguments.trials:
        with gzip.open(arguments.trials, "at") as file:
            for trial in result.trials:
                measured = [trial.template, trial.configuration, trial.status, trial.median]
                file.write(json.dumps([problem.op, problem.values, *measured]) + "\n")
    return runtime, {
        "tuning_seconds": time.perf_counter() - start,
        "tried": len(result.trials),
        "prepare_seconds": result.prepare_seconds,
        "moments": moments,
    }


def measured(problem, untuned, arguments):
    """A row of the results."""
    tensors = tensors_of(problem, arguments.device)
    calls, said = {}, {}
    for name, runtime in untuned.items():
        start = time.perf_counter()
        calls[name], said[name] = launcher(runtime, problem, tensors)
        said[name]["miss_seconds"] = time.perf_counter() - start
    budgets = arguments.budgets if problem.op == "gemm" else arguments.budgets[:1]
    runtimes = []
    try:
        for seconds in budgets:
            runtime, how = tuned_runtime(problem, seconds, arguments)
            runtimes.append(runtime)
            name = f"{seconds:g}s"
            calls[name], said[name] = launcher(runtime, problem, tensors)
            said[name].update(how)
        peers, refused = working(problem.peers(*tensors)) if arguments.device != "host" else ({}, {})
        seconds = seconds_of({**calls, **peers}, problem, arguments)
    finally:
        for runtime in runtimes:
            runtime.close()
    present = [name for name in (problem.peer, "flash", "alone") if name in seconds]
    row = {
        "problem": problem.name,
        "over": present[0],
        "microseconds": {name: value * 1e6 for name, value in seconds.items()},
        "ratios": {name: seconds[present[0]] / seconds[name] for name in calls},
        "launched": said,
    }
    return {**row, "refused": refused} if refused else row


# ------------------------------------------------------------------------------- all of them


def prepare_all(problems, untuned, arguments):
    """Compiles what will be launched untuned, on many threads."""
    if arguments.prepare < 1:
        return
    start = time.perf_counter()

    def prepare(item):
        problem, runtime = item
        try:
            *inputs, out = tensors_of(problem, arguments.device)
            operator_of(runtime, problem).prepare(*inputs, out=out)
        except cudadent.Error as error:
            print(f"{problem.name}: {first_line(error)}", flush=True)

    with ThreadPoolExecutor(arguments.prepare) as pool:
        items = [(problem, runtime) for problem in problems for runtime in untuned.values()]
        list(pool.map(prepare, items))
    print(f"prepared in {time.perf_counter() - start:.1f} s", flush=True)


def print_row(row):
    ratios = "  ".join(f"{name} {ratio:5.2f}" for name, ratio in row["ratios"].items())
    launched = row["launched"]["shipped"]
    print(
        f"{row['problem']:32} {ratios}   {row['over']} {row['microseconds'][row['over']]:8.1f} µs   "
        f"{launched['template']}, {launched['provenance']}",
        flush=True,
    )


def print_summary(part, rows, worst):
    columns = {
        name: [row["ratios"][name] for row in rows if name in row["ratios"]]
        for name in rows[0]["ratios"]
    }
    print(f"\n{part}: {len(rows)} problems, times as fast as {rows[0]['over']}")
    for name, ratios in columns.items():
        slowest = sorted(rows, key=lambda row, name=name: row["ratios"].get(name, math.inf))[:worst]
        listed = ", ".join(f"{row['problem']} {row['ratios'][name]:.2f}" for row in slowest)
        print(f"  {name:8} geometric mean {geometric_mean(ratios):.3f}, minimum {min(ratios):.3f}: {listed}")
    misses = sorted(said["miss_seconds"] for row in rows for said in (row["launched"]["shipped"],))
    print(f"  from call to launch, compiled before: median {misses[len(misses) // 2] * 1e3:.1f} ms\n")
    return {
        name: {"geometric_mean": geometric_mean(ratios), "least": min(ratios)}
        for name, ratios in columns.items()
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "host"))
    parser.add_argument("--part", action="append", choices=("gemm", "attention"))
    parser.add_argument(
        "--seed",
        type=int,
        default=76,
        help="of the problems that are drawn; priors know those of 12, 29, 41, 43 and 47",
    )
    parser.add_argument("--gemms", type=int, default=44)
    parser.add_argument("--attentions", type=int, default=26)
    parser.add_argument("--budgets", default="1,2", help="seconds of tuning; empty: none")
    parser.add_argument("--isolation", default="auto", choices=("auto", "worker", "in_process"))
    parser.add_argument("--prepare", type=int, default=16, help="threads that compile beforehand")
    parser.add_argument("--rounds", type=int, default=15, help="minimum number")
    parser.add_argument("--worst", type=int, default=5, help="problems that are listed")
    parser.add_argument("--limit", type=float, default=math.inf, help="begin nothing after seconds")
    parser.add_argument(
        "--trials", type=Path, help="append the tuning runs' trials, JSON lines, gzip"
    )
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    arguments = parser.parse_args()
    arguments.budgets = [float(word) for word in arguments.budgets.split(",") if word]

    start = time.monotonic()
    results = {"seed": arguments.seed}
    with tempfile.TemporaryDirectory() as folder:
        untuned = {
            name: cudadent.Runtime(
                arguments.device,
                cache=str(Path(folder) / f"{name}.db"),
                on_miss="nearest",
                shipped_winners=name == "shipped",
            )
            for name in ("shipped", "alone")
        }
        for part in arguments.part or ("gemm", "attention"):
            problems = drawn(part, arguments)
            prepare_all(problems, untuned, arguments)
            rows = []
            for problem in problems:
                if time.monotonic() - start > arguments.limit:
                    print(f"{problem.name}: left out, time is over", flush=True)
                    continue
                try:
                    rows.append(measured(problem, untuned, arguments))
                    print_row(rows[-1])
                except Exception as error:  # the others are worth having all the same
                    print(f"{problem.name}: {type(error).__name__}: {first_line(error)}", flush=True)
            if rows:
                results[part] = {"columns": print_summary(part, rows, arguments.worst), "rows": rows}
        for runtime in untuned.values():
            runtime.close()
    if arguments.output:
        facts = provenance(gpu=arguments.device != "host")
        arguments.output.write_text(json.dumps({"provenance": facts, **results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
