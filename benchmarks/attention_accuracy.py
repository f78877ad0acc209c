"""How exact attention is, beside PyTorch's flash backend on the same inputs.

    python benchmarks/attention_accuracy.py [--only REGEX] [--budget 5s] [--output FILE]

Compares all of the output with float64, over head dims, lengths beside tiles and primes, grouped
heads, masks, and inputs that are hard on a softmax. For each problem: the root of the mean square
of the differences and the largest one, both over the root of the mean square of what is right; and
whether three runs give the same bits. "lse" is the largest error of the logarithms of the sums,
relative where they are above 1. Says where cudadent is worse than flash by more than chance (WORSE
below), beyond what verification tolerates, or not the same twice.

Without --budget nothing is tuned: each problem runs its default configuration. --cache FILE keeps
winners, or takes those of another run. Windows, softcap and causal problems with fewer queries than
keys have no peer in PyTorch's flash backend.
"""

import argparse
import json
import math
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

import cudadent
from attention import BACKENDS, Case, exact, inputs, torch_peer, without_refusals
from common import first_line, provenance

# How many times flash's error; the largest of many errors varies more than their mean.
WORSE = {"rms": 1.05, "max": 1.5}
TOLERANCE = {"bf16": 1e-2, "f16": 2e-3, "lse": 1e-4}  # of the rms error; the manifest's
RUNS = 3


@dataclass(frozen=True)
class Problem:
    case: Case
    values: str = "normal"

    @property
    def name(self):
        return self.case.name + ("" if self.values == "normal" else f"-{self.values}")


def same(length, **options):
    """As many keys as queries."""
    return Case(128, 2, length, length, 4, 4, **options)


PROBLEMS = [
    *(
        Problem(same(length, causal=causal))
        for length in (1, 7, 127, 128, 129, 251, 1021, 4099)
        for causal in (False, True)
    ),
    *(
        Problem(Case(head_dim, 2, 331, 331, 4, 4, causal=causal))
        for head_dim in (8, 40, 64, 72, 96, 192, 256)
        for causal in (False, True)
    ),
    *(
        Problem(Case(128, 2, 509, 509, heads, kv_heads, causal=True))
        for heads, kv_heads in ((8, 1), (12, 4), (32, 8))
    ),
    Problem(Case(128, 1, 1, 4099, 32, 8)),
    Problem(Case(128, 3, 1, 8192, 32, 8)),
    Problem(Case(128, 2, 7, 1021, 8, 2)),
    Problem(Case(64, 2, 129, 1021, 4, 4)),
    Problem(Case(64, 2, 1021, 129, 4, 4)),
    Problem(Case(128, 2, 7, 1021, 8, 2, causal=True)),
    Problem(Case(64, 2, 129, 1021, 4, 4, causal=True)),
    Problem(Case(64, 2, 300, 129, 4, 4, causal=True)),  # the first queries see nothing
    Problem(same(1021, causal=True, window=100)),
    Problem(same(1021, window=1)),
    Problem(same(509, softcap=20.0)),
    Problem(same(1021, causal=True, dtype="f16")),
    Problem(Case(256, 2, 509, 509, 2, 2, dtype="f16")),
    *(
        Problem(same(1021, causal=causal, dtype=dtype), values)
        for values in ("sharp", "one-hot", "shifted", "flat", "large-v", "rising")
        for causal, dtype in ((False, "bf16"), (True, "f16"))
    ),
]


def hardened(values, q, k, v):
    """Inputs of a kind, made of normal ones."""
    if values == "sharp":  # scores of about 30
        q = q * 30
    elif values == "one-hot":  # of about 1000: one key has all of the weight
        q = q * 1000
    elif values == "shifted":  # a large part of the scores that all keys have in common
        q, k = q + 2, k + 20
    elif values == "flat":  # all weights nearly the same: many small probabilities are added
        q = q / 1000
    elif values == "large-v":  # large values that cancel each other
        v = v * 1000
    elif values == "rising":  # each block has a larger maximum than those before it
        rise = torch.arange(k.shape[1], device=k.device) / k.shape[1]
        q, k = q.abs(), k + 8 * rise.to(k.dtype)[None, :, None, None]
    return q, k, v


def exact_heads(case, q, k, v):
    """All in float64: out is batch × queries × heads × head_dim, lse batch × heads × queries."""
    out = torch.empty(*q.shape, device=q.device, dtype=torch.float64)
    lse = torch.empty(case.batch, case.heads, case.queries, device=q.device, dtype=torch.float64)
    for batch in range(case.batch):
        for head in range(case.heads):
            out[batch, :, head], lse[batch, head] = exact(case, q, k, v, batch, head)
    return out, lse


def errors(actual, expected):
    difference = actual.double() - expected
    size = math.sqrt(float(expected.square().mean()))
    return {
        "rms": math.sqrt(float(difference.square().mean())) / size,
        "max": float(difference.abs().max()) / size,
    }


def lse_error(actual, expected):
    """The largest difference over the larger of 1 and what is right; equal infinities are right."""
    wrong = (actual.double() - expected).abs() / expected.abs().clamp(min=1)
    return float(wrong.masked_fill(actual.double() == expected, 0).max())


def same_bits(tensors):
    first, *others = (tensor.contiguous().view(torch.int16) for tensor in tensors)
    return all(torch.equal(first, other) for other in others)


def examine(problem, runtime):
    case = problem.case
    q, k, v = (tensor.contiguous() for tensor in hardened(problem.values, *inputs(case)))
    expected, expected_lse = exact_heads(case, q, k, v)
    attention = runtime.op("attention")
    lse = torch.full(expected_lse.shape, math.nan, device="cuda", dtype=torch.float32)

    def ours():
        out = torch.full_like(q, math.nan)
        attention(q, k, v, out=out, lse=lse, **case.options)
        return out

    calls = {"cudadent": ours}
    plain = case.window is None and case.softcap is None
    if plain and (not case.causal or case.queries == case.keys):
        working, _ = without_refusals({"flash": torch_peer(BACKENDS["flash"], case, q, k, v)})
        calls.update(working)
    row = {"problem": problem.name, "dtype": case.dtype, "errors": {}, "same_bits": {}}
    for name, call in calls.items():
        outs = [call() for _ in range(RUNS)]
        row["errors"][name] = errors(outs[0], expected)
        row["same_bits"][name] = same_bits(outs)
    row["lse_error"] = lse_error(lse, expected_lse)
    winner = attention.prepare(q, k, v, out=torch.empty_like(q), lse=lse, **case.options).winner
    return {**row, "template": winner.template, "configuration": winner.configuration}


def complaints(row):
    """What is worse than it should be, in words."""
    ours, flash = row["errors"]["cudadent"], row["errors"].get("flash")
    found = [] if row["same_bits"]["cudadent"] else ["not the same bits from run to run"]
    for what, error, limit in (
        ("rms", ours["rms"], TOLERANCE[row["dtype"]]),
        ("lse", row["lse_error"], TOLERANCE["lse"]),
    ):
        if not error <= limit:  # NaN is not
            found.append(f"{what} error {error:.1e}")
    for what, limit in WORSE.items() if flash else ():
        if ours[what] > limit * flash[what]:
            times = ours[what] / flash[what] if flash[what] else math.inf
            found.append(f"{what} error {times:.2f} times flash's")
    return found


def print_row(row):
    ours, flash = row["errors"]["cudadent"], row["errors"].get("flash")
    theirs = f"{flash['rms']:10.2e}{flash['max']:10.2e}" if flash else f"{'–':>10}{'–':>10}"
    marks = "; ".join(complaints(row))
    print(
        f"{row['problem']:36}{ours['rms']:10.2e}{ours['max']:10.2e}{theirs}{row['lse_error']:10.1e}"
        f"  {row['template']}{'  ' + marks if marks else ''}",
        flush=True,
    )


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="problems whose names match this pattern")
    parser.add_argument("--budget", help="tune each problem for so long; not tuned when left out")
    parser.add_argument("--cache", type=Path, help="a database of winners, made when missing")
    parser.add_argument("--output", type=Path, help="write the results here, as JSON")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.manual_seed(0)
    rows, failed = [], {}
    print(f"{'problem':36}{'rms':>10}{'max':>10}{'flash rms':>10}{'max':>10}{'lse':>10}  template")
    with tempfile.TemporaryDirectory() as folder:
        cache = arguments.cache or Path(folder) / "accuracy.db"
        options = {"on_miss": "nearest"}
        if arguments.budget:
            options = {"on_miss": "tune", "budget": arguments.budget}
        with cudadent.Runtime("cuda", cache=cache, **options) as runtime:
            for problem in PROBLEMS:
                if not re.search(arguments.only, problem.name):
                    continue
                try:
                    rows.append(examine(problem, runtime))
                    print_row(rows[-1])
                except (cudadent.Error, RuntimeError) as error:
                    failed[problem.name] = first_line(error)
                    print(f"{problem.name}: {failed[problem.name]}", flush=True)
    worse = {row["problem"]: complaints(row) for row in rows if complaints(row)}
    beside = sum("flash" in row["errors"] for row in rows)
    print(
        f"\n{len(rows)} problems, {beside} of them beside flash; "
        f"{len(worse)} worse than they should be, {len(failed)} failed"
    )
    for name, found in worse.items():
        print(f"  {name}: {'; '.join(found)}")
    if arguments.output:
        results = {"provenance": provenance(), "rows": rows, "worse": worse, "failed": failed}
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
