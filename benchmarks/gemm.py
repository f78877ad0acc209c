"""Matrix products beside cuBLAS (and Triton), timed in turns in one process.

    python benchmarks/gemm.py --work FOLDER [--group table] … [--output FILE] [--chart FILE.svg]

Tunes each problem once, from an empty cache: winners that ship with cudadent are left out, unless CUDADENT_SHIPPED
names some. (FOLDER keeps winners and progress, so an interrupted run resumes.) Then
times, in turns, on random inputs, the L2 cache flushed before each run:

    cudadent   the winner
    cublas     torch.mm as it comes; torch._scaled_mm for 8-bit floats
    cublaslt   torch.mm with cuBLASLt preferred: its own heuristic's choice
    triton     with --triton: the best that Triton's autotuner finds for a tutorial-like kernel

The copy bandwidth that weights are compared with is measured in the same run: reading and writing
1 GiB on the device. Groups of problems: table (bf16, what people run), decode (few rows), unaligned
(rows that start anywhere), layouts (the other transpositions, a batch), types (f16, tf32, 8-bit).
"""

from dataclasses import dataclass

import torch

import cudadent
from common import (
    geometric_mean,
    measured_rows,
    options_parser,
    timed,
    tuned,
    write_results,
)

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
    return tuned("gemm", values, arguments.budget, database)


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


def row_of(case, winner, compared, bandwidth):
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
        "tuning_seconds": winner["seconds"],
        "template": winner["template"],
        "configuration": winner["configuration"],
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


def main():
    parser = options_parser(__doc__, GROUPS)
    parser.add_argument("--triton", action="store_true", help="tune and time Triton too: minutes")
    arguments = parser.parse_args()
    floors, rows_of_groups = measured_rows(
        arguments, GROUPS, "gemm", tune, compare, row_of, print_group
    )
    ratios = {
        group: {"cuBLAS": {row["problem"]: row["over_cublas"] for row in rows}}
        for group, rows in rows_of_groups.items()
    }
    write_results(arguments, {}, {**floors, "groups": rows_of_groups}, ratios)


if __name__ == "__main__":
    main()
