"""Operators of the user's own, in a folder: tuned, launched, and wrong in every way."""

import json

import numpy as np
import pytest

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


def write(folder, operator=OPERATOR, template=TEMPLATE, source=SOURCE):
    home = folder / "scale"
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
