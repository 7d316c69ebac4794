from __future__ import annotations

import zlib

import numpy as np
import pytest

from headway.engine import native
from tests.engine.native import cases


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests of kernels run for all that this processor has."""
    if "kernels" in metafunc.fixturenames:
        reason = native.why_not()
        absent = pytest.param("", marks=pytest.mark.skip(reason=reason or ""))
        metafunc.parametrize("kernels", native.available() or [absent])


@pytest.fixture
def random(request: pytest.FixtureRequest) -> np.random.Generator:
    """This test's own random numbers. What it prints shows where the test fails."""
    seed = cases.seed()
    print(f"to run this case again: HEADWAY_SEED={seed}")
    return np.random.default_rng([seed, zlib.crc32(request.node.name.encode())])
