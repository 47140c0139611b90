"""Prediction intervals cover a further model in 95 % of simulated studies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from knowcap.capacity.forecast.capacity_fit import CapacityFit, Factor, LevelFit
from knowcap.capacity.forecast.forecast import Given
from knowcap.capacity.forecast.log_prediction import bounds, interval, new_cell
from knowcap.capacity.forecast.table_forecasts import from_table, needed_exposures

NUM_STUDIES = 400
COVERED = (0.92, 0.98)
"""Shares that 400 studies with a coverage of 95 % have, within 2.7 standard errors."""

SIZES = np.repeat([1e6, 2e6, 4e6], 2)
SCATTER = 0.06
"""Standard deviation of log R between cells."""


def true_log_ratio(num_params: float, exposures: float) -> float:
    return np.log(2.0) + 0.05 * np.log(num_params / 2e6) + 0.3 * np.log(exposures / 1000)


def level(rng: np.random.Generator, exposures: int, *factors: Factor) -> LevelFit:
    logs = true_log_ratio(SIZES, exposures) + SCATTER * rng.standard_normal(len(SIZES))
    cells = pd.DataFrame({"value": np.exp(logs), "num_params": SIZES})
    return LevelFit(exposures, cells, factors)


def worlds(seed: int) -> Iterator[tuple[np.random.Generator, CapacityFit, float]]:
    """Yield simulated studies with 100 and 1000 exposures, and the luck of one more model."""
    rng = np.random.default_rng(seed)
    for _ in range(NUM_STUDIES):
        fit = CapacityFit("simulated", (level(rng, 100), level(rng, 1000)), ())
        yield rng, fit, SCATTER * rng.standard_normal()


def test_the_interval_of_bits_covers_a_further_model() -> None:
    covered = 0
    for rng, fit, luck in worlds(1):
        size = float(np.exp(rng.uniform(np.log(1e6), np.log(4e6))))
        found = from_table(Given(tokens_per_bit=1.0, num_params=size), fit, 1000)
        stored = np.exp(true_log_ratio(size, 1000) + luck) * size
        covered += found.bits.lower <= stored <= found.bits.upper
    assert COVERED[0] <= covered / NUM_STUDIES <= COVERED[1]


def test_the_interval_of_parameters_covers_what_a_further_model_needs() -> None:
    covered = 0
    for _, fit, luck in worlds(2):
        found = from_table(Given(tokens_per_bit=1.0, bits=5e6), fit, 1000)
        grid = np.geomspace(1e5, 1e8, 20_001)
        stored = np.exp(true_log_ratio(grid, 1000) + luck) * grid
        needed = grid[np.flatnonzero(stored >= 5e6)[0]]
        covered += found.num_params.lower <= needed <= found.num_params.upper
    assert COVERED[0] <= covered / NUM_STUDIES <= COVERED[1]


def test_the_interval_of_a_mean_would_cover_far_fewer() -> None:
    covered = 0
    for _, fit, luck in worlds(3):
        regression = fit.levels[1]._regression
        mean = regression.get_prediction(fit.levels[1]._exog(np.array([2e6])))
        lower, upper = mean.conf_int()[0]
        covered += lower <= true_log_ratio(2e6, 1000) + luck <= upper
    assert covered / NUM_STUDIES < 0.8


def test_a_factor_of_another_precision_adds_its_own_scatter() -> None:
    covered, rng = 0, np.random.default_rng(4)
    for _ in range(NUM_STUDIES):
        kept = 0.4 * np.exp(0.2 * rng.standard_normal(6))
        factor = Factor("int4", 1000, pd.DataFrame({"value": kept}))
        found = interval(level(rng, 1000, factor).log_ratio(np.asarray(2e6)))
        luck = SCATTER * rng.standard_normal() + 0.2 * rng.standard_normal()
        ratio = 0.4 * np.exp(true_log_ratio(2e6, 1000) + luck)
        covered += found.lower <= ratio <= found.upper
    assert COVERED[0] <= covered / NUM_STUDIES <= COVERED[1]


def test_between_two_numbers_of_exposures_the_interval_covers_at_least_as_many() -> None:
    covered = 0
    for _, fit, luck in worlds(5):
        _, lower, upper = bounds(fit.log_ratio(np.asarray(2e6), 316.0))
        covered += lower <= np.exp(true_log_ratio(2e6, 316.0) + luck) <= upper
    assert COVERED[0] <= covered / NUM_STUDIES


def test_the_interval_of_exposures_covers_what_a_further_model_needs() -> None:
    covered, num_studies = 0, 60
    bits = float(np.exp(true_log_ratio(2e6, 316.0)) * 2e6)
    for index, (_, fit, luck) in enumerate(worlds(6)):
        if index == num_studies:
            break
        found = needed_exposures(Given(tokens_per_bit=1.0, bits=bits, num_params=2e6), fit)
        needed = 316.0 * np.exp(-luck / 0.3)
        covered += found.exposures.lower <= needed <= found.exposures.upper
    assert covered / num_studies >= 0.9


def test_a_new_cell_varies_more_than_the_mean() -> None:
    found = new_cell(np.exp(np.array([0.0, 0.2, 0.4])))
    assert np.isclose(float(found.mean), 0.2)
    assert np.isclose(float(found.variance), 0.04 * (1 + 1 / 3))
    assert float(found.degrees_of_freedom) == 2
