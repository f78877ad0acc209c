"""Operators of the user's own, in a folder: tuned, launched, and wrong in every way."""

import json

import numpy as np
import pytest
from test_tensors import OnlyArrayInterface, tensor_type

import cudadent

OPERATOR = {
    "op": "scale",
    "doc": "y = factor·x, and the sum of a row when asked for",
    "dtypes": {"dtype": {"values": ["f32", "f64"]}},
    "options": {"sign": ["plus", "minus"]},
    "tensors": {
        "x": {"shape": ["rows", "columns"], "dtype": "dtype"},
        "y": {"shape": ["rows", "columns"], "dtype": "dtype", "role": "output"},
        "sums": {"shape": ["rows"], "dtype": "f32", "role": "output", "optional": True},
    },
    "scalars": {"factor": {"default": 2}},
    "flops": "rows*columns",
    "tolerance": {"f32": 1e-6, "f64": 1e-6},
}
TEMPLATE = {
    "template": "host",
    "backend": "host",
    "compile_time": ["dtype", "sign"],
    "parameters": {"STEP": [1, 2, 4]},
    "default": {"STEP": 2},
    "launches": [
        {
            "entry": "scale",
            "grid": ["ceil_div(rows, STEP)"],
            "args": ["x", "y", "sums", "rows", "columns", "factor"],
        }
    ],
}
SOURCE = """
void scale(const Block& block, const dtype* x, dtype* y, float* sums, int rows, int columns,
           float factor) {
  const float signed_factor = sign == sign_kind::minus ? -factor : factor;
  for (int row = block.x * STEP; row < rows && row < (block.x + 1) * STEP; ++row) {
    float sum = 0;
    for (int i = 0; i < columns; ++i) {
      y[row * columns + i] = signed_factor * x[row * columns + i];
      sum += signed_factor * x[row * columns + i];
    }
    if constexpr (has_sums) sums[row] = sum;
  }
}
"""


MATMUL = {
    "op": "matmul",
    "doc": "c = a · bᵀ, for each of a batch",
    "dtypes": {
        "dtype": {"values": ["f32", "f64"]},
        "out_dtype": {
            "values": ["f32", "f64"],
            "default": "dtype if size(dtype) > 4 else 'f32'",
        },
    },
    "tensors": {
        "a": {
            "shape": ["batch?", "m", "k"],
            "strides": ["batch_stride_a", "row_stride_a", 1],
            "dtype": "dtype",
        },
        "b": {
            "shape": ["batch?", "n", "k"],
            "strides": ["batch_stride_b", "row_stride_b", "column_stride_b"],
            "dtype": "dtype",
        },
        "c": {
            "shape": ["batch?", "m", "n"],
            "strides": ["batch_stride_c", "row_stride_c", 1],
            "dtype": "out_dtype",
            "role": "output",
        },
    },
    "tuning_key": {"batch": "pow2_ceil(batch)"},
    "tolerance": {"f32": 1e-5, "f64": 1e-5},
}
MATMUL_TEMPLATE = {
    "template": "host",
    "backend": "host",
    "compile_time": ["dtype", "out_dtype", "k"],
    "parameters": {"STEP": [1, 2]},
    "launches": [
        {
            "entry": "matmul",
            "grid": ["ceil_div(m, STEP)", "batch"],
            "args": ["a", "b", "c", "m", "n"]
            + ["row_stride_a", "row_stride_b", "column_stride_b", "row_stride_c"]
            + [
                {"value": f"batch_stride_{tensor}", "type": "i64"}
                for tensor in ("a", "b", "c")
            ],
        }
    ],
}
MATMUL_SOURCE = """
void matmul(const Block& block, const dtype* a, const dtype* b, out_dtype* c, int m, int n,
            int row_a, int row_b, int column_b, int row_c, i64 batch_a, i64 batch_b, i64 batch_c) {
  a += block.y * batch_a, b += block.y * batch_b, c += block.y * batch_c;
  for (int i = block.x * STEP; i < m && i < (block.x + 1) * STEP; ++i)
    for (int j = 0; j < n; ++j) {
      double sum = 0;
      for (int l = 0; l < k; ++l) sum += double(a[i * row_a + l]) * b[j * row_b + l * column_b];
      c[i * row_c + j] = out_dtype(sum);
    }
}
"""


def write(folder, operator=OPERATOR, template=TEMPLATE, source=SOURCE):
    home = folder / operator["op"]
    home.mkdir()
    (home / "op.json").write_text(json.dumps(operator))
    (home / "host.json").write_text(json.dumps(template))
    (home / "host.cpp").write_text(source)
    (home / "host_reference.json").write_text(
        json.dumps({**template, "template": "host_reference", "source": "host.cpp"})
    )
    return folder


def runtime_of(folder, **options):
    return cudadent.Runtime("host", cache=":memory:", template_paths=[folder], **options)


def test_tuned_and_launched(tmp_path):
    x = np.arange(15, dtype=np.float32).reshape(5, 3)
    with runtime_of(write(tmp_path), budget="2 trials") as runtime:
        assert runtime.tune("scale", rows=5, columns=3, dtype="f32").winner.template == "host"
        np.testing.assert_array_equal(runtime.scale(x), 2 * x)
        y, sums = runtime.scale(x, sums=True, factor=3, sign="minus")
        np.testing.assert_array_equal(y, -3 * x)
        np.testing.assert_allclose(sums, (-3 * x).sum(axis=1))
        assert runtime.scale(x.astype(np.float64)).dtype == np.float64


@pytest.fixture
def matmul(tmp_path):
    with runtime_of(
        write(tmp_path, MATMUL, MATMUL_TEMPLATE, MATMUL_SOURCE), on_miss="nearest"
    ) as runtime:
        yield runtime.op("matmul")


def test_strides_and_a_batch(matmul, generator):
    wide_a = generator.standard_normal((5, 9, 20), dtype=np.float32)
    wide_b = generator.standard_normal((5, 9, 20), dtype=np.float32)
    a, b = wide_a[:3, 2:6, 4:12], wide_b[::2, :7, 3:11]
    np.testing.assert_allclose(matmul(a, b), a @ b.transpose(0, 2, 1), rtol=1e-4, atol=1e-5)
    # One matrix for all of the batch, as it is or spread by NumPy; and a transposed one.
    expected = a @ b[1].T
    assert matmul(a, b[1]).shape == (3, 4, 7)
    for one in (b[1], np.broadcast_to(b[1], (3, 7, 8)), np.asfortranarray(b[1])):
        np.testing.assert_allclose(matmul(a, one), expected, rtol=1e-4, atol=1e-5)
    # Without a batch.
    np.testing.assert_allclose(matmul(a[0], b[0]), a[0] @ b[0].T, rtol=1e-4, atol=1e-5)
    assert matmul(a[0], b[0]).shape == (4, 7)
    # An output with gaps, which stay as they are.
    out = np.full((3, 6, 10), 99, np.float32)
    assert matmul(a, b, out=out[:, 1:5, 2:9]) is not None
    np.testing.assert_allclose(out[:, 1:5, 2:9], matmul(a, b))
    out[:, 1:5, 2:9] = 99
    assert (out == 99).all()


def test_strides_in_words(matmul):
    a, b = np.ones((3, 4, 8), np.float32), np.ones((7, 8), np.float32)
    assert matmul.prepare(a, b).problem == "matmul batch=3 m=4 k=8 n=7 dtype=f32 batch_stride_b=0"
    assert matmul.prepare(a[0], b).problem == "matmul m=4 k=8 n=7 dtype=f32"
    assert (
        matmul.prepare(a[:, :, ::1][:, :, :4], b[:, :4]).problem
        == "matmul batch=3 m=4 k=4 n=7 dtype=f32 row_stride_a=8 batch_stride_b=0 row_stride_b=8"
    )


def test_strides_that_cannot_be(matmul):
    a, b = np.ones((3, 4, 8), np.float32), np.ones((3, 7, 8), np.float32)
    memory = np.empty(28, np.float32)
    overlapping = np.lib.stride_tricks.as_strided(memory, (3, 4, 7), (0, 28, 4))
    for arguments, message in [
        ((a[:, :, ::2], b[:, :, ::2]), "a is not contiguous in its last dimension.*contiguous"),
        ((a[:, ::-1], b), "a has a negative stride"),
        ((a, b[:2]), r"b has shape \[2, 7, 8\], expected \[batch\?, n, k\] with batch = 3 from a"),
        ((a, b, np.empty((4, 7), np.float32)), r"c has shape \[4, 7\], expected \[batch, m, n\]"),
        ((a, b, overlapping), "c has shape .* share memory"),
        ((a[None], b), r"a has shape \[1, 3, 4, 8\], expected \[batch\?, m, k\]"),
    ]:
        with pytest.raises(cudadent.InvalidArgument, match=message):
            matmul(*arguments)


def test_strided_problems_are_tuned(tmp_path, generator):
    folder = write(tmp_path, MATMUL, MATMUL_TEMPLATE, MATMUL_SOURCE)
    with runtime_of(folder, budget="2 trials", on_miss="fail") as runtime:
        result = runtime.tune(
            "matmul", m=4, n=7, k=8, batch=3, dtype="f32", row_stride_c=9, batch_stride_b=0
        )
        assert [trial.status for trial in result.trials] == ["ok"] * len(result.trials)
        assert "row_stride_c=9" in result.problem
        # Other strides have the same winner, as long as they change nothing about what is aligned.
        wide = generator.standard_normal((3, 4, 16), dtype=np.float32)
        b = generator.standard_normal((3, 7, 8), dtype=np.float32)
        for a in (np.ascontiguousarray(wide[:, :, :8]), wide[:, :, :8]):
            np.testing.assert_allclose(
                runtime.matmul(a, b), a @ b.transpose(0, 2, 1), rtol=1e-4, atol=1e-5
            )
        with pytest.raises(cudadent.Error) as caught:
            runtime.matmul(wide[:, :, 1:9], b)
        assert caught.value.code == "not_tuned"


def test_a_default_data_type_of_another(matmul):
    a, b = np.ones((2, 8)), np.ones((3, 8))
    assert matmul(a, b).dtype == np.float64
    assert matmul(a.astype(np.float32), b.astype(np.float32)).dtype == np.float32
    assert matmul(a, b, out_dtype="f32").dtype == np.float32


EIGHT_BITS = {
    "op": "convert",
    "dtypes": {
        "dtype": {"values": ["e4m3", "e5m2", "f32"]},
        "out_dtype": {"values": ["e4m3", "e5m2", "f32"], "default": "f32"},
    },
    "tensors": {
        "x": {"shape": ["n"], "dtype": "dtype"},
        "y": {"shape": ["n"], "dtype": "out_dtype", "role": "output"},
    },
    "tolerance": {"f32": 1e-6, "e4m3": 1e-6, "e5m2": 1e-6},
}
EIGHT_BITS_TEMPLATE = {
    "template": "host",
    "backend": "host",
    "compile_time": ["dtype", "out_dtype"],
    "launches": [{"entry": "convert", "grid": [1], "args": ["x", "y", "n"]}],
}
EIGHT_BITS_SOURCE = """
void convert(const Block&, const dtype* x, out_dtype* y, int n) {
  for (int i = 0; i < n; ++i) y[i] = from_f32<out_dtype>(to_f32(x[i]));
}
"""


@pytest.mark.parametrize("name, code", [("float8_e4m3fn", 10), ("float8_e5m2", 12)])
def test_8_bit_floats(tmp_path, name, code):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = getattr(ml_dtypes, name)
    short = name[7:11]
    every = np.arange(256, dtype=np.uint8).view(dtype)
    floats = np.random.default_rng(5).standard_normal(1000).astype(np.float32) * 10
    folder = write(tmp_path, EIGHT_BITS, EIGHT_BITS_TEMPLATE, EIGHT_BITS_SOURCE)
    with runtime_of(folder, on_miss="nearest") as runtime:
        np.testing.assert_array_equal(runtime.convert(every), every.astype(np.float32))
        for said in (dtype, np.dtype(dtype), short):
            rounded = runtime.convert(floats, out_dtype=said)
            assert rounded.dtype == dtype
            np.testing.assert_array_equal(rounded, floats.astype(dtype))
        assert runtime.convert.prepare(every).problem == f"convert n=256 dtype={short}"
        # By an array interface, which needs the data type's name besides, and by DLPack's codes.
        Tensor, _ = tensor_type(1, code=code, bits=8)
        interface = OnlyArrayInterface(every)
        with pytest.raises(cudadent.InvalidArgument, match="data type <.1, which cudadent"):
            runtime.convert(interface)
        interface.dtype = every.dtype
        for wrapped in (interface, Tensor(every)):
            y = np.empty(256, np.float32)
            runtime.convert(wrapped, y)
            np.testing.assert_array_equal(y, every.astype(np.float32))
        result = runtime.tune("convert", n=999, dtype="f32", out_dtype=short)
        assert [trial.status for trial in result.trials] == ["ok"]


def test_torch_knows_8_bit_floats(tmp_path):
    torch = pytest.importorskip("torch")
    folder = write(tmp_path, EIGHT_BITS, EIGHT_BITS_TEMPLATE, EIGHT_BITS_SOURCE)
    floats = torch.linspace(-3, 3, 100)
    with runtime_of(folder, on_miss="nearest") as runtime:
        for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            rounded = runtime.convert(floats, out_dtype=dtype)
            assert rounded.dtype == dtype
            assert torch.equal(rounded.float(), floats.to(dtype).float())
            assert torch.equal(runtime.convert(rounded), rounded.float())


def test_default_runtimes_find_it_too(tmp_path):
    cudadent.set_default_options(
        cache=":memory:", template_paths=write(tmp_path), on_miss="nearest"
    )
    assert "scale" in cudadent.operators()
    x = np.ones((2, 2), np.float32)
    np.testing.assert_array_equal(cudadent.op("scale", sign="minus")(x), -2 * x)
    cudadent.set_default_options()
    assert "scale" not in cudadent.operators()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"colour": "red"}, 'unknown field "colour"'),
        ({"dtypes": {"dtype": {"values": ["f31"]}}}, 'unknown data type "f31"'),
        ({"flops": "rows*colums"}, "unknown name 'colums'"),
        ({"flops": "rows*"}, r"flops"),
        ({"tensors": {"x": {"shape": ["n"], "dtype": "f32"}}}, "output"),
    ],
)
def test_a_malformed_operator(tmp_path, changes, message):
    write(tmp_path, operator={**OPERATOR, **changes})
    with pytest.raises(cudadent.Error, match=message) as caught:
        with runtime_of(tmp_path) as runtime:
            runtime.op("scale")
    assert caught.value.code == "invalid_manifest"
    assert "op.json" in str(caught.value)  # names the file


def test_a_manifest_that_is_not_json(tmp_path):
    write(tmp_path)
    (tmp_path / "scale" / "host.json").write_text("{ not json")
    with pytest.raises(cudadent.Error, match="host.json.*not JSON") as caught:
        with runtime_of(tmp_path) as runtime:
            runtime.op("scale")
    assert caught.value.code == "invalid_manifest"


def test_a_template_that_does_not_compile(tmp_path):
    write(tmp_path, source=SOURCE.replace("float sum = 0;", "float sum = nonsense;"))
    with runtime_of(tmp_path, on_miss="nearest") as runtime:
        with pytest.raises(cudadent.Error) as caught:
            runtime.scale(np.ones((2, 2), np.float32))
    assert caught.value.code == "compile_failed"
    assert "nonsense" in caught.value.detail  # the compiler's log
