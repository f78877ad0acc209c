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


def attention(q, k, v, *, causal=False, scale=None, window=-1, softcap=0):
    """Of one sequence: q is [queries, heads, head_dim], k and v have keys and kv_heads; and the lse."""
    q, k, v = (tensor.astype(np.float64) for tensor in (q, k, v))
    k, v = (tensor.repeat(q.shape[1] // k.shape[1], axis=1) for tensor in (k, v))
    scores = np.einsum("ihd,jhd->hij", q, k) * (q.shape[2] ** -0.5 if scale is None else scale)
    if softcap > 0:
        scores = softcap * np.tanh(scores / softcap)
    distance = np.arange(len(q))[:, None] + len(k) - len(q) - np.arange(len(k))
    seen = np.ones_like(distance, dtype=bool)
    if causal:
        seen &= distance >= 0
    if window >= 0:
        seen &= np.abs(distance) < window
    powers = np.where(seen, np.exp(scores), 0.0)
    totals = powers.sum(axis=-1)
    with np.errstate(divide="ignore"):
        lse = np.log(totals)
    out = np.einsum("hij,jhd->ihd", powers / np.where(totals > 0, totals, 1)[..., None], v)
    return out, lse
