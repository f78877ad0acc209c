"""How exact attention is, beside PyTorch's flash backend on the same inputs.

    python benchmarks/attention_accuracy.py [--only REGEX] [--budget 5s] [--output FILE]

Compares all of the output with float64, over head dims, lengths beside tiles and primes, grouped
heads, masks, inputs that are hard on a softmax, and sequences of different lengths: one behind the
other, in pages in no order, and in parts of a cache that is not full. Rows and pages of no sequence
are NaN, entries of no page -1, so that it shows where they are counted. For each problem: the root
of the mean square of the differences and the largest one, both over the root of the mean square of
what is right; and whether three runs give the same bits. "lse" is the largest error of the
logarithms of the sums, relative where they are above 1. Says where cudadent is worse than flash by
more than chance (WORSE below), beyond what verification tolerates, not the same twice, or writes
rows of no sequence.

Without --budget nothing is tuned: each problem runs its default configuration. --cache FILE keeps
winners, or takes those of another run. Softcap, and among sequences of one length windows and
causal problems with fewer queries than keys, have no peer in PyTorch's flash backend. It gets the
keys of pages and parts one behind the other.
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
from attention import peers, without_refusals
from attention_problems import Attention, Case, Sequences, drawn, exact, placed, sequences_of
from common import first_line, provenance

# How many times flash's error; the largest of many errors varies more than their mean.
WORSE = {"rms": 1.05, "max": 1.5}
TOLERANCE = {"bf16": 1e-2, "f16": 2e-3, "lse": 1e-4}  # of the rms error; the manifest's
RUNS = 3


@dataclass(frozen=True)
class Problem:
    case: Attention
    values: str = "normal"

    @property
    def name(self):
        return self.case.name + ("" if self.values == "normal" else f"-{self.values}")


def same(length, **options):
    """As many keys as queries."""
    return Case(128, 2, length, length, 4, 4, **options)


# Beside tiles, primes, nothing, one; and beside pages of 8, 16, 64 and 256.
LENGTHS = (0, 1, 7, 127, 128, 129, 251, 0, 64, 1021)
AROUND = {8: (7, 8, 9, 24), 16: (15, 16, 17, 48), 64: (63, 64, 65, 192), 256: (255, 256, 257, 768)}


def behind(label, queries, keys=LENGTHS, heads=4, kv_heads=4, head_dim=128, **options):
    """One behind the other, with rows of nobody at the end."""
    return Sequences(label, head_dim, queries, keys, heads, kv_heads, spare=5, **options)


def in_pages(page_size, queries, heads=32, kv_heads=8, head_dim=128, label="", **options):
    """The same number of queries of each, or numbers that begin again when they are used up."""
    keys = (0, 1, *AROUND[page_size], 509, 1021)
    label = label or f"s{queries}"
    queries = (queries,) if isinstance(queries, int) else queries
    queries = tuple(queries[i % len(queries)] for i in range(len(keys)))
    places = {"room": 1100, "spare": 3, "page_size": page_size}
    return Sequences(label, head_dim, queries, keys, heads, kv_heads, **places, **options)


SEQUENCES = [
    *(behind("lengths", LENGTHS, causal=causal) for causal in (False, True)),
    *(behind("crossed", LENGTHS[::-1], causal=causal) for causal in (False, True)),
    *(behind("lengths", LENGTHS, head_dim=head_dim, causal=True) for head_dim in (64, 96, 256)),
    behind("lengths", LENGTHS, causal=True, dtype="f16"),
    behind("lengths", LENGTHS, says_longest=True),
    behind("lengths", LENGTHS, heads=12, kv_heads=4, causal=True, window=100),
    behind("crossed", LENGTHS[::-1], heads=8, kv_heads=2, window=65),
    behind("lengths", LENGTHS, causal=True, softcap=20.0),
    behind("crossed", LENGTHS[::-1], causal=True, window=37, softcap=5.0),
    behind("short", tuple(range(10)) * 8, tuple(range(10)) * 8, causal=True),
    behind("tokens", (1,) * len(LENGTHS), heads=32, kv_heads=8),
    *(in_pages(page_size, 1) for page_size in AROUND),
    *(in_pages(page_size, 5, 8, 2, causal=True) for page_size in AROUND),
    *(
        in_pages(page_size, (3, 0, 130, 1), 4, 4, label="lengths", causal=True)
        for page_size in AROUND
    ),
    in_pages(16, 1, window=100, softcap=20.0),
    in_pages(64, (3, 0, 130, 1), 8, 4, label="lengths", causal=True, window=70),
    in_pages(64, 9, 4, 1, head_dim=256, causal=True, softcap=5.0),
    in_pages(64, 1, dtype="f16"),
    in_pages(64, 1).in_parts,
    in_pages(64, 9, 4, 2, causal=True, window=70).in_parts,
    in_pages(256, (3, 0, 130, 1), 4, 4, label="lengths", causal=True).in_parts,
]
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
    *(Problem(case) for case in SEQUENCES),
]
WIDTH = max(len(problem.name) for problem in PROBLEMS) + 1


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


def exact_sequences(case, inputs):
    """All in float64, a sequence each: outs, queries × heads × head_dim; lses, heads × queries."""
    outs, lses = [], []
    for sequence in inputs.sequences:
        heads = [exact(case, *sequence, head) for head in range(case.heads)]
        outs.append(torch.stack([out for out, _ in heads], dim=1))
        lses.append(torch.stack([lse for _, lse in heads]))
    return outs, lses


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


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
    given = hardened(problem.values, *drawn(case))
    inputs = placed(case, *(tensor.contiguous() for tensor in given))
    expected, expected_lse = (flat(tensors) for tensors in exact_sequences(case, inputs))
    attention = runtime.op("attention")
    *rows, heads, _ = inputs.tensors["q"].shape  # batch and queries of each, or queries of all
    lse_shape = (*rows[:-1], heads, rows[-1])
    lse = torch.full(lse_shape, math.nan, device="cuda", dtype=torch.float32)
    call = {**inputs.tensors, "lse": lse, **case.options}

    def ours():
        out = torch.full_like(inputs.tensors["q"], math.nan)
        attention(**call, out=out)
        return out

    flash = {name: peer for name, peer in peers(case, inputs).items() if name == "flash"}
    working, _ = without_refusals(flash)
    row = {"problem": problem.name, "dtype": case.dtype, "errors": {}, "same_bits": {}}
    for name, run in {"cudadent": ours, **working}.items():
        outs = [run() for _ in range(RUNS)]
        row["errors"][name] = errors(flat(sequences_of(case, outs[0])), expected)
        row["same_bits"][name] = same_bits(outs)
        if name == "cudadent":
            row["rows_of_nobody_written"] = written_behind(case, outs[0])
    # Of sequences one behind the other lse is heads × queries of all: turned, as out is.
    lses = lse if len(rows) > 1 else [part.T for part in sequences_of(case, lse.T)]
    row["lse_error"] = lse_error(flat(lses), expected_lse)
    winner = attention.prepare(**call, out=torch.empty_like(inputs.tensors["q"])).winner
    return {**row, "template": winner.template, "configuration": winner.configuration}


def written_behind(case, out):
    """How many elements were written of rows that belong to no sequence."""
    rows = sum(len(part) for part in sequences_of(case, out))
    behind_all = out[rows:] if len(out.shape) == 3 else out[:0]
    return int((~behind_all.isnan()).sum())


def complaints(row):
    """What is worse than it should be, in words."""
    ours, flash = row["errors"]["cudadent"], row["errors"].get("flash")
    found = [] if row["same_bits"]["cudadent"] else ["not the same bits from run to run"]
    if row["rows_of_nobody_written"]:
        found.append(f"{row['rows_of_nobody_written']} elements written behind the last sequence")
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
        f"{row['problem']:{WIDTH}}{ours['rms']:10.2e}{ours['max']:10.2e}{theirs}{row['lse_error']:10.1e}"
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
    titles = "".join(f"{title:>10}" for title in ("rms", "max", "flash rms", "max", "lse"))
    print(f"{'problem':{WIDTH}}{titles}  template")
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
                except Exception as error:  # the others are worth having all the same
                    failed[problem.name] = f"{type(error).__name__}: {first_line(error)}"
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
