from __future__ import annotations

import numpy as np
import pytest

from tests.capacity.laws.simulated_models import Simulator


@pytest.fixture
def sim() -> Simulator:
    return Simulator(np.random.default_rng(20240408))
