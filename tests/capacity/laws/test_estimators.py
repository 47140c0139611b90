"""Estimators recover what was put in, and their intervals hold it as often as they say."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from knowcap.capacity.laws.claims import Estimate
from knowcap.capacity.laws.estimators import (
    extreme,
    frontier_slope,
    log_slope,
    matched_ratio,
    ratio_of_peaks,
)
from tests.capacity.laws.grid import Grid

SAME_MODEL = ["knowledge", "model", "num_params"]
SIZES = np.geomspace(1e5, 1e7, 7).round()
DEPTHS = np.array([2, 4, 8, 2, 4, 8, 16])

CASES: dict[str, tuple[float, Callable[[Grid], Estimate]]] = {
    "the highest of models": (
        2.0,
        lambda grid: extreme(grid.models([1.5, 1.7, 2.0, 1.8]), "capacity_ratio", "highest"),
    ),
    "the highest of equals": (
        2.0,
        lambda grid: extreme(grid.models([2.0] * 6), "capacity_ratio", "highest"),
    ),
    "the highest of near equals at several learning rates": (
        2.0,
        lambda grid: extreme(
            grid.models([2.0, 1.98, 1.96, 1.9], rates=(0.9, 1.0, 0.99)), "capacity_ratio", "highest"
        ),
    ),
    "the lowest of models, each at its best learning rate": (
        0.9,
        lambda grid: extreme(
            grid.models([0.95, 0.9, 0.97], rates=(0.7, 1.0)), "capacity_ratio", "lowest"
        ),
    ),
    "a ratio of peaks": (
        0.5,
        lambda grid: ratio_of_peaks(
            grid.models([0.5, 0.9, 1.0]), grid.models([1.9, 2.0, 1.8]), "capacity_ratio"
        ),
    ),
    "a ratio of matched models": (
        0.5,
        lambda grid: matched_ratio(
            grid.models([0.5, 0.9, 1.0]), grid.models([1.0, 1.8, 2.0]), "capacity_ratio", SAME_MODEL
        ),
    ),
    "an exponent": (
        1.1,
        lambda grid: log_slope(
            grid.models(2 * (SIZES / 1e5) ** 0.1, num_params=SIZES, rates=(0.9, 1.0)),
            "bits",
            ["num_params"],
        ),
    ),
    "an effect at equal size": (
        0.05,
        lambda grid: log_slope(
            grid.models(
                2 * DEPTHS**0.05, num_params=SIZES, num_layers=DEPTHS,
                max_ratio=2 + np.arange(7) % 3,
            ),
            "capacity_ratio",
            ["num_layers", "num_params", "max_capacity_ratio"],
        ),
    ),
    "an upper edge": (
        2.0,
        lambda grid: frontier_slope(
            grid.models(
                [2.0, 1.6, 2.0, 1.7, 2.0, 1.5, 2.0, 2.0], num_params=np.geomspace(1e5, 1e6, 8)
            ),
            0.9,
        ),
    ),
}  # fmt: skip
every_case = pytest.mark.parametrize(("truth", "estimate"), CASES.values(), ids=CASES)


@every_case
def test_without_noise_the_truth_is_recovered(
    grid: Grid, truth: float, estimate: Callable[[Grid], Estimate]
) -> None:
    grid.noise = 1e-9
    found = estimate(grid)
    assert found.value == pytest.approx(truth, rel=1e-6)
    assert found.status == "ok"


@every_case
def test_intervals_hold_the_truth_as_often_as_they_say(
    grid: Grid, truth: float, estimate: Callable[[Grid], Estimate]
) -> None:
    simulations = [estimate(grid) for _ in range(200)]
    covered = np.mean([found.lower <= truth <= found.upper for found in simulations])
    # Of 200 intervals, 95 % with a standard deviation of 1.5 %; three of them either way.
    assert covered == pytest.approx(0.95, abs=0.046)


@every_case
def test_one_seed_gives_a_value_and_no_interval(
    grid: Grid, truth: float, estimate: Callable[[Grid], Estimate]
) -> None:
    grid.num_seeds, grid.noise = 1, 1e-9
    found = estimate(grid)
    assert found.status == "one seed"
    assert found.value == pytest.approx(truth, rel=1e-6)
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)


@every_case
def test_no_models_give_no_value(
    grid: Grid, truth: float, estimate: Callable[[Grid], Estimate]
) -> None:
    complete = grid.models
    grid.models = lambda *args, **kwargs: complete(*args, **kwargs).iloc[:0]  # type: ignore[method-assign]
    found = estimate(grid)
    assert found.status == "no data"
    assert math.isnan(found.value)


def test_the_best_of_equals_is_not_reported_by_its_luck(grid: Grid) -> None:
    grid.noise = 0.1
    simulations = [
        extreme(grid.models([2.0] * 20), "capacity_ratio", "highest").value for _ in range(100)
    ]
    # The mean of the best of 20 would be 2 + 1.87 * 0.1 * 2 / sqrt(4) = 2.19.
    error = np.std(simulations) / math.sqrt(len(simulations))
    assert np.mean(simulations) == pytest.approx(2.0, abs=3 * error)


def test_a_model_without_every_seed_still_competes(grid: Grid) -> None:
    models = grid.models([1.5, 2.0])
    models = models[~((models["measurement"] == "m1/trained") & (models["seed"] == 3))]
    found = extreme(models, "capacity_ratio", "highest")
    best = models[models["measurement"] == "m1/trained"]["capacity_ratio"]
    # Without its fourth seed the other model stands in, as only it was trained with four.
    assert found.num_seeds == 4
    assert found.lower < best.mean() < found.upper


def test_capacities_below_nothing_have_no_ratio(grid: Grid) -> None:
    low, high = grid.models([-0.5]), grid.models([2.0])
    assert ratio_of_peaks(low, high, "capacity_ratio").status == "not positive"
    assert matched_ratio(low, high, "capacity_ratio", SAME_MODEL).status == "not positive"
    assert log_slope(low, "bits", ["num_params"]).status == "not positive"


def test_sizes_that_do_not_vary_have_no_slope(grid: Grid) -> None:
    same = grid.models([2.0] * 6, num_params=1_000_000)
    assert log_slope(same, "bits", ["num_params"]).status == "too few models"
    assert frontier_slope(same, 0.9).status == "too few models"


def test_an_effect_that_is_another_ones_shadow_is_not_estimated(grid: Grid) -> None:
    models = grid.models([2.0] * 7, num_params=SIZES, num_layers=(SIZES / 1e4).astype(int))
    models["num_layers"] = models["num_params"]
    found = log_slope(models, "capacity_ratio", ["num_layers", "num_params"])
    assert found.status == "too few models"


def test_models_are_compared_at_their_best_learning_rates(grid: Grid) -> None:
    grid.noise = 1e-9
    tuned, narrow = grid.models([1.0], rates=(0.3, 1.0, 0.6)), grid.models([2.0])
    found = matched_ratio(tuned, narrow, "capacity_ratio", SAME_MODEL)
    assert found.value == pytest.approx(0.5, rel=1e-6)


def test_models_that_do_not_match_are_not_compared(grid: Grid) -> None:
    one, other = grid.models([1.0]), grid.models([2.0], num_params=2_000_000)
    assert matched_ratio(one, other, "capacity_ratio", SAME_MODEL).status == "no data"
