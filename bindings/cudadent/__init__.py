"""cudadent: kernels that tune themselves for the device and the problem in front of them.

    import cudadent
    c = cudadent.gemm(a, b, bias, activation="relu")    # the first call tunes, later ones launch

Tensors are arrays of NumPy (on the host), tensors of PyTorch, arrays of CuPy, and whatever speaks
DLPack or an array interface. They stay where they are: nothing is copied. They must be contiguous, unless
the operator has strides for them.
On a GPU calls are asynchronous and ordered by the stream, which is the current one of the tensors'
library unless `stream` names another; as with any launch, memory must not be freed or reused
before the stream has got that far (PyTorch and CuPy see to that for the current stream). Gradients
are not tracked.
"""

from ._cudadent import (
    Budget,
    Error,
    Explanation,
    InvalidArgument,
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
    "Error",
    "Explanation",
    "InvalidArgument",
    "Operator",
    "Runtime",
    "Trial",
    "TuneProgress",
    "TuneResult",
    "Winner",
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

_DOCS = {"gemm": _GEMM, "rms_norm": _RMS_NORM}


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
