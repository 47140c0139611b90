"""Law 13 finds a ratio that is built into simulated results."""

import numpy as np
import pandas as pd
import pytest
from knowcap.capacity.laws.longer_training import LAW

from knowcap.capacity.laws.verdicts import judge
from tests.capacity.laws.simulated_models import Simulator


@pytest.mark.parametrize(("ratio", "verdict"), [(1.1, "reproduced"), (0.7, "contradicted")])
def test_a_built_in_ratio_is_found(ratio: float, verdict: str) -> None:
    simulator = Simulator(np.random.default_rng(0))
    sizes = [1_000_000, 4_000_000, 16_000_000]
    models = pd.concat(
        simulator.models([r] * 3, num_params=sizes, exposures=exposures)
        for exposures, r in ((100, 1.0), (200, ratio))
    )
    (result,) = judge(LAW, models)
    assert result.estimate.value == pytest.approx(ratio, rel=0.05)
    assert result.verdict == verdict
