"""Operators beside PyTorch's on one GPU: tuned, then timed in turns in one process.

    python benchmarks/operators.py [--budget 20s] [--json FILE] [--rounds N]

Random inputs; the L2 cache is flushed before each timed run by writing twice its size, which also
keeps the device busy while the host launches, so that events around the run measure the kernel
alone. Both contenders of a problem take turns, round after round; medians are compared.
"""

import argparse
import datetime
import json
import platform
import statistics
import sys

import torch

import cudadent

GEMM_SHAPES = [
    (4096, 4096, 4096),
    (8192, 8192, 8192),
    (2048, 6144, 4096),
    (2048, 2048, 2048),
    (1024, 1024, 1024),
    (64, 4096, 4096),
    (1, 4096, 4096),
    (333, 777, 1000),
]
RMS_NORM_SHAPES = [(4096, 4096), (16384, 8192), (32768, 4096)]


def timed(contenders, rounds):
    """Median seconds of each callable, in turns, each behind an L2 flush."""
    flush_bytes = 2 * torch.cuda.get_device_properties(0).L2_cache_size
    flush = torch.empty(flush_bytes, dtype=torch.int8, device="cuda")
    for call in contenders:
        for _ in range(3):
            call()
    samples = [[] for _ in contenders]
    events = []
    for _ in range(rounds):
        for index, call in enumerate(contenders):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flush.zero_()
            start.record()
            call()
            end.record()
            events.append((index, start, end))
    torch.cuda.synchronize()
    for index, start, end in events:
        samples[index].append(start.elapsed_time(end) * 1e-3)
    return [statistics.median(times) for times in samples]


def gemm_problem(m, n, k):
    a = torch.randn(m, k, device="cuda", dtype=torch.bfloat16)
    b = torch.randn(n, k, device="cuda", dtype=torch.bfloat16)
    c, expected = (torch.empty(m, n, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return {
        "name": f"gemm {m}x{n}x{k} bf16",
        "amount": 2 * m * n * k / 1e12,
        "unit": "TFLOP/s",
        "explain": lambda: cudadent.gemm.prepare(a, b, out=c),
        "ours": lambda: cudadent.gemm(a, b, out=c),
        "peer": lambda: torch.mm(a, b.T, out=expected),
        "outputs": (c, expected),
    }


def rms_norm_problem(rows, columns):
    x = torch.randn(rows, columns, device="cuda", dtype=torch.bfloat16)
    weight = torch.randn(columns, device="cuda", dtype=torch.bfloat16)
    y = torch.empty_like(x)
    return {
        "name": f"rms_norm {rows}x{columns} bf16",
        "amount": 2 * x.numel() * 2 / 1e12,
        "unit": "TB/s",
        "explain": lambda: cudadent.rms_norm.prepare(x, weight, out=y),
        "ours": lambda: cudadent.rms_norm(x, weight, out=y),
        "peer": lambda: torch.nn.functional.rms_norm(x, (columns,), weight, 1e-6),
        "outputs": (y, torch.nn.functional.rms_norm(x, (columns,), weight, 1e-6)),
    }


def run(problem, rounds):
    explanation = problem["explain"]()  # tunes
    ours, peer = timed([problem["ours"], problem["peer"]], rounds)
    actual, expected = (tensor.double() for tensor in problem["outputs"])
    return {
        "problem": problem["name"],
        "unit": problem["unit"],
        "cudadent": problem["amount"] / ours,
        "torch": problem["amount"] / peer,
        "ratio": peer / ours,
        "microseconds": {"cudadent": ours * 1e6, "torch": peer * 1e6},
        "difference": float((actual - expected).norm() / expected.norm()),
        "template": explanation.winner.template,
        "configuration": explanation.winner.configuration,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="20s", help="of each tuning run")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--json", help="write the results here")
    arguments = parser.parse_args()
    cudadent.set_default_options(budget=arguments.budget)

    results = []
    print(f"{'problem':32}{'cudadent':>10}{'torch':>10}  {'unit':8}{'ratio':>7}  winner")
    for make, shapes in ((gemm_problem, GEMM_SHAPES), (rms_norm_problem, RMS_NORM_SHAPES)):
        for shape in shapes:
            result = run(make(*shape), arguments.rounds)
            results.append(result)
            print(
                f"{result['problem']:32}{result['cudadent']:10.2f}{result['torch']:10.2f}"
                f"  {result['unit']:8}{result['ratio']:7.2f}  {result['template']}",
                flush=True,
            )
    if arguments.json:
        provenance = {
            "gpu": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cuda": torch.version.cuda,
            "cudadent": cudadent.__version__,
            "python": platform.python_version(),
            "date": datetime.date.today().isoformat(),
            "command": "python " + " ".join(sys.argv),
        }
        with open(arguments.json, "w") as file:
            json.dump({"provenance": provenance, "results": results}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
