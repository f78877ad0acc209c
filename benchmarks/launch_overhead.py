"""Host time of a cached call on a GPU, beside a bare launch and PyTorch's own operators.

    python benchmarks/launch_overhead.py [--json FILE] [--calls N] [--batches N] [--members]

One process, one stream, tensors too small for the GPU to be the bottleneck: matrix products and
norms of 64 × 64, attention of 64 tokens, and of one token for each of four sequences in pages. A batch
of calls is timed on the host clock without synchronising inside it; the median over batches is
reported, in microseconds per call. The bare launch is cuLaunchKernel of an empty kernel through
ctypes, less what an equal ctypes call of a function that does nothing (cuDriverGetVersion) costs
beyond its work: an upper bound of what a loop in C pays.

Last come calls whose problem is new each time while its bucket is known, in turns with one that is
repeated: each number of rows, keys or tokens is met once. With --members nothing else is timed.
"""

import argparse
import ctypes
import functools
import json
import statistics
import time

import torch
from torch.nn.functional import scaled_dot_product_attention

import cudadent

EMPTY_KERNEL = b""".version 7.0
.target sm_75
.address_size 64
.visible .entry empty() { ret; }
"""


class BareLaunch:
    """cuLaunchKernel of an empty kernel on a stream, with its arguments converted beforehand."""

    def __init__(self, stream):
        self.driver = ctypes.CDLL("libcuda.so.1")
        module, function = ctypes.c_void_p(), ctypes.c_void_p()
        self.check(self.driver.cuModuleLoadData(ctypes.byref(module), EMPTY_KERNEL))
        self.check(self.driver.cuModuleGetFunction(ctypes.byref(function), module, b"empty"))
        one, zero, null = ctypes.c_uint(1), ctypes.c_uint(0), ctypes.c_void_p()
        self.arguments = [function] + [one] * 6 + [zero, ctypes.c_void_p(stream)] + [null, null]
        self.version = ctypes.c_int()

    @staticmethod
    def check(result):
        if result != 0:
            raise RuntimeError(f"the CUDA driver returned {result}")

    def __call__(self):
        self.driver.cuLaunchKernel(*self.arguments)

    def do_nothing(self):
        """Costs what __call__ costs Python and ctypes: as many arguments, which are ignored."""
        self.driver.cuDriverGetVersion(ctypes.byref(self.version), *self.arguments[1:])


def microseconds_per_call(call, calls, batches):
    for _ in range(calls):
        call()
    torch.cuda.synchronize()
    times = []
    for _ in range(batches):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        times.append((time.perf_counter() - start) / calls * 1e6)
        torch.cuda.synchronize()
    return statistics.median(times)


def attention_candidates():
    def random(*shape):
        return torch.randn(*shape, 64, device="cuda").to(torch.bfloat16)

    attention = cudadent.attention
    q, k, v = (random(1, 64, 2) for _ in range(3))
    out = torch.empty_like(q)
    # torch's order of dimensions, of the same memory.
    turned = [tensor.transpose(1, 2) for tensor in (q, k, v)]
    token, (key_pages, value_pages) = random(4, 1, 8), (random(16, 16, 2) for _ in range(2))
    token_out = torch.empty_like(token)
    pages = {
        "block_table": torch.arange(16, device="cuda", dtype=torch.int32).view(4, 4),
        "kv_lengths": torch.tensor([64, 1, 17, 48], device="cuda", dtype=torch.int32),
    }
    return {
        "cudadent.attention(q, k, v, out=)": lambda: attention(q, k, v, out=out),
        "the same, causal": lambda: attention(q, k, v, out=out, causal=True),
        "the same, pages and lengths": lambda: attention(
            token, key_pages, value_pages, out=token_out, **pages
        ),
        "torch's scaled_dot_product_attention": lambda: scaled_dot_product_attention(*turned),
    }


def candidates(stream):
    a, b = (torch.randn(64, 64, device="cuda").to(torch.bfloat16) for _ in range(2))
    out, bias = torch.empty_like(a), torch.zeros(64, device="cuda", dtype=torch.bfloat16)
    weight = torch.ones(64, device="cuda", dtype=torch.bfloat16)
    transposed = b.t()
    gemm = cudadent.op("gemm")
    gelu = cudadent.op("gemm", activation="gelu")
    module_gemm, rms_norm = cudadent.gemm, cudadent.rms_norm
    bare = BareLaunch(stream)
    return {
        "empty loop": lambda: None,
        "ctypes call that does nothing": bare.do_nothing,
        "cuLaunchKernel through ctypes": bare,
        "torch.add(out=)": lambda: torch.add(a, b, out=out),
        "torch.mm(out=)": lambda: torch.mm(a, transposed, out=out),
        "torch.nn.functional.linear": lambda: torch.nn.functional.linear(a, b),
        "cudadent.gemm(a, b, out=)": lambda: module_gemm(a, b, out=out),
        "op(a, b, out=)": lambda: gemm(a, b, out=out),
        "op(a, b, bias, out=, stream=)": lambda: gelu(a, b, bias, out=out, stream=stream),
        "cudadent.gemm(a, b), output made": lambda: module_gemm(a, b),
        "cudadent.rms_norm(x, w, out=)": lambda: rms_norm(a, weight, out=out),
        **attention_candidates(),
    }


def measure(calls, batches):
    torch.cuda.init()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        return {
            name: microseconds_per_call(call, calls, batches)
            for name, call in candidates(stream.cuda_stream).items()
        }


# Members of a bucket that are timed, and how many of them in a batch.
MEMBERS, MEMBERS_A_BATCH = 1000, 50


def members_of_buckets():
    """Calls by name, each with MEMBERS + 2 that share a bucket and differ in one extent."""

    def random(*shape):
        return torch.randn(*shape, 64, device="cuda").to(torch.bfloat16)

    def rows(last):
        return range(last - MEMBERS - 1, last + 1)

    a, b, c = random(16384), random(64), random(16384)
    weight = torch.ones(64, device="cuda", dtype=torch.bfloat16)
    query, keys, values = random(1, 1, 8), random(1, 8192, 8), random(1, 8192, 8)
    tokens, out = random(2048, 2), random(2048, 2)
    # Rows behind the last sequence's end are nobody's.
    ends = torch.tensor([0, 100, 356, 1000], device="cuda", dtype=torch.int32)
    single = torch.empty_like(query)

    def gemm(m):
        return functools.partial(cudadent.gemm, a[:m], b, out=c[:m])

    def rms_norm(m):
        return functools.partial(cudadent.rms_norm, a[:m], weight, out=c[:m])

    def decode(length):
        return functools.partial(
            cudadent.attention, query, keys[:, :length], values[:, :length], out=single
        )

    def packed(total):
        part = tokens[:total]
        return functools.partial(
            cudadent.attention, part, part, part, out=out[:total],
            cu_queries=ends, cu_keys=ends, causal=True,
        )

    return {
        "gemm, another m of one bucket": [gemm(m) for m in rows(16384)],
        "attention, one query, one more key": [decode(n) for n in rows(8192)],
        "attention, another total of tokens": [packed(n) for n in rows(2048)],
        "rms_norm, another number of rows": [rms_norm(m) for m in rows(8192)],
    }


def measure_members():
    """Microseconds a call by name: of a repeated one, and of ever new members of its bucket."""

    def timed(calls):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for call in calls:
            call()
        return (time.perf_counter() - start) / len(calls) * 1e6

    times = {}
    for name, calls in members_of_buckets().items():
        known, warm, *new = calls
        known()  # the bucket's first
        warm()
        repeated = [known] * MEMBERS_A_BATCH
        timed(repeated)
        batches = [new[i : i + MEMBERS_A_BATCH] for i in range(0, MEMBERS, MEMBERS_A_BATCH)]
        pairs = [(timed(repeated), timed(batch)) for batch in batches]
        times[name] = [statistics.median(column) for column in zip(*pairs)]
    return times


def print_members(times):
    print(f"{'a new problem of a known bucket':36} {'µs':>8} {'over a repeated one':>20}")
    for name, (repeated, new) in times.items():
        print(f"{name:36} {new:8.2f} {new - repeated:20.2f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--calls", type=int, default=500, help="in a batch (default: 500)")
    parser.add_argument("--batches", type=int, default=30)
    parser.add_argument("--members", action="store_true", help="only new problems of known buckets")
    arguments = parser.parse_args()

    # Default configurations: what is measured is the call, not the kernel.
    cudadent.set_default_options(cache=":memory:", on_miss="nearest")
    if arguments.members:
        print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
        print_members(measure_members())
        return
    times = measure(arguments.calls, arguments.batches)
    members = measure_members()
    bare = (
        times["cuLaunchKernel through ctypes"]
        - times["ctypes call that does nothing"]
        + times["empty loop"]
    )
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    print(f"{'call':36} {'µs':>8} {'over a bare launch':>20}")
    for name, value in times.items():
        print(f"{name:36} {value:8.2f} {value - bare:20.2f}")
    print(f"bare launch, estimated: {bare:.2f} µs")
    print_members(members)
    if arguments.json:
        figures = {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cudadent": cudadent.__version__,
            "bare_launch_us": bare,
            "us_per_call": times,
            "us_per_call_repeated_and_of_a_known_bucket": members,
        }
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
