from __future__ import annotations

import numpy as np
import pytest

from tests.capacity.laws.grid import Grid


@pytest.fixture
def grid() -> Grid:
    return Grid(np.random.default_rng(20240408))
