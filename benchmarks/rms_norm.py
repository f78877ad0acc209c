"""rms_norm beside PyTorch's on one GPU: tuned, then timed in turns in one process.

    python benchmarks/rms_norm.py [--budget 20s] [--json FILE] [--rounds N]

Random inputs; both contenders of a problem take turns, round after round, each run behind a flush of
the L2 cache; medians are compared.
"""

import argparse
import json

import torch

import cudadent
from common import provenance, timed

SHAPES = [(4096, 4096), (16384, 8192), (32768, 4096)]


def problem_of(rows, columns):
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
    for shape in SHAPES:
        result = run(problem_of(*shape), arguments.rounds)
        results.append(result)
        print(
            f"{result['problem']:32}{result['cudadent']:10.2f}{result['torch']:10.2f}"
            f"  {result['unit']:8}{result['ratio']:7.2f}  {result['template']}",
            flush=True,
        )
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump({"provenance": provenance(), "results": results}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
