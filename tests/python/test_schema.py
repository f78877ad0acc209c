"""The JSON schemas of manifests agree with the built-in manifests, and with what is refused."""

import ast
import json
import re
from pathlib import Path

import pytest

jsonschema = pytest.importorskip("jsonschema")

TEMPLATES = Path(__file__).parents[2] / "kernel_templates"
EXAMPLES = Path(__file__).parents[2] / "examples" / "python" / "own_kernel"


def validator(name):
    schema = json.loads((TEMPLATES / "schema" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def read(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return json.loads("\n".join(line for line in lines if not line.lstrip().startswith("//")))


MANIFESTS = sorted(
    path
    for root in (TEMPLATES, EXAMPLES)
    for folder in root.iterdir()
    if (folder / "op.json").exists()
    for path in folder.glob("*.json")
)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_manifests_keep_to_the_schema(path):
    kind = "operator" if path.name == "op.json" else "template"
    errors = [error.message for error in validator(kind).iter_errors(read(path))]
    assert not errors


def texts(value):
    """Whatever may be an expression: strings, and lists of lines as one."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        if value and all(isinstance(line, str) for line in value):
            yield " ".join(value)
        for one in value:
            yield from texts(one)
    elif isinstance(value, dict):
        for name, one in value.items():
            if name != "doc":
                yield from texts(one)


def is_chain(text):
    """Whether it is an expression with a if b else c if d else e in it."""
    try:
        nodes = list(ast.walk(ast.parse(text.strip(), mode="eval")))
    except SyntaxError:
        return False
    return any(isinstance(n, ast.IfExp) and isinstance(n.orelse, ast.IfExp) for n in nodes)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_manifests_are_laid_out_for_people(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [number for number, line in enumerate(lines, 1) if len(line) > 110] == []
    # Words need no quotes, and a choice of more than two is a table.
    assert [text for text in texts(read(path)) if "'" in text] == []
    assert [text for text in texts(read(path)) if is_chain(text)] == []


def test_there_are_manifests():
    assert len(MANIFESTS) >= 8


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"op": "2gemm"},
        {"op": "template"},
        {"dtypes": {"dtype": {"values": ["f31"]}}},
        {"options": {"activation": []}},
        {"tensors": {"a": {"shape": ["m"] * 7, "dtype": "f32"}}},
        {"tensors": {"a": {"shape": ["m"], "dtype": "f32", "role": "inout"}}},
        {"tensors": {"a": {"shape": ["m", "n?"], "dtype": "f32"}}},
        {"tensors": {"a": {"shape": ["m"], "strides": [2], "dtype": "f32"}}},
        {"tensors": {"a": {"shape": ["m"], "strides": "rows", "dtype": "f32"}}},
        {"scalars": {"eps": {"default": True}}},
        {"scalars": {"eps": {"default": 1, "dtype": "f64"}}},
        {"inputs": {"x": "sorted(1, 2)"}},
        {"doc": 1},
        {"flops": []},
        {"flops": {"choose": [["m > 1", 2]]}},
        {"flops": {"choose": [["m > 1"]], "default": 1}},
    ],
    ids=str,
)
def test_the_operator_schema_refuses(changes):
    operator = {"op": "copy", "tensors": {"a": {"shape": ["m"], "dtype": "f32", "role": "output"}}}
    assert validator("operator").is_valid(operator)
    assert not validator("operator").is_valid({**operator, **changes})


def test_the_operator_schema_knows_strides():
    tensor = {"shape": ["b?", "m", 3], "strides": ["b_stride", "rows", 1], "dtype": "e4m3"}
    by_option = {
        "shape": {"order": {"mk": ["m", "k"], "km": ["k", "m"]}},
        "strides": {"order": {"mk": ["rows", 1], "km": ["columns", 1]}},
        "dtype": "e5m2",
        "role": "output",
    }
    starts = {"shape": ["b + 1"], "dtype": "i32", "optional": True}
    nested = {
        "shape": {"has_starts": {"true": by_option["shape"], "false": ["b", "m"]}},
        "dtype": "f32",
    }
    operator = {
        "op": "copy",
        "options": {"order": ["mk", "km"]},
        "scalars": {"window": {"default": "m // 2", "dtype": "i32", "in_problem": True}},
        "inputs": {"starts": "cumulative(m)", "d": "permutation(m)"},
    }
    tensors = {"a": tensor, "c": by_option, "starts": starts, "d": nested}
    assert validator("operator").is_valid({**operator, "tensors": tensors})


@pytest.mark.parametrize(
    "changes",
    [
        {"unknown": 1},
        {"backend": "metal"},
        {"launches": []},
        {"launches": [{"entry": "copy", "grid": [1, 1, 1, 1], "args": []}]},
        {"launches": [{"entry": "copy", "grid": [1]}]},
        {"parameters": {"A": [1, 1]}},
        {"workspace": {"w": {"zero": True}}},
        {"tensor_maps": {"a": {"dims": ["m"]}}},
        {"prior": {"let": {"a": "m"}}},
        {"prior": {"a": "m", "seconds": "a"}},
        {"let": {"a": ["m", 1]}},
        {"let": {"a": {"choose": [], "default": 1}}},
    ],
    ids=str,
)
def test_the_template_schema_refuses(changes):
    launch = {"entry": "copy", "grid": [1], "args": ["a"]}
    template = {"template": "plain", "backend": "host", "launches": [launch]}
    assert validator("template").is_valid(template)
    assert not validator("template").is_valid({**template, **changes})


def test_the_template_schema_knows_lines_and_choices():
    choice = {
        "choose": [["m > 1", 64], [["n > 1", "and k > 1"], ["m", "+ 1"]]],
        "default": {"choose": [["k > 1", True]], "default": "n"},
    }
    template = {
        "template": "plain",
        "backend": "host",
        "doc": ["One line", "and another."],
        "let": {"A": choice, "B": ["m", "+ n"]},
        "constraints": ["A > 1", ["A", "< 2"], choice],
        "prior": {"let": {"C": choice}, "seconds": ["C", "+ 1"]},
        "launches": [{"entry": "copy", "grid": [choice], "args": ["a", choice, ["m", "+ 1"]]}],
    }
    assert validator("template").is_valid(template)
    for prior in ("1e-6*m", ["1e-6", "*m"], choice):
        assert validator("template").is_valid({**template, "prior": prior})


def test_reserved_names_are_those_the_library_refuses():
    source = (TEMPLATES.parent / "runtime" / "language" / "manifest_field.cpp").read_text(encoding="utf-8")
    listed = re.search(r"std::set<std::string> reserved\{(.*?)\};", source, re.DOTALL)[1]
    for name in ("operator", "template"):
        schema = json.loads((TEMPLATES / "schema" / f"{name}.schema.json").read_text("utf-8"))
        reserved = schema["$defs"]["name"]["not"]["enum"]
        assert set(reserved) == set(re.findall(r'"([^"]+)"', listed))
