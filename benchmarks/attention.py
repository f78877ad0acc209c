"""Attention beside PyTorch's flash and cuDNN backends, and FlashAttention-3 and -4 where installed.

    python benchmarks/attention.py --work FOLDER [--group forward] … [--output FILE] [--chart FILE]

Tunes each problem once, from an empty cache: winners that ship with cudadent are left out, unless
CUDADENT_SHIPPED names some. (FOLDER keeps winners and progress, so an interrupted run resumes.)
Then times, in turns, on random inputs, the L2 cache flushed before each run:

    cudadent   the winner
    flash      torch's scaled_dot_product_attention, flash backend (FlashAttention-2)
    cudnn      the same, cuDNN backend
    fa3, fa4   flash_attn_interface and flash_attn.cute, where they can be imported
    flex       with --flex: torch's compiled flex_attention, for windows and softcap only
    parts      of pages: cudadent's winner for the same keys in a tensor of batch × 8192

A peer that refuses a problem is left out of it; the results say why. --without NAME leaves one out
of all. Tensors lie as batch × sequence × heads × head_dim, of which PyTorch gets transposed
views. Groups of problems: forward (bf16, 16384 tokens in all), decode (one query, 32 heads on 8),
other (options, sizes and types beside these), lengths and pages.

lengths: causal sequences of different lengths, one behind the other, 16384 queries in all: all
equal, mixed (their logarithms spread evenly), one long with many short; and serving, parts of
prompts that have keys before them together with single tokens, 8256 queries. "longest" problems say
in max_queries and max_keys how long the longest sequence is. flash is torch's kernel for such
sequences (aten's _flash_attention_forward with cum_seq, which torch.nn.attention.varlen calls).
cuDNN is no peer here: torch 2.11 seems to plan anew at each call with cum_seq, tens of milliseconds,
and did not come back from single queries in ten minutes. Tuning runs draw lengths of their own, queries
and keys apart, that add up to the same: between nothing and twice the mean.

pages: one query a sequence, 32 heads on 8, up to 8192 keys in pages in no order, all sequences that
long or mixed. Both have one winner: tuning runs draw lengths evenly between nothing and 8192. torch
2.11 has no kernel for pages: flash reads the same keys one behind the other, so what it does is
less; paged is varlen_attn with a block table, in later versions.

TFLOP/s count two products for each pair of a query and a key that it sees, so causal problems count
about half; bytes are those of queries, keys and outputs that there are. Errors are relative to
float64 (root of the squares' sums), on the first and last head of the first and last sequence, the
longest and the shortest. Memory is what a call takes beside inputs and output.
"""

import importlib
import itertools
import math
import random
import warnings

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

import cudadent
from attention_problems import (
    Case,
    Sequences,
    as_indices,
    exact,
    inputs_of,
    placed,
    sequences_of,
    starts_of,
    visible,
)
from common import (
    first_line,
    geometric_mean,
    measured_rows,
    options_parser,
    timed,
    tuned,
    version_of,
    workspace_bytes,
    write_results,
)

TOKENS = 16384
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
FLASH_ATTENTION = {"fa3": "flash_attn_interface", "fa4": "flash_attn.cute"}


def forward(head_dim, heads, length, **options):
    return Case(head_dim, TOKENS // length, length, length, heads, heads, **options)


def decode(batch, keys):
    return Case(128, batch, 1, keys, 32, 8)


def mixed(least, most, count, total=None):
    """So many lengths, their logarithms spread evenly, in an order that is the same each time.

    With a total the first is longer or shorter by what is missing.
    """
    ratio = most / least
    lengths = [round(least * ratio ** ((index + 0.5) / count)) for index in range(count)]
    random.Random(7).shuffle(lengths)
    if total:
        lengths[0] += total - sum(lengths)
    return tuple(lengths)


def prompts(label, lengths, heads, kv_heads, **options):
    """As many keys as queries."""
    return Sequences(label, 128, lengths, lengths, heads, kv_heads, causal=True, **options)


def serving(**options):
    tokens = mixed(256, 8192, 64)
    queries, keys = (2048,) * 4 + (1,) * 64, (2048, 4096, 4096, 8192, *tokens)
    return Sequences("serving", 128, queries, keys, 32, 8, causal=True, **options)


def paged(batch, page_size, label, keys):
    label = f"b{batch}-{label}8192"
    return Sequences(label, 128, (1,) * batch, keys, 32, 8, page_size=page_size, room=8192)


LENGTHS = {
    "equal1024": (1024,) * 16,
    "mixed64to4096": mixed(64, 4096, 17, TOKENS),
    "long8192short128": (8192,) + (128,) * 64,
}
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
    "lengths": [
        *(
            prompts(label, lengths, heads, kv_heads)
            for heads, kv_heads in ((16, 16), (32, 8))
            for label, lengths in LENGTHS.items()
        ),
        prompts("long8192short128", LENGTHS["long8192short128"], 16, 16, says_longest=True),
        serving(),
        serving(says_longest=True),
    ],
    "pages": [
        paged(batch, page_size, label, keys)
        for batch in (16, 64)
        for page_size in (16, 64, 256)
        for label, keys in (
            ("equal", (8192,) * batch),
            ("mixed256to", mixed(256, 8192, batch)),
        )
    ],
}


def samples(case):
    """(sequence, head) of those that are looked at."""
    sizes = [(queries * keys, index) for index, (queries, keys) in enumerate(case.lengths)]
    sequences = {0, len(sizes) - 1, max(sizes)[1], min(sizes)[1]}
    return sorted(itertools.product(sequences, {0, case.heads - 1}))


def exact_samples(case, inputs):
    """Of the sampled heads, where they are and what is right."""
    return [
        (place, exact(case, *inputs.sequences[place[0]], place[1])[0]) for place in samples(case)
    ]


def relative_error(case, out, expected):
    """Of the sampled heads together: norm of the difference over the norm of what is right."""
    parts = sequences_of(case, out)
    wrong = sum(
        float((parts[sequence][:, head].double() - right).square().sum())
        for (sequence, head), right in expected
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


def first_stands_at_first(case):
    """Whether that is no other mask: torch's causal ones are such, but for flash with lengths."""
    return not case.causal or all(queries == keys for queries, keys in case.lengths)


def peers_of_one_length(case, inputs, flex):
    q, k, v = inputs.drawn
    found = {}
    if case.plain and first_stands_at_first(case):
        for name, backend in BACKENDS.items():
            found[name] = torch_peer(backend, case, q, k, v)
    for name, module in FLASH_ATTENTION.items():
        try:
            function = importlib.import_module(module).flash_attn_func
        except (ImportError, AttributeError):
            continue
        found[name] = flash_attention_peer(function, case, q, k, v)
    if flex and not case.plain:
        found["flex"] = flex_peer(case, q, k, v)
    return found


def peers_of_sequences(case, inputs):
    """torch's kernels for sequences one behind the other; in the place of pages, the same keys so."""
    where = [as_indices(starts_of(lengths)) for lengths in (case.queries, case.keys)]
    most = max(case.queries), max(case.keys)
    reach = -1 if case.window is None else case.window - 1

    def as_out(out):
        return out if case.packed_queries else out.view(len(case.queries), -1, *out.shape[1:])

    def flash():
        options = {"window_size_left": reach, "window_size_right": 0 if case.causal else reach}
        function = torch.ops.aten._flash_attention_forward
        return as_out(function(*inputs.drawn, *where, *most, 0.0, case.causal, False, **options)[0])

    def paged():
        from torch.nn.attention.varlen import varlen_attn

        given = inputs.tensors
        return as_out(
            varlen_attn(
                *(inputs.drawn[0], given["k"], given["v"]),
                *where,
                *most,
                window_size=(reach, 0 if case.causal else reach),
                enable_gqa=case.heads != case.kv_heads,
                seqused_k=given["kv_lengths"],
                block_table=given["block_table"],
            )
        )

    found = {}
    # A reach of −1 is unlimited.
    if case.softcap is None and case.window != 0:
        found["flash"] = flash
        if case.page_size:
            found["paged"] = paged
    return found


def peers(case, inputs, flex=False):
    """Calls that may refuse, by name; each returns what `sequences_of` takes apart."""
    if isinstance(case, Case):
        return peers_of_one_length(case, inputs, flex)
    return peers_of_sequences(case, inputs)


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


def reads_pages(case):
    return isinstance(case, Sequences) and case.page_size is not None


def tune(case, arguments, database):
    winner = tuned("attention", case.values, arguments.budget, database)
    if reads_pages(case):
        parts = tuned("attention", case.in_parts.values, arguments.budget, database)
        winner["parts"] = parts
    return winner


def launcher(runtime, case, inputs):
    """A call of cudadent's winner, and what that takes of memory beside inputs and output."""
    attention = runtime.op("attention")
    out = torch.full_like(inputs.tensors["q"], math.nan)
    given = {**inputs.tensors, "out": out, **case.options}
    winner = attention.prepare(**given).winner
    workspace = workspace_bytes("attention", winner.template, winner.configuration, case.values)
    return lambda: attention(**given), workspace


def compare(case, arguments, database):
    inputs = inputs_of(case)
    with cudadent.Runtime("cuda", cache=database, on_miss="fail") as runtime:
        ours, memory = {}, {}
        ours["cudadent"], memory["cudadent"] = launcher(runtime, case, inputs)
        if reads_pages(case):
            parts = placed(case.in_parts, *inputs.drawn)
            ours["parts"], memory["parts"] = launcher(runtime, case.in_parts, parts)
        others = peers(case, inputs, arguments.flex)
        for name in arguments.without:
            others.pop(name, None)
        working, refused = without_refusals(others)
        calls = {**ours, **working}
        expected = exact_samples(case, inputs)
        errors = {name: relative_error(case, call(), expected) for name, call in calls.items()}
        memory.update({name: torch_memory(call) for name, call in working.items()})
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
    decoding = group in ("decode", "pages")
    width = max(34, *(len(row["problem"]) + 1 for row in rows))
    rate = "of_copy_bandwidth" if decoding else "tflops"
    titles = "".join(f"{name:>9}{'ratio':>7}" for name in names)
    print(
        f"\n{group:{width}}{'µs':>9}{'of copy' if decoding else 'TFLOP/s':>9}{titles}"
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
        theirs = [error for name, error in errors.items() if name not in ("cudadent", "parts")]
        least = f"{min(theirs):9.1e}" if theirs else f"{'–':>9}"
        configuration = " ".join(f"{key}={value}" for key, value in row["configuration"].items())
        print(
            f"{row['problem']:{width}}{row['microseconds']['cudadent']:9.1f}{shown(row[rate]['cudadent'])}"
            f"{''.join(cells)}{errors['cudadent']:9.1e}{least}"
            f"{row['memory_bytes']['cudadent'] / 1024:8.0f}"
            f"{row['tuning_seconds']:8.1f}{row['tried']:6}"
            f"  {row['template']} {configuration}",
            flush=True,
        )
    for name in names:
        ratios = [row["times_as_fast"][name] for row in rows if name in row["times_as_fast"]]
        print(f"over {name}: geometric mean {geometric_mean(ratios):.3f}, minimum {min(ratios):.3f}")


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


def ratios_of(rows_of_groups):
    ratios = {}
    for group, rows in rows_of_groups.items():
        for row in rows:
            for peer, ratio in row["times_as_fast"].items():
                ratios.setdefault(group, {}).setdefault(peer, {})[row["problem"]] = ratio
    return ratios


def main():
    parser = options_parser(__doc__, GROUPS)
    parser.add_argument("--flex", action="store_true", help="time flex_attention too, see above")
    parser.add_argument("--without", action="append", default=[], help="a peer to leave out")
    arguments = parser.parse_args()
    floors, rows_of_groups = measured_rows(
        arguments, GROUPS, "attention", tune, compare, row_of, print_group
    )
    summary = means(rows_of_groups)
    for question, found in summary.items():
        print(
            f"{question}: geometric mean {found['mean']:.3f}, minimum {found['least']:.3f} "
            f"({found['problems']} of {found['of']} problems)"
        )
    versions = {name: version_of(module) for name, module in FLASH_ATTENTION.items()}
    write_results(
        arguments,
        {**versions, "cudnn": torch.backends.cudnn.version()},
        {**floors, "means": summary, "groups": rows_of_groups},
        ratios_of(rows_of_groups),
    )


if __name__ == "__main__":
    main()
