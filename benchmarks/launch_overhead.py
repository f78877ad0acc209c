"""Host time of a cached call on a GPU, beside a bare launch and PyTorch's own operators.

    python benchmarks/launch_overhead.py [--json FILE] [--calls N] [--batches N]

One process, one stream, tensors too small for the GPU to be the bottleneck: matrix products and
norms of 64 × 64, attention of 64 tokens, and of a token each of four sequences in pages. A batch
of calls is timed on the host clock without synchronising inside it; the median over batches is
reported, in microseconds a call. The bare launch is cuLaunchKernel of an empty kernel through
ctypes, less what an equal ctypes call of a function that does nothing (cuDriverGetVersion) costs
beyond its work: an upper bound of what a loop in C pays.
"""

import argparse
import ctypes
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--calls", type=int, default=500, help="in a batch (default: 500)")
    parser.add_argument("--batches", type=int, default=30)
    arguments = parser.parse_args()

    # Default configurations: what is measured is the call, not the kernel.
    cudadent.set_default_options(cache=":memory:", on_miss="nearest")
    times = measure(arguments.calls, arguments.batches)
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
    if arguments.json:
        figures = {
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "cudadent": cudadent.__version__,
            "bare_launch_us": bare,
            "us_per_call": times,
        }
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=2)
            file.write("\n")


if __name__ == "__main__":
    main()
