"""Tunes and launches an operator of one's own: the folder axpby beside this file.

python run.py
"""

from pathlib import Path

import numpy as np

import cudadent


def main():
    x = np.linspace(0, 1, 100_000, dtype=np.float32)
    y = np.ones_like(x)

    with cudadent.Runtime("host", template_paths=[Path(__file__).parent], budget="20s") as runtime:
        result = runtime.tune("axpby", n=x.size, dtype=x.dtype)
        print(result)
        # Everything about the call follows from op.json: the tensors' names and order, shape
        # checks, the scalars, and that z is made when it is left out.
        z = runtime.axpby(x, y, alpha=2, beta=-1)
        print("largest error:", np.abs(z - (2 * x - y)).max())


if __name__ == "__main__":
    main()
