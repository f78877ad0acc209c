"""On a GPU. Skipped, visibly, where there is none."""

import numpy as np
import pytest
import reference

import cudadent


def device():
    try:
        return cudadent.Runtime("cuda", cache=":memory:", on_miss="nearest")
    except cudadent.Error as error:
        assert error.code == "device_unavailable"
        pytest.skip(f"no GPU: {error}")


@pytest.fixture(scope="module")
def cuda():
    with device() as runtime:
        yield runtime


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    if not module.cuda.is_available():
        pytest.skip("PyTorch has no GPU")
    return module


def as_numpy(tensor):
    return tensor.float().cpu().numpy()


@pytest.mark.parametrize("m, n, k", [(128, 256, 512), (7, 24, 40), (1, 1, 1)])
@pytest.mark.parametrize("name, tolerance", [("bfloat16", 1e-2), ("float16", 2e-3)])
def test_gemm(cuda, torch, m, n, k, name, tolerance):
    dtype = getattr(torch, name)
    a, b, bias = (torch.randn(shape, device="cuda").to(dtype) for shape in [(m, k), (n, k), (n,)])
    c = cuda.gemm(a, b, bias, activation="gelu")
    assert c.dtype == dtype and c.device == a.device
    expected = reference.gemm(as_numpy(a), as_numpy(b), as_numpy(bias), "gelu")
    assert reference.relative_error(as_numpy(c), expected) < tolerance
    out = torch.empty(m, n, device="cuda", dtype=dtype)
    assert cuda.gemm(a, b, bias, activation="gelu", out=out) is out
    assert torch.equal(out, c)


def test_rms_norm(cuda, torch):
    x, weight, residual = (
        torch.randn(shape, device="cuda").to(torch.bfloat16)
        for shape in [(33, 512), 512, (33, 512)]
    )
    y, h = cuda.rms_norm(x, weight, residual, residual_out=True)
    expected, sums = reference.rms_norm(as_numpy(x), as_numpy(weight), as_numpy(residual))
    assert reference.relative_error(as_numpy(y), expected) < 1e-2
    assert reference.relative_error(as_numpy(h), sums) < 1e-2


def test_the_current_stream_is_used(cuda, torch):
    x = torch.zeros(1024, 1024, device="cuda")
    weight = torch.ones(1024, device="cuda")
    cuda.rms_norm.prepare(x, weight)
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(50_000_000)  # on another stream the kernel would overtake the fill
        x.fill_(3)
        y = cuda.rms_norm(x, weight)
    stream.synchronize()
    assert torch.allclose(y, torch.ones_like(y), atol=1e-5)


@pytest.mark.parametrize("how", ["object", "address"])
def test_a_stream_may_be_named(cuda, torch, how):
    x, weight = torch.full((64, 1024), 2.0, device="cuda"), torch.ones(1024, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    out = torch.zeros_like(x)
    cuda.rms_norm(x, weight, out=out, stream=stream if how == "object" else stream.cuda_stream)
    stream.synchronize()
    assert torch.allclose(out, torch.ones_like(out), atol=1e-5)


def test_a_graph_captures_a_prepared_call(cuda, torch):
    a, b = (torch.randn(64, 64, device="cuda").to(torch.bfloat16) for _ in range(2))
    out = torch.empty_like(a)
    cuda.gemm(a, b, out=out)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        cuda.gemm(a, b, out=out)
    expected = out.clone()
    out.zero_()
    graph.replay()
    torch.cuda.synchronize()
    assert torch.equal(out, expected)


def test_module_level_calls_find_the_device(torch, tmp_path):
    cudadent.set_default_options(cache=tmp_path / "c.db", on_miss="nearest")
    a = torch.randn(64, 64, device="cuda").to(torch.bfloat16)
    assert (
        reference.relative_error(
            as_numpy(cudadent.gemm(a, a)), reference.gemm(as_numpy(a), as_numpy(a))
        )
        < 1e-2
    )
    assert isinstance(cudadent.gemm(as_numpy(a), as_numpy(a)), np.ndarray)  # and the host's
    cudadent.set_default_options()


def test_memory_on_another_device(cuda, torch):
    a = torch.ones(64, 64, device="cuda", dtype=torch.bfloat16)
    with pytest.raises(cudadent.InvalidArgument, match="host memory"):
        cuda.gemm(a.cpu(), a.cpu())
    with pytest.raises(cudadent.InvalidArgument, match="host memory"):
        cuda.gemm(a, a.cpu(), out=torch.empty_like(a))


class ArrayInterface:
    """A tensor seen only through __cuda_array_interface__, current on some stream."""

    def __init__(self, tensor, stream=None):
        self.tensor = tensor
        self.__cuda_array_interface__ = {
            "shape": tuple(tensor.shape),
            "typestr": "<f4",
            "data": (tensor.data_ptr(), False),
            "strides": None,
            "version": 3,
            "stream": stream,
        }


def test_cuda_array_interface(cuda, torch):
    x, weight = torch.full((8, 32), 2.0, device="cuda"), torch.ones(32, device="cuda")
    out = torch.zeros_like(x)
    torch.cuda.synchronize()
    cuda.rms_norm(ArrayInterface(x), ArrayInterface(weight), out=ArrayInterface(out))
    torch.cuda.synchronize()
    assert torch.allclose(out, torch.ones_like(out), atol=1e-5)
    first, second = torch.cuda.Stream().cuda_stream, torch.cuda.Stream().cuda_stream
    with pytest.raises(cudadent.InvalidArgument, match="another stream"):
        cuda.rms_norm(ArrayInterface(x, first), ArrayInterface(weight, second), out=out)


def test_cupy(cuda):
    cupy = pytest.importorskip("cupy")
    x, weight = cupy.full((8, 32), 2, cupy.float32), cupy.ones(32, cupy.float32)
    with cupy.cuda.Stream() as stream:
        y = cuda.rms_norm(x, weight)
        stream.synchronize()
    assert isinstance(y, cupy.ndarray)
    cupy.testing.assert_allclose(y, cupy.ones_like(y), atol=1e-5)
