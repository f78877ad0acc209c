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
    assert set(explanation.winner.configuration) >= {"TILE_M", "BLOCK_N"}
