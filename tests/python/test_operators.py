"""The built-in operators on the host, against NumPy."""

import inspect

import numpy as np
import pytest
import reference

import cudadent

ml_dtypes = pytest.importorskip("ml_dtypes")

TOLERANCE = {
    np.dtype(np.float32): 1e-5,
    np.dtype(np.float16): 2e-3,
    np.dtype(ml_dtypes.bfloat16): 1e-2,
}


def random(generator, shape, dtype=np.float32):
    return generator.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    "m, n, k, dtype, activation, layout_b, with_bias",
    [
        (64, 48, 32, np.float32, "none", "nk", False),
        (1, 1, 1, np.float32, "relu", "nk", True),
        (7, 13, 29, np.float32, "gelu", "kn", True),
        (33, 65, 17, np.float16, "silu", "nk", True),
        (5, 40, 72, ml_dtypes.bfloat16, "none", "kn", False),
    ],
)
def test_gemm(host, generator, m, n, k, dtype, activation, layout_b, with_bias):
    a = random(generator, (m, k), dtype)
    b = random(generator, (n, k) if layout_b == "nk" else (k, n), dtype)
    bias = random(generator, n, dtype) if with_bias else None
    c = host.gemm(a, b, bias, activation=activation, layout_b=layout_b)
    assert c.shape == (m, n) and c.dtype == dtype
    expected = reference.gemm(a, b, bias, activation, layout_b)
    assert reference.relative_error(c, expected) < TOLERANCE[c.dtype]


def test_members_of_a_bucket(host, generator):
    """One of them is resolved; the others launch its kernel with numbers of their own."""
    b = random(generator, (40, 24))
    rows = random(generator, (128, 24))
    out = np.zeros((128, 40), np.float32)
    first = host.gemm.prepare(rows[:100], b, out=out[:100]).winner
    for m in [65, 66, 99, 100, 101, 127, 128, 66]:
        out[:] = -1
        host.gemm(rows[:m], b, out=out[:m])
        assert reference.relative_error(out[:m], reference.gemm(rows[:m], b)) < 1e-5
        assert (out[m:] == -1).all()
        winner = host.gemm.prepare(rows[:m], b, out=out[:m]).winner
        assert winner.configuration == first.configuration
    # Strides are numbers too; a requirement that a member breaks is said as ever.
    host.gemm(rows[:68, :24][::2], b, out=out[:68:2])
    with pytest.raises(cudadent.Error, match="expected"):
        host.gemm(rows[:67], b, out=out[:66])


@pytest.mark.parametrize("layout_a", ["mk", "km"])
@pytest.mark.parametrize("layout_b", ["nk", "kn"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (3, 70, 5), (37, 41, 43), (50, 129, 300)])
def test_transpositions(host, generator, m, n, k, layout_a, layout_b):
    a = random(generator, (m, k) if layout_a == "mk" else (k, m))
    b = random(generator, (n, k) if layout_b == "nk" else (k, n))
    residual = random(generator, (m, n))
    c = host.gemm(a, b, residual=residual, layout_a=layout_a, layout_b=layout_b)
    expected = reference.gemm(a, b, layout_a=layout_a, layout_b=layout_b, residual=residual)
    assert reference.relative_error(c, expected) < 1e-5


@pytest.mark.parametrize("activation", list(reference.ACTIVATIONS))
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_the_order_of_the_epilogue(host, generator, dtype, activation):
    a, b = random(generator, (19, 23), dtype), random(generator, (31, 23), dtype)
    bias, residual = random(generator, 31), random(generator, (19, 31), dtype)
    scale_a, scale_b = np.array([-0.75], np.float32), np.array([0.5], np.float32)
    c = host.gemm(
        a,
        b,
        bias,
        scale_a=scale_a,
        scale_b=scale_b,
        residual=residual,
        activation=activation,
    )
    expected = reference.gemm(
        a, b, bias, activation, scale_a=scale_a, scale_b=scale_b, residual=residual
    )
    assert reference.relative_error(c, expected) < TOLERANCE[np.dtype(dtype)]
    only_one = host.gemm(a, b, scale_b=scale_b)
    assert reference.relative_error(only_one, reference.gemm(a, b, scale_a=scale_b)) < 1e-2


def test_out_may_be_the_residual(host, generator):
    a, b, residual = (random(generator, shape) for shape in [(33, 20), (40, 20), (33, 40)])
    expected = reference.gemm(a, b, residual=residual)
    assert host.gemm(a, b, residual=residual, out=residual) is residual
    assert reference.relative_error(residual, expected) < 1e-5


def test_out_over_any_other_input_is_refused(host, generator):
    a, b = random(generator, (40, 20)), random(generator, (20, 20))
    known = host.gemm(a[:20], b)
    for out, name in ((b, "b"), (a[10:30], "a")):
        with pytest.raises(cudadent.InvalidArgument, match=f"gemm: c shares memory with {name}"):
            host.gemm(a[:20], b, out=out)
    np.testing.assert_array_equal(host.gemm(a[:20], b, out=a[20:]), known)
    residual = random(generator, (21, 20))
    with pytest.raises(cudadent.InvalidArgument, match="it may only be residual itself"):
        host.gemm(a[:20], b, residual=residual[:20], out=residual[1:])


def test_precision_tf32_may_be_exact(host, generator):
    a, b = random(generator, (16, 8)), random(generator, (24, 8))
    c = host.gemm(a, b, precision="tf32")
    assert reference.relative_error(c, reference.gemm(a, b)) < 2e-3


@pytest.mark.parametrize("activation", list(reference.ACTIVATIONS))
@pytest.mark.parametrize("layout_a", ["mk", "km"])
def test_nan_comes_out_where_it_belongs(host, generator, layout_a, activation):
    a, b = random(generator, (9, 21)), random(generator, (18, 21))
    residual = random(generator, (9, 18))
    a[2, 20] = b[5, 0] = residual[0, 0] = np.nan
    c = host.gemm(
        a if layout_a == "mk" else a.T.copy(),
        b,
        residual=residual,
        layout_a=layout_a,
        activation=activation,
    )
    wrong = np.zeros((9, 18), bool)
    wrong[2], wrong[:, 5], wrong[0, 0] = True, True, True
    np.testing.assert_array_equal(np.isnan(c), wrong)


BATCHES = {
    "all": ((3,), (3,), (3,)),
    "shared b": ((3,), (), (3,)),
    "shared a": ((), (3,), ()),
    "one": ((1,), (1,), ()),
    "only the residual": ((), (), (2,)),
}


@pytest.mark.parametrize("batch_a, batch_b, batch_residual", BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("layout_a, layout_b", [("mk", "nk"), ("km", "kn")])
def test_batches(host, generator, batch_a, batch_b, batch_residual, layout_a, layout_b):
    a = random(generator, batch_a + ((19, 23) if layout_a == "mk" else (23, 19)))
    b = random(generator, batch_b + ((31, 23) if layout_b == "nk" else (23, 31)))
    residual = random(generator, batch_residual + (19, 31))
    c = host.gemm(a, b, residual=residual, layout_a=layout_a, layout_b=layout_b)
    expected = reference.gemm(a, b, layout_a=layout_a, layout_b=layout_b, residual=residual)
    assert c.shape == expected.shape
    assert reference.relative_error(c, expected) < 1e-5


def padded(array, before=1, after=3):
    """The same values with memory between rows that is NaN, and between matrices too."""
    width = before + array.shape[-1] + after
    memory = np.full((*array.shape[:-2], array.shape[-2] + 1, width), np.nan, array.dtype)
    view = memory[..., : array.shape[-2], before : before + array.shape[-1]]
    view[...] = array
    return view


@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("shape_a, shape_b", [((5, 37, 29), (5, 43, 29)), ((64, 48), (72, 48))])
def test_strides(host, generator, dtype, shape_a, shape_b):
    a = padded(random(generator, shape_a, dtype))
    b = padded(random(generator, shape_b, dtype), 0, 8)
    residual = padded(random(generator, (*shape_a[:-1], shape_b[-2]), dtype), 2, 2)
    memory = np.full((*shape_a[:-1], shape_b[-2] + 5), 77, dtype)
    out = memory[..., :-5]
    assert host.gemm(a, b, residual=residual, out=out) is out
    expected = reference.gemm(a, b, residual=residual)
    assert reference.relative_error(out, expected) < TOLERANCE[np.dtype(dtype)]
    assert (memory[..., -5:] == 77).all()


def test_transposed_views_are_the_other_layout(host, generator):
    a, b = random(generator, (20, 33)), random(generator, (20, 41))
    expected = a.T.astype(np.float64) @ b
    # Both are stored [k, …]: as they lie in memory they are km and kn.
    c = host.gemm(a, b, layout_a="km", layout_b="kn")
    assert reference.relative_error(c, expected) < 1e-5


def test_broadcast_batches_have_a_stride_of_0(host, generator):
    a = np.broadcast_to(random(generator, (6, 9)), (4, 6, 9))
    b = random(generator, (4, 7, 9))
    assert reference.relative_error(host.gemm(a, b), reference.gemm(a, b)) < 1e-5
    with pytest.raises(cudadent.InvalidArgument, match="c has shape .* share memory"):
        host.gemm(a, b, out=np.lib.stride_tricks.as_strided(b, (4, 6, 7), (0, 28, 4)))


@pytest.mark.parametrize("a_type", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("b_type", ["float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (3, 40, 129), (50, 61, 77)])
def test_8_bit_floats(host, generator, m, n, k, a_type, b_type):
    a = random(generator, (m, k), getattr(ml_dtypes, a_type))
    b = random(generator, (n, k), getattr(ml_dtypes, b_type))
    scale_a, scale_b = np.array([0.5], np.float32), np.array([3], np.float32)
    bias = random(generator, n, ml_dtypes.bfloat16)
    arguments = {"scale_a": scale_a, "scale_b": scale_b}
    c = host.gemm(a, b, bias, **arguments)
    assert c.dtype == ml_dtypes.bfloat16
    assert reference.relative_error(c, reference.gemm(a, b, bias, **arguments)) < 1e-2
    wide = host.gemm(a, b, out_dtype="f32", **arguments)
    assert reference.relative_error(wide, reference.gemm(a, b, **arguments)) < 1e-5


@pytest.mark.parametrize("layout_a", ["mk", "km"])
@pytest.mark.parametrize("layout_b", ["nk", "kn"])
@pytest.mark.parametrize("m, n, k", [(1, 1, 1), (5, 130, 300), (33, 257, 128), (70, 100, 513)])
def test_scales_of_blocks(host, generator, m, n, k, layout_a, layout_b):
    e4m3 = ml_dtypes.float8_e4m3fn
    a = random(generator, (m, k) if layout_a == "mk" else (k, m), e4m3)
    b = random(generator, (n, k) if layout_b == "nk" else (k, n), e4m3)
    scale_a = generator.uniform(0.1, 9, (m, -(-k // 128))).astype(np.float32)
    scale_b = generator.uniform(0.1, 9, (-(-n // 128), -(-k // 128))).astype(np.float32)
    options = {"scaling": "block", "layout_a": layout_a, "layout_b": layout_b}
    for scales in (
        {"scale_a": scale_a, "scale_b": scale_b},
        {"scale_a": scale_a},
        {"scale_b": scale_b},
    ):
        c = host.gemm(a, b, out_dtype="f32", **scales, **options)
        assert reference.relative_error(c, reference.gemm(a, b, **scales, **options)) < 1e-5


def test_scales_of_blocks_in_batches(host, generator):
    a, b = random(generator, (3, 20, 200)), random(generator, (150, 200))
    scale_a = padded(generator.uniform(0.1, 9, (3, 20, 2)).astype(np.float32))
    scale_b = generator.uniform(0.1, 9, (3, 2, 2)).astype(np.float32)
    for scales in (scale_b, scale_b[0]):  # b itself is shared
        arguments = {"scale_a": scale_a, "scale_b": scales, "scaling": "block"}
        c = host.gemm(a, b, **arguments)
        assert reference.relative_error(c, reference.gemm(a, b, **arguments)) < 1e-5
    with pytest.raises(cudadent.InvalidArgument, match=r"scale_a has shape \[20, 3\], expected"):
        host.gemm(a, b, scale_a=np.ones((20, 3), np.float32), scaling="block")


def test_gemm_writes_to_out_and_returns_it(host, generator):
    a, b = random(generator, (16, 8)), random(generator, (24, 8))
    out = np.full((16, 24), np.nan, np.float32)
    assert host.gemm(a, b, out=out) is out
    assert reference.relative_error(out, reference.gemm(a, b)) < 1e-5
    by_name = np.empty_like(out)
    assert host.gemm(b=b, a=a, c=by_name) is by_name
    np.testing.assert_array_equal(by_name, out)


@pytest.mark.parametrize("name", ["f32", "float32", np.float32, np.dtype("float32")])
def test_out_dtype_is_the_data_type_of_the_output_made(host, generator, name):
    a, b = random(generator, (8, 16), np.float16), random(generator, (8, 16), np.float16)
    c = host.gemm(a, b, out_dtype=name)
    assert c.dtype == np.float32
    assert reference.relative_error(c, reference.gemm(a, b)) < 1e-5


def test_gemm_of_no_rows_and_of_no_depth(host):
    bias = np.arange(-2, 2, dtype=np.float32)
    empty = host.gemm(np.empty((0, 3), np.float32), np.ones((4, 3), np.float32))
    assert empty.shape == (0, 4)
    shallow = host.gemm(
        np.empty((2, 0), np.float32), np.empty((4, 0), np.float32), bias, activation="relu"
    )
    np.testing.assert_array_equal(shallow, [[0, 0, 0, 1]] * 2)


def test_rms_norm(host, generator):
    x, weight = random(generator, (9, 37)), random(generator, 37)
    y = host.rms_norm(x, weight)
    expected, _ = reference.rms_norm(x, weight)
    assert reference.relative_error(y, expected) < 1e-5
    with_eps = host.rms_norm(x, weight, eps=0.5)
    assert reference.relative_error(with_eps, reference.rms_norm(x, weight, eps=0.5)[0]) < 1e-5
    assert reference.relative_error(with_eps, expected) > 1e-2


def test_rms_norm_in_the_place_of_its_inputs(host, generator):
    x, residual = (random(generator, (5, 40)) for _ in range(2))
    weight = random(generator, 40)
    expected, sums = reference.rms_norm(x, weight, residual)
    with pytest.raises(cudadent.InvalidArgument, match="residual_out shares memory with y"):
        host.rms_norm(x, weight, residual, out=x, residual_out=x)
    with pytest.raises(cudadent.InvalidArgument, match="y shares memory with weight"):
        host.rms_norm(x[:1], weight, out=weight.reshape(1, 40))
    host.rms_norm(x, weight, residual, out=x, residual_out=residual)
    assert reference.relative_error(x, expected) < 1e-5
    np.testing.assert_allclose(residual, sums, rtol=1e-6)


@pytest.mark.parametrize("eps", [float("nan"), float("inf"), -1e-6, 1e39], ids=str)
def test_rms_norm_with_no_eps(host, generator, eps):
    x, weight = random(generator, (9, 37)), random(generator, 37)
    host.rms_norm(x, weight)
    with pytest.raises(cudadent.InvalidArgument, match="rms_norm: eps="):
        host.rms_norm(x, weight, eps=eps)
    with pytest.raises(cudadent.InvalidArgument, match="rms_norm: eps="):
        host.op("rms_norm", eps=eps)


def test_rms_norm_with_residual(host, generator):
    x, weight, residual = (random(generator, shape) for shape in [(4, 33), 33, (4, 33)])
    expected, sums = reference.rms_norm(x, weight, residual)
    y, h = host.rms_norm(x, weight, residual, residual_out=True)
    assert reference.relative_error(y, expected) < 1e-5
    np.testing.assert_allclose(h, sums, rtol=1e-6)
    out, buffer = np.empty_like(x), np.empty_like(x)
    result = host.rms_norm(x, weight, residual, out=out, residual_out=buffer)
    assert result[0] is out and result[1] is buffer
    np.testing.assert_array_equal(buffer, h)


def test_options_are_bound_and_may_be_replaced_in_a_call(host, generator):
    a, b = random(generator, (16, 8)), random(generator, (24, 8))
    relu = host.op("gemm", activation="relu")
    assert relu.options == {
        "activation": "relu",
        "layout_a": "mk",
        "layout_b": "nk",
        "precision": "full",
        "scaling": "tensor",
    }
    assert relu(a, b).min() == 0
    plain = relu(a, b, activation="none")
    np.testing.assert_array_equal(relu(a, b, activation=None), np.maximum(plain, 0))
    np.testing.assert_array_equal(plain, host.gemm(a, b))


def test_an_operator_says_what_it_takes(host):
    assert host.gemm.tensors == ("a", "b", "bias", "scale_a", "scale_b", "residual", "c")
    assert host.gemm.name == "gemm" and "gemm" in repr(host.gemm)
    signature = inspect.signature(cudadent.gemm)
    assert list(signature.parameters)[:3] == ["a", "b", "bias"]
    assert signature.parameters["activation"].default == "none"
    assert signature.parameters["a"].default is inspect.Parameter.empty
    assert "layout_b" in cudadent.gemm.__doc__ and "residual" in cudadent.rms_norm.__doc__
    assert inspect.signature(cudadent.rms_norm).parameters["eps"].default == 1e-6
    assert set(host.operators()) >= {"gemm", "rms_norm"}
    with pytest.raises(AttributeError, match="no_such"):
        host.no_such  # noqa: B018
    with pytest.raises(TypeError):
        cudadent.Operator()


def test_module_level_calls_use_the_default_runtime(tmp_path, generator):
    cudadent.set_default_options(cache=tmp_path / "c.db", on_miss="nearest")
    a, b = random(generator, (16, 8)), random(generator, (24, 8))
    assert reference.relative_error(cudadent.gemm(a, b), reference.gemm(a, b)) < 1e-5
    relu = cudadent.op("gemm", activation="relu")
    assert relu(a, b).min() == 0
    assert (tmp_path / "c.db").exists()
    # Operators made before follow new options.
    cudadent.set_default_options(cache=tmp_path / "d.db", on_miss="fail")
    with pytest.raises(cudadent.Error) as caught:
        relu(a, b)
    assert caught.value.code == "not_tuned"
    cudadent.set_default_options()


def test_prepare_explains(host, generator):
    a, b = random(generator, (16, 8)), random(generator, (24, 8))
    explanation = host.gemm.prepare(a, b)
    assert explanation.problem.startswith("gemm m=16 k=8 n=24")
    assert explanation.winner.template == "host"
    assert explanation.winner.provenance in ("default", "predicted", "neighbour", "nearest")
    # Chosen by what it is predicted to take, which is said.
    assert 0 < explanation.winner.predicted_seconds < 1
    assert "predicted to take" in repr(explanation)
    assert set(explanation.winner.configuration) >= {"TILE_M", "BLOCK_N"}
