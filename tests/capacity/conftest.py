from __future__ import annotations

from pathlib import Path

import pytest

from tests.capacity.simulated_results import SimulatedResults


@pytest.fixture
def simulation(tmp_path: Path) -> SimulatedResults:
    return SimulatedResults(tmp_path)
