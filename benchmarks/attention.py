"""Attention beside PyTorch's flash and cuDNN backends, and FlashAttention-3 and -4 where installed.

    python benchmarks/attention.py --work FOLDER [--group forward] … [--output FILE] [--chart FILE]

Tunes each problem once, from nothing: winners that ship with cudadent are left out, unless
CUDADENT_SHIPPED says which. (FOLDER keeps winners and what is done, so an interrupted run goes on.)
Then times, in turns, on random inputs, the L2 cache flushed before each run:

    cudadent   the winner
    flash      torch's scaled_dot_product_attention, flash backend (FlashAttention-2)
    cudnn      the same, cuDNN backend
    fa3, fa4   flash_attn_interface and flash_attn.cute, where they can be imported
    flex       with --flex: torch's compiled flex_attention, for windows and softcap only

A contender that refuses a problem is left out of it; the results say why. Tensors lie as batch ×
sequence × heads × head_dim, of which PyTorch gets transposed views. Groups of problems: forward
(bf16, 16384 tokens in all), decode (one query, 32 heads on 8), other (options, sizes and types
beside these).

TFLOP/s count two products for each pair of a query and a key that it sees, so causal problems count
about half. Errors are relative to float64 (root of the squares' sums), on the first and last head
of the first and last batch. Memory is what a call takes beside inputs and output.
"""

import importlib
import itertools
import json
import math
import warnings
from dataclasses import dataclass
from typing import Optional

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import cudadent
from common import (
    draw_ratios,
    first_line,
    geometric_mean,
    measured_floors,
    options_parser,
    provenance,
    timed,
    tuned,
    version_of,
    work_through,
    workspace_bytes,
)

TOKENS = 16384
TORCH_TYPES = {"bf16": torch.bfloat16, "f16": torch.float16}
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
FLASH_ATTENTION = {"fa3": "flash_attn_interface", "fa4": "flash_attn.cute"}


@dataclass(frozen=True)
class Case:
    """softmax(mask(q · kᵀ / √head_dim)) · v; the last query stands at the last key."""

    head_dim: int
    batch: int
    queries: int
    keys: int
    heads: int
    kv_heads: int
    causal: bool = False
    dtype: str = "bf16"
    window: Optional[int] = None  # only keys less than so far away, on both sides unless causal
    softcap: Optional[float] = None  # scores s become softcap · tanh(s / softcap)

    @property
    def name(self):
        heads = f"h{self.heads}" + (f"x{self.kv_heads}" if self.kv_heads != self.heads else "")
        keys = f"k{self.keys}" if self.keys != self.queries else ""
        parts = [f"hd{self.head_dim}", heads, f"b{self.batch}", f"s{self.queries}{keys}"]
        parts += ["causal"] if self.causal else []
        parts += [f"window{self.window}"] if self.window is not None else []
        parts += [f"softcap{self.softcap:g}"] if self.softcap is not None else []
        parts += [self.dtype] if self.dtype != "bf16" else []
        return "-".join(parts)

    @property
    def options(self):
        """As keywords of a call and of a tuning run."""
        options = {"causal": self.causal}
        if self.window is not None:
            options.update(window=self.window)
        if self.softcap is not None:
            options.update(softcap=self.softcap)
        return options

    @property
    def values(self):
        return {
            "batch": self.batch,
            "query_length": self.queries,
            "kv_length": self.keys,
            "heads": self.heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "dtype": self.dtype,
            **self.options,
        }

    @property
    def pairs(self):
        """Queries times the keys that they see, of one head."""
        unlimited = self.keys + self.queries
        ahead = 0 if self.causal else unlimited
        reach = unlimited if self.window is None else self.window - 1
        seen = 0
        for place in range(self.keys - self.queries, self.keys):
            first = max(0, place - reach)
            last = min(self.keys - 1, place + min(ahead, reach))
            seen += max(0, last - first + 1)
        return seen

    @property
    def flops(self):
        return 4 * self.batch * self.heads * self.pairs * self.head_dim

    @property
    def bytes(self):
        """Read once and written once, at least; keys that no query sees are counted too."""
        rows = self.queries * self.heads + self.keys * self.kv_heads
        return 2 * self.batch * rows * self.head_dim * TORCH_TYPES[self.dtype].itemsize


def forward(head_dim, heads, length, **options):
    return Case(head_dim, TOKENS // length, length, length, heads, heads, **options)


def decode(batch, keys):
    return Case(128, batch, 1, keys, 32, 8)


GROUPS = {
    "forward": [
        forward(head_dim, heads, length, causal=causal)
        for head_dim, heads in ((64, 32), (128, 16), (256, 8))
        for causal in (False, True)
        for length in (512, 1024, 2048, 4096, 8192, 16384)
    ],
    "decode": [decode(1, 8192), decode(16, 8192), decode(64, 8192), decode(1, 131072)],
    "other": [
        Case(128, 2, 4096, 4096, 32, 8, causal=True),
        Case(64, 4, 128, 128, 8, 8),
        forward(128, 16, 16384, causal=True, window=1024),
        forward(128, 16, 4096, causal=True, softcap=30.0),
        forward(96, 16, 4096),
        forward(192, 8, 4096),
        forward(128, 16, 4096, dtype="f16"),
    ],
}


def inputs(case):
    """q, k and v: random, batch × sequence × heads × head_dim."""
    shapes = [(case.queries, case.heads), (case.keys, case.kv_heads), (case.keys, case.kv_heads)]
    return [
        torch.randn(case.batch, *shape, case.head_dim, device="cuda", dtype=TORCH_TYPES[case.dtype])
        for shape in shapes
    ]


def visible(case, places, keys):
    """Which of the keys the queries at these places see: a mask that broadcasts the two."""
    distance = places - keys
    mask = distance >= (0 if case.causal else -case.keys - case.queries)
    if case.window is not None:
        mask = mask & (distance.abs() < case.window)
    return mask


def exact(case, q, k, v, batch, head, chunk=1024):
    """One head of one batch in float64: queries × head_dim, and the logarithms of the sums."""
    kv_head = head // (case.heads // case.kv_heads)
    query, key, value = q[batch, :, head], k[batch, :, kv_head], v[batch, :, kv_head]
    key, value = key.double(), value.double()
    columns = torch.arange(case.keys, device=q.device)
    out, lse = [], []
    for start in range(0, case.queries, chunk):
        rows = query[start : start + chunk].double()
        scores = rows @ key.T / math.sqrt(case.head_dim)
        if case.softcap is not None:
            scores = case.softcap * torch.tanh(scores / case.softcap)
        places = torch.arange(start, start + len(rows), device=q.device) + case.keys - case.queries
        scores = scores.masked_fill(~visible(case, places[:, None], columns), -math.inf)
        # Of a query that sees nothing: zeros, and -inf.
        out.append(torch.softmax(scores, -1).nan_to_num(0) @ value)
        lse.append(torch.logsumexp(scores, -1))
    return torch.cat(out), torch.cat(lse)


def samples(case):
    """(batch, head) of those that are looked at: the first and the last of each."""
    return sorted(set(itertools.product((0, case.batch - 1), (0, case.heads - 1))))


def relative_error(case, out, expected):
    """Of the sampled heads together: norm of the difference over the norm of what is right."""
    wrong = sum(
        float((out[batch, :, head].double() - right).square().sum())
        for (batch, head), right in expected
    )
    return math.sqrt(wrong / sum(float(right.square().sum()) for _, right in expected))


def torch_peer(backend, case, q, k, v):
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    grouped = case.heads != case.kv_heads

    def call():
        with sdpa_kernel(backend):
            out = scaled_dot_product_attention(q, k, v, is_causal=case.causal, enable_gqa=grouped)
        return out.transpose(1, 2)

    return call


def flash_attention_peer(function, case, q, k, v):
    options = {"causal": case.causal, "softcap": case.softcap or 0.0}
    if case.window is not None:
        reach = case.window - 1
        options["window_size"] = (reach, 0 if case.causal else reach)
    if case.queries <= 64:
        options["num_splits"] = 0  # as many parts of the keys as its heuristic finds good

    def call():
        result = function(q, k, v, **options)
        return result[0] if isinstance(result, tuple) else result

    return call


def flex_peer(case, q, k, v):
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))
    past = case.keys - case.queries

    def sees(_batch, _head, query, key):
        return visible(case, query + past, key)

    def capped(score, _batch, _head, _query, _key):
        return score if case.softcap is None else case.softcap * torch.tanh(score / case.softcap)

    mask = create_block_mask(sees, None, None, case.queries, case.keys, device=q.device)
    compiled = torch.compile(flex_attention)
    grouped = case.heads != case.kv_heads
    return lambda: compiled(q, k, v, capped, mask, enable_gqa=grouped).transpose(1, 2)


def peers(case, q, k, v, flex=False):
    """Calls that may refuse, by name; each returns batch × queries × heads × head_dim."""
    plain = case.window is None and case.softcap is None
    # With fewer queries than keys torch's causal mask is another: the first stands at the first.
    same_mask = not case.causal or case.queries == case.keys
    found = {}
    if plain and same_mask:
        for name, backend in BACKENDS.items():
            found[name] = torch_peer(backend, case, q, k, v)
    for name, module in FLASH_ATTENTION.items():
        try:
            function = importlib.import_module(module).flash_attn_func
        except (ImportError, AttributeError):
            continue
        found[name] = flash_attention_peer(function, case, q, k, v)
    if flex and not plain:
        found["flex"] = flex_peer(case, q, k, v)
    return found


def without_refusals(calls):
    """Those of the calls that work, and of the others what they say."""
    working, refused = {}, {}
    for name, call in calls.items():
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch says why by warnings, one for each backend
                call()
                torch.cuda.synchronize()
            working[name] = call
        except Exception as error:  # of another project: it may be any
            refused[name] = first_line(error)
    return working, refused


def torch_memory(call):
    """Bytes that a call takes of torch's allocator at most, beside what it returns."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    result = call()
    torch.cuda.synchronize()
    returned = torch.cuda.memory_allocated() - before
    peak = torch.cuda.max_memory_allocated() - before
    return max(0, peak - min(returned, result.numel() * result.element_size()))


def rounds_of(case, rounds):
    """Many of what is short: medians of short runs move more."""
    estimate = case.flops / 5e14 + case.bytes / 4e12
    return max(rounds, min(400, int(rounds * 2e-4 / estimate)))


def tune(case, arguments, database):
    return tuned("attention", case.values, arguments.budget, database)


def compare(case, arguments, database):
    q, k, v = inputs(case)
    out = torch.full_like(q, math.nan)
    with cudadent.Runtime("cuda", cache=database, on_miss="fail") as runtime:
        attention = runtime.op("attention")

        def ours():
            attention(q, k, v, out=out, **case.options)
            return out

        winner = attention.prepare(q, k, v, out=out, **case.options).winner
        working, refused = without_refusals(peers(case, q, k, v, arguments.flex))
        calls = {"cudadent": ours, **working}
        expected = [(place, exact(case, q, k, v, *place)[0]) for place in samples(case)]
        errors = {name: relative_error(case, call(), expected) for name, call in calls.items()}
        memory = {name: torch_memory(call) for name, call in working.items()}
        memory["cudadent"] = workspace_bytes(
            "attention", winner.template, winner.configuration, case.values
        )
        seconds = dict(zip(calls, timed(list(calls.values()), rounds_of(case, arguments.rounds))))
    return {"seconds": seconds, "errors": errors, "memory": memory, "refused": refused}


def row_of(case, winner, compared, bandwidth):
    seconds = compared["seconds"]
    return {
        "problem": case.name,
        "microseconds": {name: value * 1e6 for name, value in seconds.items()},
        "tflops": {name: case.flops / value * 1e-12 for name, value in seconds.items()},
        "of_copy_bandwidth": {
            name: case.bytes / value / bandwidth for name, value in seconds.items()
        },
        "times_as_fast": {
            name: value / seconds["cudadent"]
            for name, value in seconds.items()
            if name != "cudadent"
        },
        "errors": compared["errors"],
        "memory_bytes": compared["memory"],
        "refused": compared["refused"],
        "tuning_seconds": winner["seconds"],
        "tried": winner["tried"],
        "candidates": winner["candidates"],
        "stopped_by": winner["stopped_by"],
        "template": winner["template"],
        "configuration": winner["configuration"],
    }


def print_group(group, rows):
    names = list(dict.fromkeys(name for row in rows for name in row["times_as_fast"]))
    decoding = group == "decode"
    rate = "of_copy_bandwidth" if decoding else "tflops"
    titles = "".join(f"{name:>9}{'ratio':>7}" for name in names)
    print(
        f"\n{group:34}{'µs':>9}{'of copy' if decoding else 'TFLOP/s':>9}{titles}"
        f"{'error':>9}{'peers':>9}{'KiB':>8}{'tuned s':>8}{'tried':>6}  winner"
    )

    def shown(value):
        return f"{value:9.1%}" if decoding else f"{value:9.1f}"

    for row in rows:
        ratios, errors = row["times_as_fast"], row["errors"]
        cells = [
            f"{shown(row[rate][name])}{ratios[name]:7.2f}"
            if name in ratios
            else f"{'–':>9}{'–':>7}"
            for name in names
        ]
        theirs = [error for name, error in errors.items() if name != "cudadent"]
        least = f"{min(theirs):9.1e}" if theirs else f"{'–':>9}"
        configuration = " ".join(f"{key}={value}" for key, value in row["configuration"].items())
        print(
            f"{row['problem']:34}{row['microseconds']['cudadent']:9.1f}{shown(row[rate]['cudadent'])}"
            f"{''.join(cells)}{errors['cudadent']:9.1e}{least}"
            f"{row['memory_bytes']['cudadent'] / 1024:8.0f}"
            f"{row['tuning_seconds']:8.1f}{row['tried']:6}"
            f"  {row['template']} {configuration}",
            flush=True,
        )
    for name in names:
        ratios = [row["times_as_fast"][name] for row in rows if name in row["times_as_fast"]]
        print(f"over {name}: geometric mean {geometric_mean(ratios):.3f}, least {min(ratios):.3f}")


def means(rows_of_groups):
    """The geometric means that are asked after, each over which problems there are of it."""
    cases = {case.name: case for case in GROUPS["forward"]}
    rows = [(cases[row["problem"]], row) for row in rows_of_groups.get("forward", ())]
    questions = {
        "all forward over cudnn": ("cudnn", lambda case: True),
        "length 2048 and more over flash": ("flash", lambda case: case.keys >= 2048),
        "head_dim 128, not causal, over flash": (
            "flash",
            lambda case: case.head_dim == 128 and not case.causal,
        ),
    }
    found = {}
    for question, (peer, concerns) in questions.items():
        meant = [row["times_as_fast"] for case, row in rows if concerns(case)]
        ratios = [ratio[peer] for ratio in meant if peer in ratio]
        if ratios:
            found[question] = {
                "mean": geometric_mean(ratios),
                "least": min(ratios),
                "problems": len(ratios),
                "of": sum(concerns(case) for case in GROUPS["forward"]),
            }
    return found


def main():
    parser = options_parser(__doc__, GROUPS)
    parser.add_argument("--flex", action="store_true", help="time flex_attention too, see above")
    arguments = parser.parse_args()
    floors = measured_floors()
    rows_of_groups = {}
    for group, done in work_through(arguments, GROUPS, "attention", tune, compare):
        rows = [row_of(*case, floors["copy_bandwidth"]) for case in done]
        rows_of_groups[group] = rows
        print_group(group, rows)
    summary = means(rows_of_groups)
    for question, found in summary.items():
        print(
            f"{question}: geometric mean {found['mean']:.3f}, least {found['least']:.3f} "
            f"({found['problems']} of {found['of']} problems)"
        )
    if arguments.output:
        versions = {name: version_of(module) for name, module in FLASH_ATTENTION.items()}
        results = {
            "provenance": {**provenance(), **versions, "cudnn": torch.backends.cudnn.version()},
            **floors,
            "means": summary,
            "groups": rows_of_groups,
        }
        arguments.output.write_text(json.dumps(results, indent=1) + "\n")
    if arguments.chart and rows_of_groups:
        ratios = {}
        for group, rows in rows_of_groups.items():
            for row in rows:
                for peer, ratio in row["times_as_fast"].items():
                    ratios.setdefault(group, {}).setdefault(peer, {})[row["problem"]] = ratio
        draw_ratios(ratios, arguments.chart)


if __name__ == "__main__":
    main()
