"""cudadent: kernels that tune themselves for the device and the problem in front of them.

    import cudadent
    c = cudadent.gemm(a, b, bias, activation="relu")    # the first call tunes, later ones launch

Tensors are arrays of NumPy (on the host), tensors of PyTorch, arrays of CuPy, and whatever speaks
DLPack or an array interface. They stay where they are: nothing is copied. They must be contiguous, unless
the operator has strides for them.
On a GPU calls are asynchronous and ordered by the stream, which is the current one of the tensors'
library unless `stream` names another; as with any launch, memory must not be freed or reused
before the stream has got that far (PyTorch and CuPy see to that for the current stream).

Gradients are not computed: a PyTorch tensor that requires one is refused unless under torch.no_grad() or
torch.inference_mode(). So are tensors whose memory is not all there is to them: lazily negated or of a
subclass with behaviour of its own, masked arrays. Writing to an `out` counts as writing to it in place.
"""

from ._cudadent import (
    Budget,
    CandidateSpace,
    Error,
    Explanation,
    InvalidArgument,
    Measurement,
    Operator,
    Runtime,
    Trial,
    TuneProgress,
    TuneResult,
    Winner,
    __version__,
    op,
    operators,
    set_default_options,
    tune,
)

__all__ = [
    "Budget",
    "CandidateSpace",
    "Error",
    "Explanation",
    "InvalidArgument",
    "Measurement",
    "Operator",
    "Runtime",
    "Trial",
    "TuneProgress",
    "TuneResult",
    "Winner",
    "attention",
    "gemm",
    "op",
    "operators",
    "rms_norm",
    "set_default_options",
    "tune",
]

_GEMM = """\
c = activation(scale_a · scale_b · (a · bᵀ) + bias) + residual, accumulated in 32 bits and rounded once.

a          : [m, k], or [k, m] with layout_a='km'
b          : [n, k] with layout_b='nk' (the weights of a linear layer), [k, n] with layout_b='kn'
bias       : [n], of bfloat16, float16 or float32, or None
scale_a    : [1], of float32, or None; with scaling='block' [m, ceil(k / 128)]
scale_b    : the same; with scaling='block' [ceil(n / 128), ceil(k / 128)], whatever the layout of b
residual   : [m, n], of out's data type, or None
out        : [m, n] to write to; made when None. May be the residual, and is not to overlap the rest
activation : 'none', 'relu', 'gelu', 'silu'
precision  : 'full', or 'tf32' to let float32 inputs be rounded to 11 significant bits
scaling    : 'tensor', or 'block' for a factor for each 128 of a row of a, and each 128 by 128 of b
out_dtype  : the data type of an `out` that is made: a's, or float32; of 8-bit inputs bfloat16 (the default),
             float16 or float32
stream     : an address or a stream object; by default the current one of the tensors' library

All but bias and scales of tensors may have a batch dimension in front; inputs without one are shared by all of
the batch. Rows and matrices may be any distance apart, as long as the elements of a row lie side by side.

Data types of a and b: bfloat16, float16, float32, the same of both; or 8-bit floats (float8_e4m3fn,
float8_e5m2), also one of each. Returns out.

Raises InvalidArgument when shapes, data types, strides or devices do not fit, and Error for what
goes wrong while tuning, compiling or launching.
"""

_RMS_NORM = """\
y = h / sqrt(mean(h²) + eps) · weight over the last dimension, where h = x + residual.

x            : [rows, columns]
weight       : [columns]
residual     : [rows, columns], or None for h = x
eps          : added to the mean square
out          : [rows, columns] to write y to; made when None
residual_out : [rows, columns] to write h to, or True to make one; not computed when None
stream       : an address or a stream object; by default the current one of the tensors' library

Data types: bfloat16, float16, float32, one for all; statistics are accumulated in 32 bits.
Returns out, or (out, residual_out) when residual_out is asked for.

Raises InvalidArgument when shapes, data types, strides or devices do not fit, and Error for what
goes wrong while tuning, compiling or launching.
"""

_ATTENTION = """\
out = softmax(mask(scale · q · kᵀ)) · v for each batch and head, with scores and sums in 32 bits.

q           : [batch, queries, heads, head_dim]
k, v        : [batch, keys, kv_heads, head_dim]; heads / kv_heads neighbours share one of k and v
out         : as q; made when None
lse         : [batch, heads, queries] of float32 to write the logarithm of the sum of exponentials to
causal      : whether query i sees key j only if j <= i + keys - queries
scale       : 1/sqrt(head_dim) by default; not negative
window      : keys less than so far away are seen, on both sides unless causal; all when negative
softcap     : above 0, scores s become softcap · tanh(s / softcap)
return_lse  : True to make lse, too
cu_queries  : [batch + 1] of int32: where each sequence begins in q and out, [all queries, heads, head_dim]
              then, and where the last one ends; lse is [heads, all queries]
cu_keys     : the same for k and v, [all keys, kv_heads, head_dim]
block_table : [batch, pages a sequence] of int32: which pages of k and v, [pages, page_size, kv_heads,
              head_dim], have a sequence's keys; entries beyond its end are not read
kv_lengths  : [batch] of int32: how many keys each sequence has, where there is room for more
max_queries : how many queries a sequence has at most, or typically, when they are one behind the other;
max_keys      the same for keys. They help to choose a configuration; results do not depend on them
stream      : an address or a stream object; by default the current one of the tensors' library

Data types: bfloat16, float16; head_dim is a multiple of 8 up to 256. Batches, sequences and heads may be any
distance apart. A query that sees no key gets zeros, and an lse of -inf. A new window or softcap is looked up
as a new shape is; neither compiles anew.

Returns out, or (out, lse) when lse is asked for.

Raises InvalidArgument when shapes, data types, strides or devices do not fit, and Error for what
goes wrong while tuning, compiling or launching.
"""

_DOCS = {"attention": _ATTENTION, "gemm": _GEMM, "rms_norm": _RMS_NORM}


def __getattr__(name):
    # Manifests are read when an operator is first asked for, not by the import.
    if name not in _DOCS:
        raise AttributeError(f"module 'cudadent' has no attribute '{name}'")
    operator = op(name)
    operator.__doc__ = _DOCS[name]
    globals()[name] = operator
    return operator


def __dir__():
    return sorted({*globals(), *__all__})
