"""An operator whose configurations differ in time beyond doubt: y = 2x, as slowly as SPIN says."""

import json

OPERATOR = {
    "op": "spin",
    "tensors": {
        "x": {"shape": ["n"], "dtype": "f32"},
        "y": {"shape": ["n"], "dtype": "f32", "role": "output"},
    },
    "tolerance": {"f32": 1e-6},
}
SOURCE = """
void spin(const Block&, const float* x, float* y, int n) {
  for (volatile int i = 0; i < SPIN * 20000; ++i) {}
  for (int i = 0; i < n; ++i) y[i] = 2 * x[i];
}
"""


def write(folder, parameters):
    """The operator in folder/templates, which it returns; the first values are the default."""
    template = {
        "template": "spin",
        "backend": "host",
        "parameters": parameters,
        "launches": [{"entry": "spin", "grid": [1], "args": ["x", "y", "n"]}],
    }
    home = folder / "templates" / "spin"
    home.mkdir(parents=True)
    (home / "op.json").write_text(json.dumps(OPERATOR))
    (home / "spin.json").write_text(json.dumps(template))
    (home / "spin.cpp").write_text(SOURCE)
    return home.parent
