"""Intervals cover the true value in 95 % of 2000 simulated studies, and no luck is selected."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from knowcap.capacity.laws.claims import times_lower
from knowcap.capacity.laws.estimate import half_width
from knowcap.capacity.laws.estimators import (
    Moments,
    interpolated_moments,
    leave_one_out,
    moments,
    paired_ratio_moments,
    ratio_moments,
    slope,
    values_without_selection_bias,
)
from knowcap.capacity.laws.exposure_curve import fit_asymptote

Floats = npt.NDArray[np.float64]

NUM_STUDIES = 2000
BETWEEN_CELLS, BETWEEN_SEEDS = 0.04, 0.05
RATIO = 0.8


def cell_means(
    rng: np.random.Generator, num_seeds: list[int], mean: float = RATIO, spread: float = 1.0
) -> Floats:
    """Means of cells, each over its own number of seeds; ``(study, cell)``."""
    cells = mean * np.exp(
        spread * BETWEEN_CELLS * rng.standard_normal((NUM_STUDIES, len(num_seeds)))
    )
    noise = rng.standard_normal(cells.shape) / np.sqrt(num_seeds)
    return cells * (1 + BETWEEN_SEEDS * noise)


def seeds(rng: np.random.Generator, mean: float, num_seeds: int) -> Floats:
    return mean * (1 + BETWEEN_SEEDS * rng.standard_normal((NUM_STUDIES, num_seeds)))


def log_mean(values: Floats) -> Moments:
    return moments(np.log(values))


def over_cells(*num_seeds: int, spread: float = 1.0) -> Callable[[np.random.Generator], Moments]:
    return lambda rng: log_mean(cell_means(rng, list(num_seeds), spread=spread))


def one_cell(rng: np.random.Generator) -> Moments:
    """A ratio of two models with four and with eight seeds, on the logarithmic scale."""
    found = ratio_moments(moments(seeds(rng, RATIO, 4)), moments(seeds(rng, 1.0, 8)))
    return Moments(np.log(found.mean), found.variance / found.mean**2, found.degrees_of_freedom)


def one_quantised_cell(rng: np.random.Generator) -> Moments:
    """A ratio of the same trainings, whose errors are common."""
    trained = seeds(rng, 1.0, 8)
    return paired_ratio_moments(
        np.exp(np.log(RATIO)) * trained + 0.02 * rng.standard_normal(trained.shape), trained
    )


def interpolated(rng: np.random.Generator) -> Moments:
    """A model between two sizes of the baseline."""
    ends = [moments(seeds(rng, mean, 6)) for mean in (0.9, 0.9 * (1 / 0.9) ** (1 / 0.4))]
    found = ratio_moments(moments(seeds(rng, RATIO, 6)), interpolated_moments(*ends, 0.4))
    return Moments(np.log(found.mean), found.variance / found.mean**2, found.degrees_of_freedom)


def tuned_cells(*fractions: float) -> Callable[[np.random.Generator], Moments]:
    """Four cells; both sides of each are trained at several rates, with four seeds."""

    def simulate(rng: np.random.Generator) -> Moments:
        rates = np.array(fractions)[:, None]
        sides = []
        for mean in (RATIO, 1.0):
            cell = mean * np.exp(
                BETWEEN_CELLS / 2**0.5 * rng.standard_normal((NUM_STUDIES, 4, 1, 1))
            )
            noise = rng.standard_normal((NUM_STUDIES, 4, len(fractions), 4))
            values = cell * rates * (1 + BETWEEN_SEEDS * noise)
            sides.append(moments(values_without_selection_bias(values)).mean)
        return log_mean(sides[0] / sides[1])

    return simulate


SHAPES = np.log(np.array([[1, 1], [4, 1], [1, 4], [4, 4], [2, 1], [1, 2], [2, 4]]))


def shape_slope(rng: np.random.Generator) -> Moments:
    """Exponent of R in one parameter of the shape, given another one."""
    scatter = 0.05 * rng.standard_normal((NUM_STUDIES, len(SHAPES)))
    return slope(SHAPES, np.log(RATIO) * SHAPES[:, 0] + 0.1 * SHAPES[:, 1] + scatter, 0)


CASES: dict[str, Callable[[np.random.Generator], Moments]] = {
    "two cells": over_cells(8, 8),
    "four cells": over_cells(8, 8, 8, 8),
    "four cells that do not differ": over_cells(8, 8, 8, 8, spread=0.0),
    "six cells with four and with eight seeds": over_cells(4, 8, 4, 8, 8, 4),
    "cells with one seed": over_cells(1, 1, 1, 1, 1),
    "one cell": one_cell,
    "one quantised cell": one_quantised_cell,
    "an interpolated baseline": interpolated,
    "the best of three learning rates": tuned_cells(0.8, 1.0, 0.8),
    "the best of nearly equal learning rates": tuned_cells(0.99, 1.0, 0.98),
    "the best of five equal learning rates": tuned_cells(1.0, 1.0, 1.0, 1.0, 1.0),
    "an exponent among shapes": shape_slope,
}
IS_LINEAR = {"one quantised cell"}


def coverage(found: Moments, truth: float) -> float:
    """Share of the studies whose interval contains the true value."""
    width = half_width(np.sqrt(found.variance), found.degrees_of_freedom)
    return float((np.abs(found.mean - truth) <= width).mean())


@pytest.mark.parametrize("case", CASES)
def test_intervals_cover_the_true_value_in_95_percent_of_2000_studies(case: str) -> None:
    found = CASES[case](np.random.default_rng(20240408))
    truth = RATIO if case in IS_LINEAR else np.log(RATIO)
    assert 0.935 <= coverage(found, truth) <= 0.965


def test_an_asymptote_is_covered_in_95_percent_of_2000_studies() -> None:
    rng = np.random.default_rng(20240408)
    exposures = np.array([30.0, 100, 300, 1000, 3000, 10_000])
    truth = np.log1p(0.15**1.2)
    curve = 2.0 / (1 + (150 / exposures) ** 1.2)
    covered = []
    for _ in range(NUM_STUDIES):
        found = moments(curve[:, None] * (1 + 0.02 * rng.standard_normal((6, 8))))
        asymptote = fit_asymptote(exposures, found, 3)
        width = half_width(asymptote.variance**0.5, asymptote.degrees_of_freedom)
        covered.append(abs(asymptote.mean - truth) <= width)
    assert 0.935 <= np.mean(covered) <= 0.965


@pytest.mark.parametrize("interval", ["Wald", "bootstrap of cells"])
def test_intervals_that_need_many_cells_cover_too_little_with_four(interval: str) -> None:
    rng = np.random.default_rng(20240408)
    values = np.log(cell_means(rng, [8, 8, 8, 8]))
    if interval == "Wald":
        found = moments(values)
        covered = np.abs(found.mean - np.log(RATIO)) <= 1.96 * np.sqrt(found.variance)
    else:
        resampled = values[:, rng.integers(4, size=(500, 4))].mean(axis=-1)
        lower, upper = np.quantile(resampled, [0.025, 0.975], axis=-1)
        covered = (lower <= np.log(RATIO)) & (np.log(RATIO) <= upper)
    assert 0.78 < covered.mean() < 0.90


def test_the_best_of_equal_rates_is_not_biased_by_luck() -> None:
    rng = np.random.default_rng(1)
    values = seeds(rng, 1.0, 8 * 4).reshape(NUM_STUDIES, 8, 4)
    error = BETWEEN_SEEDS / (4 * NUM_STUDIES) ** 0.5
    assert values.mean(axis=-1).max(axis=-1).mean() > 1 + 20 * error
    chosen = moments(values_without_selection_bias(values)).mean
    assert chosen.mean() == pytest.approx(1.0, abs=4 * error)


def test_a_clearly_best_rate_keeps_all_its_seeds() -> None:
    values = np.array([[1.0, 1.1, np.nan, np.nan], [2.0, 2.2, 2.1, 1.9]])
    assert values_without_selection_bias(values).tolist() == [2.0, 2.2, 2.1, 1.9]


def test_a_single_seed_selects_its_best_rate() -> None:
    assert values_without_selection_bias(np.array([[1.0], [2.0], [1.5]])).tolist() == [2.0]


def test_missing_seeds_are_left_out_one_by_one() -> None:
    found = moments(np.array([[1.0, 3.0, np.nan, np.nan], [1.0, 3.0, 1.0, 3.0]]))
    assert found.mean.tolist() == [2.0, 2.0]
    assert found.degrees_of_freedom.tolist() == [1.0, 3.0]


def test_trainings_without_a_quantised_model_are_left_out() -> None:
    found = paired_ratio_moments(np.array([1.0, np.nan, 3.0]), np.array([2.0, 9.0, 6.0]))
    assert found.mean == pytest.approx(0.5)
    assert found.variance == pytest.approx(0.0)


def test_the_range_without_each_cell_contains_the_mean() -> None:
    lowest, highest = leave_one_out(np.array([1.0, 2.0, 6.0]))
    assert (lowest, highest) == (1.5, 4.0)
    assert np.isnan(leave_one_out(np.array([1.0]))).all()


POWER = {(2, 0.02): 0.50, (4, 0.03): 1.0, (4, 0.05): 0.86, (4, 0.08): 0.39, (6, 0.08): 0.80}
"""Share of the studies that reproduce "1.3 times lower", by cells and their standard deviation."""


@pytest.mark.parametrize(("design", "power"), POWER.items())
def test_the_power_of_a_design_is_as_stated(design: tuple[int, float], power: float) -> None:
    num_cells, spread = design
    rng = np.random.default_rng(3)
    found = moments(-np.log(1.3) + spread * rng.standard_normal((NUM_STUDIES, num_cells)))
    width = half_width(np.sqrt(found.variance), found.degrees_of_freedom)
    claim = times_lower(1.3)
    is_reproduced = (np.exp(found.mean - width) >= claim.lower) & (
        np.exp(found.mean + width) <= claim.upper
    )
    assert is_reproduced.mean() == pytest.approx(power, abs=0.03)
