"""Matrix products beside cuBLAS (and Triton), timed in turns in one process.

    python benchmarks/gemm.py --work FOLDER [--group table] … [--output FILE] [--chart FILE.svg]

Tunes each problem once, from nothing: winners that ship with cudadent are left out, unless CUDADENT_SHIPPED says
which. (FOLDER keeps winners and what is done, so an interrupted run goes on.) Then
times, in turns, on random inputs, the L2 cache flushed before each run:

    cudadent   the winner
    cublas     torch.mm as it comes; torch._scaled_mm for 8-bit floats
    cublaslt   torch.mm with cuBLASLt preferred: its own heuristic's choice
    triton     with --triton: the best that Triton's autotuner finds for a tutorial-like kernel

The copy bandwidth that weights are compared with is measured in the same run: reading and writing
1 GiB on the device. Groups of problems: table (bf16, what people run), decode (few rows), unaligned
(rows that start anywhere), layouts (the other transpositions, a batch), types (f16, tf32, 8-bit).
"""

import argparse
import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path

import torch

import cudadent
from common import State, geometric_mean, provenance, timed

TORCH_TYPES = {
    "bf16": torch.bfloat16,
    "f16": torch.float16,
    "f32": torch.float32,
    "e4m3": torch.float8_e4m3fn,
    "e5m2": torch.float8_e5m2,
}
TABLE = (
    "512 1024 2048 4096 8192 16384 4096x28672x4096 4096x4096x14336 2048x6144x4096 4096x7168x2048 "
    "8192x128x8192 1x4096x4096 16x4096x4096 64x4096x4096 128x4096x4096 1x14336x4096 64x14336x4096 "
    "128x28672x4096 64x7168x16384 128x128x65536 333x777x1000 1000x1000x4099"
).split()
DECODE_WEIGHTS = ((4096, 4096), (14336, 4096), (28672, 4096), (7168, 16384))


@dataclass(frozen=True)
class Case:
    """c = a · b, a of [m, k] or transposed, b of [n, k] or transposed, perhaps a batch of them."""

    m: int
    n: int
    k: int
    dtype: str = "bf16"
    layout_a: str = "mk"
    layout_b: str = "nk"
    batch: int = 1

    @property
    def name(self):
        parts = [f"{self.m}x{self.n}x{self.k}", self.dtype]
        parts += [f"batch{self.batch}"] if self.batch > 1 else []
        parts += [self.layout_a] if self.layout_a != "mk" else []
        parts += [self.layout_b] if self.layout_b != "nk" else []
        return "-".join(parts)

    @property
    def options(self):
        options = {"layout_a": self.layout_a, "layout_b": self.layout_b}
        return {**options, "precision": "tf32"} if self.dtype == "f32" else options

    @property
    def out_dtype(self):
        return "bf16" if self.dtype in ("e4m3", "e5m2") else self.dtype

    @property
    def flops(self):
        return 2 * self.batch * self.m * self.n * self.k

    @property
    def bytes(self):
        element, out = (TORCH_TYPES[dtype].itemsize for dtype in (self.dtype, self.out_dtype))
        read = (self.m + self.n) * self.k * element
        return self.batch * (read + self.m * self.n * out)


def table_case(text):
    extents = [int(extent) for extent in text.split("x")]
    return Case(*(extents * 3 if len(extents) == 1 else extents))


GROUPS = {
    "table": [table_case(text) for text in TABLE],
    "decode": [Case(m, n, k) for n, k in DECODE_WEIGHTS for m in (1, 16, 64, 128)],
    "unaligned": [Case(333, 777, 1000), Case(1000, 1000, 4099), Case(4097, 4097, 4097)],
    "layouts": [
        Case(4096, 4096, 4096, layout_a="mk", layout_b="kn"),
        Case(4096, 4096, 4096, layout_a="km", layout_b="nk"),
        Case(4096, 4096, 4096, layout_a="km", layout_b="kn"),
        Case(512, 512, 512, batch=64),
        Case(1024, 1024, 128, batch=32),
    ],
    "types": [
        Case(4096, 4096, 4096, "f16"),
        Case(8192, 8192, 8192, "f16"),
        Case(4096, 4096, 4096, "f32"),
        Case(4096, 4096, 4096, "e4m3"),
        Case(8192, 8192, 8192, "e4m3"),
    ],
}


def random_tensor(*shape, dtype):
    if dtype in ("e4m3", "e5m2"):
        return torch.randn(*shape, device="cuda").to(TORCH_TYPES[dtype])
    return torch.randn(*shape, device="cuda", dtype=TORCH_TYPES[dtype])


def operands(case):
    """The tensors as stored, and as views of [batch,] m, k and k, n."""
    batch = (case.batch,) if case.batch > 1 else ()
    shape_a = (case.m, case.k) if case.layout_a == "mk" else (case.k, case.m)
    shape_b = (case.n, case.k) if case.layout_b == "nk" else (case.k, case.n)
    a = random_tensor(*batch, *shape_a, dtype=case.dtype)
    b = random_tensor(*batch, *shape_b, dtype=case.dtype)
    view_a = a if case.layout_a == "mk" else a.transpose(-1, -2)
    view_b = b.transpose(-1, -2) if case.layout_b == "nk" else b
    c = torch.empty(*batch, case.m, case.n, device="cuda", dtype=TORCH_TYPES[case.out_dtype])
    return a, b, view_a, view_b, c


def preferring(library, call):
    def run():
        torch.backends.cuda.preferred_blas_library(library)
        call()

    return run


def peers(case, view_a, view_b, c):
    """torch's ways to the same product, by name."""
    if case.dtype in ("e4m3", "e5m2"):
        one = torch.ones((), device="cuda")

        def scaled():
            torch._scaled_mm(
                view_a, view_b, one, one, out_dtype=c.dtype, use_fast_accum=True, out=c
            )

        return {"cublas": scaled}
    torch.backends.cuda.matmul.allow_tf32 = True
    product = torch.bmm if case.batch > 1 else torch.mm

    def call():
        product(view_a, view_b, out=c)

    return {"cublas": preferring("cublas", call), "cublaslt": preferring("cublaslt", call)}


def tune(case, arguments, database):
    values = {"m": case.m, "n": case.n, "k": case.k, "dtype": case.dtype, **case.options}
    if case.batch > 1:
        values["batch"] = case.batch
    start = time.perf_counter()
    with cudadent.Runtime("cuda", cache=database) as runtime:
        result = runtime.tune("gemm", budget=arguments.budget, **values)
    return {
        "seconds": time.perf_counter() - start,
        "template": result.winner.template,
        "configuration": result.winner.configuration,
        "median": result.winner.seconds,
        "tried": len(result.trials),
    }


def compare(case, arguments, database):
    a, b, view_a, view_b, c = operands(case)
    expected = view_a.double() @ view_b.double()
    with cudadent.Runtime("cuda", cache=database, on_miss="fail") as runtime:
        gemm = runtime.op("gemm", **case.options)
        calls = {"cudadent": lambda: gemm(a, b, out=c), **peers(case, view_a, view_b, c)}
        if arguments.triton and case == Case(case.m, case.n, case.k):
            import triton_matmul

            configuration, _ = triton_matmul.autotune(case.m, case.n, case.k)
            calls["triton"] = triton_matmul.launcher(a, b, c, configuration)
        differences = {}
        for name, call in calls.items():
            c.fill_(float("nan"))
            call()
            differences[name] = float((c.double() - expected).norm() / expected.norm())
        # Many rounds of what is short: medians of short runs move more.
        rounds = max(arguments.rounds, min(400, int(arguments.rounds * 1e11 / case.flops)))
        seconds = dict(zip(calls, timed(list(calls.values()), rounds)))
    return {"seconds": seconds, "differences": differences}


def copy_bandwidth():
    """Bytes a second that a copy on the device reads and writes."""
    source = torch.empty(1 << 30, dtype=torch.int8, device="cuda").zero_()
    target = torch.empty_like(source)
    (seconds,) = timed([lambda: target.copy_(source)], 20)
    return 2 * source.numel() / seconds


def smallest_launch():
    """Seconds that are measured of a kernel of one thread that does nothing: the floor of any."""
    (seconds,) = timed([lambda: torch.cuda._sleep(0)], 100)
    return seconds


def row_of(case, state, bandwidth):
    compared, tuned = state.done("compare", case.name), state.done("tune", case.name)
    seconds = compared["seconds"]
    ours = seconds["cudadent"]
    best_peer = min(value for name, value in seconds.items() if name.startswith("cublas"))
    return {
        "problem": case.name,
        "microseconds": {name: value * 1e6 for name, value in seconds.items()},
        "tflops": case.flops / ours * 1e-12,
        "of_copy_bandwidth": case.bytes / ours / bandwidth,
        "over_cublas": seconds["cublas"] / ours,
        "over_best_cublas": best_peer / ours,
        "over_triton": seconds["triton"] / ours if "triton" in seconds else None,
        "differences": compared["differences"],
        "tuning_seconds": tuned["seconds"],
        "template": tuned["template"],
        "configuration": tuned["configuration"],
    }


def print_group(group, rows):
    print(
        f"\n{group:28}{'µs':>9}{'TFLOP/s':>9}{'of copy':>9}"
        f"{'cuBLAS':>9}{'ratio':>7}{'Lt':>7}{'Triton':>8}  winner"
    )
    for row in rows:
        times = row["microseconds"]
        lt = f"{times['cublaslt'] / times['cudadent']:.2f}" if "cublaslt" in times else "–"
        triton = f"{row['over_triton']:.2f}" if row["over_triton"] else "–"
        print(
            f"{row['problem']:28}{times['cudadent']:9.1f}{row['tflops']:9.1f}"
            f"{row['of_copy_bandwidth']:9.0%}{times['cublas']:9.1f}{row['over_cublas']:7.2f}{lt:>7}{triton:>8}  {row['template']}",
            flush=True,
        )
    mean = geometric_mean([row["over_cublas"] for row in rows])
    print(f"geometric mean over cuBLAS {mean:.3f}, worst {min(row['over_cublas'] for row in rows):.3f}")


def draw(rows_of_groups, file):
    """Bars of how many times as fast as cuBLAS, a group a panel."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [len(rows) for rows in rows_of_groups.values()]
    figure, axes = pyplot.subplots(
        len(heights),
        1,
        figsize=(9, 1.2 * len(heights) + 0.26 * sum(heights)),
        gridspec_kw={"height_ratios": heights},
        squeeze=False,
        layout="constrained",
    )
    for (group, rows), panel in zip(rows_of_groups.items(), axes[:, 0]):
        names = [row["problem"] for row in rows][::-1]
        ratios = [row["over_cublas"] for row in rows][::-1]
        colours = ["#2a7" if ratio >= 1 else "#c55" for ratio in ratios]
        bars = panel.barh(names, ratios, color=colours)
        panel.bar_label(bars, fmt="%.2f", padding=3)
        panel.axvline(1, color="black", linewidth=0.8)
        panel.set_xlim(0, max(2, 1.15 * max(ratios)))
        panel.set_title(f"{group}: times as fast as cuBLAS", loc="left")
    figure.savefig(file)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="keeps winners and what is done")
    parser.add_argument("--group", action="append", choices=GROUPS, help="may be repeated")
    parser.add_argument("--only", default="", help="problems whose names match this pattern")
    parser.add_argument("--budget", default="15s", help="of each tuning run")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--triton", action="store_true", help="tune and time Triton too: minutes")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    parser.add_argument("--chart", type=Path, help="draw ratios here: SVG, PNG (needs matplotlib)")
    parser.add_argument("--limit", type=float, default=math.inf, help="begin nothing after seconds")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    state = State(arguments.work)
    only = re.compile(arguments.only)
    groups = {
        name: [case for case in GROUPS[name] if only.search(case.name)]
        for name in arguments.group or GROUPS
    }
    start = time.monotonic()
    bandwidth, smallest = copy_bandwidth(), smallest_launch()
    print(f"device copy {bandwidth / 1e12:.2f} TB/s, the smallest launch {smallest * 1e6:.2f} µs")
    rows_of_groups = {}
    for group, cases in groups.items():
        for case in cases:
            if time.monotonic() - start > arguments.limit:
                print(f"{case.name}: left for another call", flush=True)
                continue
            database = state.database("gemm", case.name)
            try:
                if not state.done("tune", case.name):
                    state.put("tune", case.name, tune(case, arguments, database))
                if not state.done("compare", case.name):
                    state.put("compare", case.name, compare(case, arguments, database))
            except (cudadent.Error, RuntimeError) as error:
                print(f"{case.name}: {str(error).splitlines()[0]}", flush=True)
        compared = [case for case in cases if state.done("compare", case.name)]
        rows = [row_of(case, state, bandwidth) for case in compared]
        if rows:
            rows_of_groups[group] = rows
            print_group(group, rows)
    if arguments.output:
        results = {
            "provenance": provenance(),
            "copy_bandwidth": bandwidth,
            "smallest_launch": smallest,
            "groups": rows_of_groups,
        }
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.chart and rows_of_groups:
        draw(rows_of_groups, arguments.chart)


if __name__ == "__main__":
    main()
