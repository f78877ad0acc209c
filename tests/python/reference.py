"""What operators compute, in float64."""

import math

import numpy as np


def _gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2)))


ACTIVATIONS = {
    "none": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": _gelu,
    "silu": lambda x: x / (1 + np.exp(-x)),
}


def _spread(scales, shape, block):
    """Each scale for all elements of its block."""
    for axis, length in zip((-2, -1), block):
        scales = scales.repeat(length, axis)
    return scales[..., : shape[-2], : shape[-1]]


def gemm(
    a,
    b,
    bias=None,
    activation="none",
    layout_b="nk",
    *,
    layout_a="mk",
    scaling="tensor",
    scale_a=None,
    scale_b=None,
    residual=None,
):
    a, b = a.astype(np.float64), b.astype(np.float64)
    a = a if layout_a == "mk" else a.swapaxes(-1, -2)
    b = b if layout_b == "nk" else b.swapaxes(-1, -2)
    if scale_a is not None:
        scale_a = scale_a.astype(np.float64)
        a = a * (scale_a if scaling == "tensor" else _spread(scale_a, a.shape, (1, 128)))
    if scale_b is not None:
        scale_b = scale_b.astype(np.float64)
        b = b * (scale_b if scaling == "tensor" else _spread(scale_b, b.shape, (128, 128)))
    c = a @ b.swapaxes(-1, -2)
    if bias is not None:
        c = c + bias.astype(np.float64)
    c = ACTIVATIONS[activation](c)
    return c if residual is None else c + residual.astype(np.float64)


def rms_norm(x, weight, residual=None, eps=1e-6):
    h = x.astype(np.float64) + (0 if residual is None else residual.astype(np.float64))
    scale = 1 / np.sqrt((h * h).mean(axis=-1, keepdims=True) + eps)
    return h * scale * weight.astype(np.float64), h


def relative_error(actual, expected):
    """‖actual − expected‖ / ‖expected‖, as tuning verifies it."""
    return np.linalg.norm(actual.astype(np.float64) - expected) / max(
        np.linalg.norm(expected), 1e-30
    )
