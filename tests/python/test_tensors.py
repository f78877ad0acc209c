"""Where tensors come from: array interfaces, DLPack, its C table, buffers, PyTorch."""

import array
import ctypes

import numpy as np
import pytest
import reference

import cudadent


@pytest.fixture
def x():
    return np.linspace(-1, 1, 4 * 33, dtype=np.float32).reshape(4, 33)


@pytest.fixture
def weight():
    return np.linspace(0.5, 1.5, 33, dtype=np.float32)


@pytest.fixture
def expected(x, weight):
    return reference.rms_norm(x, weight)[0]


class OnlyArrayInterface:
    def __init__(self, values):
        self.values = values

    @property
    def __array_interface__(self):
        return self.values.__array_interface__


class OnlyDLPack:
    def __init__(self, values):
        self.values = values

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()

    def __dlpack__(self, **arguments):
        return self.values.__dlpack__(**arguments)


class OldDLPack(OnlyDLPack):
    """From before DLPack 1.0: knows no versions."""

    def __dlpack__(self, stream=None):
        return self.values.__dlpack__(stream=stream)


@pytest.mark.parametrize("wrap", [OnlyArrayInterface, OnlyDLPack, OldDLPack, memoryview])
def test_protocols(host, x, weight, expected, wrap):
    out = np.empty_like(x)
    host.rms_norm(wrap(x), wrap(weight), out=wrap(out))
    assert reference.relative_error(out, expected) < 1e-5


def test_buffers(host, x, weight, expected):
    out = np.empty_like(x)
    host.rms_norm(x, array.array("f", weight), out=out)
    assert reference.relative_error(out, expected) < 1e-5


# ----------------------------------------------------------------- DLPack's table of C functions


class Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class ElementType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class View(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", Device),
        ("rank", ctypes.c_int32),
        ("type", ElementType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


VIEW_OF = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(View))
CURRENT_STREAM = ctypes.PYFUNCTYPE(
    ctypes.c_int, ctypes.c_int32, ctypes.c_int32, ctypes.POINTER(ctypes.c_void_p)
)


class Exchange(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", ctypes.c_void_p),
        ("managed_from_object", ctypes.c_void_p),
        ("managed_to_object", ctypes.c_void_p),
        ("view_of", VIEW_OF),
        ("current_stream", CURRENT_STREAM),
    ]


def fill_view(tensor, view):
    values, code, bits = tensor.values, tensor.code, tensor.bits
    tensor.viewed += 1
    tensor.shape = (ctypes.c_int64 * values.ndim)(*values.shape)
    view[0].data = values.ctypes.data - 16
    view[0].byte_offset = 16
    view[0].device = Device(1, 0)
    view[0].rank = values.ndim
    view[0].type = ElementType(code, bits, 1)
    view[0].shape = tensor.shape
    view[0].strides = ctypes.POINTER(ctypes.c_int64)()
    return 0


def tensor_type(major, previous=None, code=2, bits=32):
    """A type whose instances can be read through its table only; floats of 32 bits by default."""
    table = Exchange(
        major=major,
        minor=3,
        previous=None if previous is None else ctypes.addressof(previous),
        view_of=VIEW_OF(fill_view),
        current_stream=CURRENT_STREAM(lambda kind, ordinal, stream: -1),
    )
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    name = b"dlpack_exchange_api"

    class Tensor:
        __dlpack_c_exchange_api__ = new_capsule(ctypes.addressof(table), name, None)
        kept = (table, name, previous)

        def __init__(self, values):
            self.values, self.code, self.bits = values, code, bits
            self.viewed = 0

    return Tensor, table


def test_the_c_table_is_used(host, x, weight, expected):
    Tensor, _ = tensor_type(1)
    out, source = np.empty_like(x), Tensor(x)
    host.rms_norm(source, Tensor(weight), out=Tensor(out))
    assert source.viewed == 1
    assert reference.relative_error(out, expected) < 1e-5


def test_an_older_c_table_is_found_behind_a_newer_one(host, x, weight, expected):
    _, table = tensor_type(1)
    Tensor, _ = tensor_type(2, previous=table)
    out = np.empty_like(x)
    host.rms_norm(Tensor(x), weight, out=out)
    assert reference.relative_error(out, expected) < 1e-5
    Unknown, _ = tensor_type(2)
    with pytest.raises(cudadent.InvalidArgument, match="not a tensor"):
        host.rms_norm(Unknown(x), weight, out=out)


def test_an_output_cannot_be_made_like_an_unknown_type(host, x, weight):
    with pytest.raises(cudadent.InvalidArgument, match="give a tensor to write to"):
        host.rms_norm(OnlyDLPack(x), weight)


# ----------------------------------------------------------------- PyTorch


def test_torch_on_the_host(host, x, weight, expected):
    torch = pytest.importorskip("torch")
    y = host.rms_norm(torch.from_numpy(x), torch.nn.Parameter(torch.from_numpy(weight)))
    assert isinstance(y, torch.Tensor) and not y.requires_grad
    assert reference.relative_error(y.numpy(), expected) < 1e-5
    out = torch.empty(4, 33)
    assert host.rms_norm(x, weight, out=out) is out  # libraries mix
    assert torch.equal(out, y)
    half = torch.from_numpy(x).to(torch.bfloat16)
    wide = host.gemm(half, half, out_dtype=torch.float32)
    assert wide.dtype == torch.float32 and wide.shape == (4, 4)
    with pytest.raises(cudadent.InvalidArgument, match="not contiguous"):
        host.gemm(torch.from_numpy(x).t(), half)


def test_torch_without_the_c_table(host, x, weight, expected):
    torch = pytest.importorskip("torch")

    class Old(torch.Tensor):  # as PyTorch before 2.10
        __dlpack_c_exchange_api__ = None

    out = torch.empty(4, 33).as_subclass(Old)
    source = torch.from_numpy(x).as_subclass(Old)
    assert host.rms_norm(source, torch.from_numpy(weight).as_subclass(Old), out=out) is out
    assert reference.relative_error(out.numpy(), expected) < 1e-5
    assert host.gemm(source, source).dtype == torch.float32
