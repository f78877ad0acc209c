"""Attention beside PyTorch's flash and cuDNN backends on one GPU: tuned, then timed in turns in one process.

    python benchmarks/attention.py [--budget 20s] [--rounds N] [--json FILE] [--only PATTERN]

Random bf16 inputs in batch × sequence × heads × head_dim, of which PyTorch gets transposed views. All
contenders of a problem take turns, round after round, each run behind a flush of the L2 cache; medians are
compared. Forward problems count their operations (half of them when causal), those with one query the bytes
of k and v.
"""

import argparse
import json
import re

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import cudadent
from common import geometric_mean, provenance, timed

TOKENS = 16384
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def problems():
    """Name, then batch, queries, keys, heads, kv heads, head_dim, causal."""
    for head_dim, heads in ((64, 32), (128, 16), (256, 8)):
        for causal in (False, True):
            for length in (512, 1024, 2048, 4096, 8192, 16384):
                batch = TOKENS // length
                name = f"hd{head_dim} S={length}" + (" causal" if causal else "")
                yield name, (batch, length, length, heads, heads, head_dim, causal)
    yield "gqa hd128 S=4096 causal", (2, 4096, 4096, 32, 8, 128, True)
    yield "small hd64 S=128", (4, 128, 128, 8, 8, 64, False)
    for batch, keys in ((1, 8192), (16, 8192), (64, 8192), (1, 131072)):
        yield f"decode B={batch} S={keys}", (batch, 1, keys, 32, 8, 128, False)


def peers(q, k, v, causal):
    """The backends that take the problem, as calls that return batch × heads × sequence × head_dim."""
    q, k, v = (tensor.transpose(1, 2) for tensor in (q, k, v))

    def of(backend):
        def call():
            with sdpa_kernel(backend):
                return torch.nn.functional.scaled_dot_product_attention(
                    q, k, v, is_causal=causal, enable_gqa=q.shape[1] != k.shape[1]
                )

        return call

    found = {}
    for name, backend in BACKENDS.items():
        try:
            of(backend)()
            found[name] = of(backend)
        except RuntimeError:
            pass
    return found


def relative(actual, expected):
    actual, expected = actual.double(), expected.double()
    return float((actual - expected).norm() / expected.norm())


def run(name, shape, rounds):
    batch, queries, keys, heads, kv_heads, head_dim, causal = shape
    bf16 = {"device": "cuda", "dtype": torch.bfloat16}
    q = torch.randn(batch, queries, heads, head_dim, **bf16)
    k, v = (torch.randn(batch, keys, kv_heads, head_dim, **bf16) for _ in range(2))
    out = torch.empty_like(q)
    before = torch.cuda.memory_allocated()
    explanation = cudadent.attention.prepare(q, k, v, out=out, causal=causal)  # tunes
    others = peers(q, k, v, causal)
    calls = {"cudadent": lambda: cudadent.attention(q, k, v, out=out, causal=causal)} | others
    times = dict(zip(calls, timed(list(calls.values()), rounds), strict=True))
    decode = queries == 1
    amount = (
        2 * 2 * batch * keys * kv_heads * head_dim
        if decode
        else 4 * batch * heads * queries * keys * head_dim / (2 if causal else 1)
    )
    return {
        "problem": name,
        "unit": "TB/s" if decode else "TFLOP/s",
        "rates": {who: amount / 1e12 / seconds for who, seconds in times.items()},
        "microseconds": {who: seconds * 1e6 for who, seconds in times.items()},
        "difference": {who: relative(out, call().transpose(1, 2)) for who, call in others.items()},
        "workspace_bytes": torch.cuda.memory_allocated() - before,
        "template": explanation.winner.template,
        "configuration": explanation.winner.configuration,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--budget", default="15s", help="of each tuning run")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--json", help="write the results here")
    parser.add_argument("--only", default="", help="problems whose name has this regular expression")
    arguments = parser.parse_args()
    cudadent.set_default_options(budget=arguments.budget)

    results = []
    print(f"{'problem':28}{'cudadent':>10}{'flash':>10}{'cudnn':>10}  {'unit':8} winner")
    for name, shape in problems():
        if not re.search(arguments.only, name):
            continue
        result = run(name, shape, arguments.rounds)
        results.append(result)
        rates = "".join(
            f"{result['rates'].get(who, float('nan')):10.2f}" for who in ("cudadent", *BACKENDS)
        )
        words = " ".join(f"{key}={value}" for key, value in result["configuration"].items())
        print(f"{name:28}{rates}  {result['unit']:8} {result['template']} {words}", flush=True)
    ratios = {}
    for who in BACKENDS:
        both = [r["rates"] for r in results if who in r["rates"]]
        ratios[who] = geometric_mean([rates["cudadent"] / rates[who] for rates in both])
        print(f"geometric mean of cudadent / {who}: {ratios[who]}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            facts = {"provenance": provenance(), "ratios": ratios, "results": results}
            json.dump(facts, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
