from __future__ import annotations

from pathlib import Path

import pytest

from tests.capacity.simulated import Simulation


@pytest.fixture
def simulation(tmp_path: Path) -> Simulation:
    return Simulation(tmp_path)
