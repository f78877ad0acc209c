"""Tuning in the background: launches wait for nothing, and find the winner when it is there."""

import time

import numpy as np
import pytest
import spin

import cudadent


@pytest.fixture
def templates(tmp_path):
    return spin.write(tmp_path, {"SPIN": [64, 16, 1]})


def test_a_launch_waits_for_nothing_and_later_ones_are_fast(tmp_path, templates):
    x = np.arange(100, dtype=np.float32)
    with cudadent.Runtime(
        "host", cache=tmp_path / "cache.db", template_paths=templates, on_miss="background"
    ) as runtime:
        np.testing.assert_array_equal(runtime.spin(x), 2 * x)
        first = runtime.spin.prepare(x).winner
        assert first.provenance == "default"
        assert first.configuration == {"SPIN": 64}
        deadline = time.monotonic() + 120
        while runtime.spin.prepare(x).winner.provenance == "default":
            assert time.monotonic() < deadline
            np.testing.assert_array_equal(runtime.spin(x), 2 * x)
            time.sleep(0.05)
        later = runtime.spin.prepare(x).winner
        assert later.provenance == "cached"
        assert later.configuration == {"SPIN": 1}
        np.testing.assert_array_equal(runtime.spin(x), 2 * x)


def test_closing_ends_what_is_under_way(tmp_path, templates):
    x = np.arange(100, dtype=np.float32)
    begin = time.monotonic()
    with cudadent.Runtime(
        "host", cache=tmp_path / "cache.db", template_paths=templates, on_miss="background",
        budget=cudadent.Budget(3600, until_converged=False),
    ) as runtime:
        runtime.spin(x)
    assert time.monotonic() - begin < 60
