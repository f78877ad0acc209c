"""Where tensors come from: array interfaces, DLPack, its C table, buffers, PyTorch."""

import array
import ctypes
import sys

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


# ----------------------------------------------------------------- more than memory


def refused(match):
    return pytest.raises(cudadent.InvalidArgument, match=match)


def test_masked_arrays_are_refused(host, x, weight):
    masked = np.ma.masked_greater(x, 0.5)
    with refused(r"rms_norm: x is a masked array.*filled"):
        host.rms_norm(masked, weight)
    with refused("y is a masked array"):
        host.rms_norm(x, weight, out=np.ma.masked_array(np.empty_like(x)))
    host.rms_norm(masked.filled(0), weight)


def test_arrays_that_lie_in_another_way(host, x, weight, expected):
    with refused("x has the data type >f4"):
        host.rms_norm(x.astype(">f4"), weight)
    with refused("y has the data type >f4"):
        host.rms_norm(x, weight, out=np.empty(x.shape, ">f4"))
    with refused("x is not contiguous"):
        host.rms_norm(x[::-1], weight)
    with refused("weight is not contiguous"):
        host.rms_norm(x, weight[::-1])
    with refused("a"):  # rows of a may be any distance apart, but not backwards
        host.gemm(x[::-1], x)
    read_only = np.empty_like(x)
    read_only.flags.writeable = False
    for out in (read_only, np.broadcast_to(x, x.shape), memoryview(x.tobytes()).cast("f", x.shape)):
        with refused("y is read-only"):
            host.rms_norm(x, weight, out=out)


def test_outputs_whose_elements_share_memory_are_refused(host, x, weight):
    row = np.empty((1, 4), np.float32)
    shared = np.lib.stride_tricks.as_strided(row, (4, 4), (0, 4))
    assert shared.flags.writeable
    with refused("c"):
        host.gemm(x, x, out=shared)
    with refused("y"):
        host.rms_norm(shared, shared[0], out=shared)


class OnlyShape:
    """As a library's tensor that stands for a shape: elements, but no memory."""

    def __init__(self, values):
        self.__array_interface__ = {**values.__array_interface__, "data": (0, False)}


def test_tensors_without_memory_are_refused(host, x, weight):
    with refused("x has elements but no memory"):
        host.rms_norm(OnlyShape(x), weight)


def test_what_a_library_says_of_its_tensor_is_said(host, x, weight):
    class Reluctant(OnlyDLPack):
        def __dlpack__(self, **_):
            raise self.error

    source = Reluctant(x)
    source.error = BufferError("this one is sparse")
    with refused("x cannot be read as memory: this one is sparse"):
        host.rms_norm(source, weight)
    source.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        host.rms_norm(source, weight)


def test_arrays_of_libraries_that_count_on_values_to_stay_are_not_written_to(host, x, weight, expected):
    Array = type("ArrayImpl", (OnlyArrayInterface,), {"__module__": "jaxlib._jax"})
    with refused("y is a ArrayImpl, which may not be written to"):
        host.rms_norm(x, weight, out=Array(np.empty_like(x)))
    assert reference.relative_error(host.rms_norm(Array(x), weight, out=np.empty_like(x)), expected) < 1e-5


# ----------------------------------------------------------------- PyTorch, of which stand-ins do


class FakeTorch:
    """As much of the module torch as is asked."""

    def __init__(self):
        self.grad_enabled, self.asked, self.written = True, 0, []
        self._C = self

    def is_grad_enabled(self):
        self.asked += 1
        return self.grad_enabled

    def _increment_version(self, tensors):
        self.written += tensors

    def _disabled_torch_function_impl(self):
        raise AssertionError("not to be called")

    _disabled_torch_dispatch_impl = _disabled_torch_function_impl


@pytest.fixture
def torch_stand_in(monkeypatch):
    module = FakeTorch()
    module._disabled_torch_function_impl = module._disabled_torch_function_impl  # one object
    module._disabled_torch_dispatch_impl = module._disabled_torch_function_impl
    monkeypatch.setitem(sys.modules, "torch", module)
    monkeypatch.delitem(sys.modules, "torch.autograd.forward_ad", raising=False)

    module.Tensor, _ = tensor_type(1)
    module.Tensor.__module__ = "torch"
    module.Tensor.grad, module.Tensor.negated = False, False
    module.Tensor.requires_grad = property(lambda self: self.grad)
    module.Tensor.is_neg = lambda self: self.negated
    return module


def test_a_tensor_that_requires_a_gradient_is_refused(host, x, weight, expected, torch_stand_in):
    torch = torch_stand_in
    plain, parameter, out = torch.Tensor(x), torch.Tensor(weight), torch.Tensor(np.empty_like(x))
    host.rms_norm(plain, weight, out=out)
    assert torch.asked == 0  # that costs something
    parameter.grad = True
    with refused(r"rms_norm: weight requires a gradient.*no_grad.*detach"):
        host.rms_norm(plain, parameter, out=out)
    with refused("y requires a gradient"):
        host.rms_norm(plain, weight, out=parameter)
    torch.grad_enabled, torch.asked, plain.grad = False, 0, True
    host.rms_norm(plain, parameter, out=out)
    assert torch.asked == 1
    assert reference.relative_error(out.values, expected) < 1e-5


def test_a_tensor_that_is_negated_lazily_is_refused(host, x, weight, torch_stand_in):
    source, out = torch_stand_in.Tensor(x), torch_stand_in.Tensor(np.empty_like(x))
    for tensor in (source, out):
        tensor.negated = True
        with refused(r"negated lazily.*resolve_neg"):
            host.rms_norm(source, weight, out=out)
        tensor.negated = False
    host.rms_norm(source, weight, out=out)


def test_writing_to_an_output_is_counted(host, x, weight, torch_stand_in):
    torch = torch_stand_in
    source, out = torch.Tensor(x), torch.Tensor(np.empty_like(x))
    host.rms_norm.prepare(source, weight, out=out)
    assert torch.written == []
    host.rms_norm(source, weight, out=out)
    assert torch.written == [out]
    sum_out = torch.Tensor(np.empty_like(x))
    host.rms_norm(source, weight, residual=source, out=out, residual_out=sum_out)
    assert len(torch.written) == 3 and set(torch.written) == {out, sum_out}
    with refused("weight has shape"):  # nothing was written
        host.rms_norm(source, weight[:-1], out=np.empty_like(x))
    assert len(torch.written) == 3


def test_subclasses_with_behaviour_of_their_own_are_refused(host, x, weight, torch_stand_in):
    torch = torch_stand_in
    out = np.empty_like(x)

    class Plain(torch.Tensor):
        __torch_function__ = torch._disabled_torch_function_impl

    class Logged(torch.Tensor):
        @classmethod
        def __torch_function__(cls, *arguments):
            raise AssertionError("not asked")

    class Sharded(torch.Tensor):
        @classmethod
        def __torch_dispatch__(cls, *arguments):
            raise AssertionError("not asked")

    class Descendant(Sharded):
        pass

    host.rms_norm(Plain(x), weight, out=out)
    with refused(r"x is a Logged.*__torch_function__.*as_subclass"):
        host.rms_norm(Logged(x), weight, out=out)
    for type_of_tensor in (Sharded, Descendant):
        with refused(r"x is a .*class Sharded has a __torch_dispatch__.*to_local"):
            host.rms_norm(type_of_tensor(x), weight, out=out)


# ----------------------------------------------------------------- PyTorch itself


@pytest.fixture
def torch():
    return pytest.importorskip("torch")


def test_torch_on_the_host(host, x, weight, expected, torch):
    with torch.no_grad():
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


def test_torch_gradients(host, x, weight, expected, torch):
    source, parameter = torch.from_numpy(x), torch.nn.Parameter(torch.from_numpy(weight))
    with refused(r"weight requires a gradient.*no_grad.*detach"):
        host.rms_norm(source, parameter)
    with refused("x requires a gradient"):
        host.rms_norm(source * parameter, weight)  # no leaf
    with refused("y requires a gradient"):
        host.rms_norm(source, weight, out=torch.empty(4, 33, requires_grad=True))
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            out = host.rms_norm(source, parameter)
            assert reference.relative_error(out.numpy(), expected) < 1e-5
            host.rms_norm(source, parameter, out=out)
    assert torch.equal(host.rms_norm(source, parameter.detach()), out)
    host.rms_norm(source, weight, out=out)  # `out` was made in inference mode, and has no count
    with torch.no_grad(), torch.enable_grad(), refused("weight requires"):
        host.rms_norm(source, parameter)


def test_torch_notices_that_an_output_was_written_to(host, x, weight, torch):
    source, out = torch.from_numpy(x), torch.zeros(4, 33)
    before = out._version
    host.rms_norm(source, weight, out=out)
    assert out._version > before
    factor = torch.ones(4, 33, requires_grad=True)
    product = (factor * out).sum()  # keeps `out` for the gradient
    host.rms_norm(source, weight, out=out[:])  # a view of it
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        product.backward()


def test_torch_tensors_whose_memory_is_not_all(host, x, weight, torch):
    plain, other = torch.from_numpy(x), torch.from_numpy(weight)
    imaginary = torch.complex(plain, plain).conj().imag
    assert imaginary.is_neg()
    for tensor, message in {
        "negated": (torch._neg_view(plain), "negated lazily.*resolve_neg"),
        "imaginary": (imaginary, "negated lazily"),
        "conjugated": (torch.complex(plain, plain).conj(), "data type|conj"),
        "sparse": (plain.to_sparse(), "x cannot be read as memory"),
        "csr": (plain.to_sparse_csr(), "x cannot be read as memory"),
        "quantized": (torch.quantize_per_tensor(plain, 0.1, 0, torch.qint8), "x cannot be read as memory"),
        "nested": (torch.nested.nested_tensor([plain, plain]), "x cannot be read as memory"),
        "jagged": (torch.nested.nested_tensor([plain, plain], layout=torch.jagged), "__torch_dispatch__"),
        "meta": (plain.to("meta"), "x "),
        "zero": (torch._efficientzerotensor(4, 33), "x "),
    }.values():
        with refused(message):
            host.rms_norm(tensor, other)
    host.rms_norm(imaginary.resolve_neg(), other)


def test_torch_expanded_outputs(host, torch):
    a = torch.ones(4, 8)
    with refused("c"):
        host.gemm(a, a, out=torch.empty(1, 4).expand(4, 4))


def test_torch_subclasses_and_modes(host, x, weight, torch):
    from torch._subclasses.fake_tensor import FakeTensorMode

    plain, other = torch.from_numpy(x), torch.from_numpy(weight)
    with FakeTensorMode() as mode, refused("FakeTensor.*torch.library"):
        host.rms_norm(mode.from_tensor(plain), other)

    class Mine(torch.Tensor):
        pass

    host.rms_norm(plain.as_subclass(Mine), other)

    class Logged(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), keywords=None):
            return super().__torch_function__(function, types, arguments, keywords or {})

    with refused("Logged.*as_subclass"):
        host.rms_norm(plain.as_subclass(Logged), other)
    host.rms_norm(plain.as_subclass(Logged).as_subclass(torch.Tensor), other)
    for transform in (
        lambda: torch.func.vmap(lambda row: host.rms_norm(row, other))(torch.stack([plain, plain])),
        lambda: torch.func.jvp(lambda x: host.rms_norm(x, other), (plain,), (plain,)),
        lambda: torch.func.grad(lambda x: host.rms_norm(x, other).sum())(plain),
    ):
        with refused("rms_norm: x "):
            transform()


def test_torch_forward_mode(host, x, weight, torch):
    from torch.autograd import forward_ad

    plain, other = torch.from_numpy(x), torch.from_numpy(weight)
    with forward_ad.dual_level():
        host.rms_norm(plain, other)
        dual = forward_ad.make_dual(plain, torch.ones_like(plain))
        with refused("x has a tangent.*primal"):
            host.rms_norm(dual, other)
        host.rms_norm(forward_ad.unpack_dual(dual).primal, other)


def test_torch_distributed_tensors(host, x, weight, torch):
    distributed = pytest.importorskip("torch.distributed")
    if not distributed.is_available():
        pytest.skip("torch was built without torch.distributed")
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Replicate, distribute_tensor

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    try:
        sharded = distribute_tensor(torch.from_numpy(x), init_device_mesh("cpu", (1,)), [Replicate()])
        with refused("DTensor.*to_local"):
            host.rms_norm(sharded, weight, out=np.empty_like(x))
        host.rms_norm(sharded.to_local(), weight)
    finally:
        distributed.destroy_process_group()


def test_torch_without_the_c_table(host, x, weight, expected, torch):

    class Old(torch.Tensor):  # as PyTorch before 2.10
        __dlpack_c_exchange_api__ = None

    out = torch.empty(4, 33).as_subclass(Old)
    source = torch.from_numpy(x).as_subclass(Old)
    assert host.rms_norm(source, torch.from_numpy(weight).as_subclass(Old), out=out) is out
    assert reference.relative_error(out.numpy(), expected) < 1e-5
    assert host.gemm(source, source).dtype == torch.float32
    source.requires_grad = True
    with refused("a requires a gradient"):
        host.gemm(source, source)
    before = out._version
    with torch.no_grad():
        host.rms_norm(source, torch.from_numpy(weight).as_subclass(Old), out=out)
    assert out._version > before
