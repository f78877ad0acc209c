"""Fixtures: a host runtime that takes default configurations, so that a test costs one compile."""

import os
import tempfile

# Default runtimes must never see the user's database.
_scratch = tempfile.TemporaryDirectory(prefix="cudadent-tests-")
os.environ["CUDADENT_CACHE"] = os.path.join(_scratch.name, "default.db")
os.environ.pop("CUDADENT_TEMPLATE_PATH", None)
# What a test finds does not depend on what ships for this device.
os.environ["CUDADENT_SHIPPED"] = "none"

import numpy as np  # noqa: E402
import pytest  # noqa: E402

import cudadent  # noqa: E402


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    with cudadent.Runtime(
        "host", cache=tmp_path_factory.mktemp("cache") / "shared.db", on_miss="nearest"
    ) as runtime:
        yield runtime


@pytest.fixture
def generator():
    return np.random.default_rng(7)
