"""Tunes and launches a matrix product and a normalisation, on the GPU when PyTorch has one, else on
the host with NumPy.

    python quickstart.py [budget of each tuning run, such as 10s or '20 trials']
"""

import sys

import numpy as np

import cudadent


def tensors(shape_list):
    """Random inputs: 16-bit tensors on the GPU, or arrays on the host."""
    generator = np.random.default_rng(0)
    arrays = [generator.standard_normal(shape, dtype=np.float32) for shape in shape_list]
    try:
        import torch
    except ImportError:
        return arrays
    if not torch.cuda.is_available():
        return arrays
    return [torch.from_numpy(array).to("cuda", torch.bfloat16) for array in arrays]


def main():
    budget = sys.argv[1] if len(sys.argv) > 1 else "10s"
    cudadent.set_default_options(budget=budget)

    x, weight, bias, scale = tensors([(256, 512), (384, 512), (384,), (384,)])

    # The first call with these shapes tunes and remembers; the same call in another process, or
    # again in this one, launches at once. prepare() tells what it launches.
    hidden = cudadent.gemm(x, weight, bias, activation="gelu")
    print("gemm:    ", cudadent.gemm.prepare(x, weight, bias, activation="gelu"))

    # Outputs may be given; they are returned.
    normed, hidden_out = cudadent.rms_norm(hidden, scale, hidden, residual_out=True)
    print("rms_norm:", cudadent.rms_norm.prepare(hidden, scale, hidden, residual_out=True))
    print("shapes:  ", tuple(normed.shape), tuple(hidden_out.shape))

    # A Runtime of one's own, to tune shapes ahead of time. The database is the same.
    with cudadent.Runtime(budget=budget) as runtime:
        result = runtime.tune("rms_norm", rows=64, columns=1024, dtype="f32")
        print("tuned on", runtime.device_name)
        print(result)


if __name__ == "__main__":
    main()
