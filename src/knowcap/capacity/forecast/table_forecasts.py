"""Forecasts from the fits of a table, inverted on a grid, and where they are refused."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from knowcap.capacity.forecast.capacity_fit import CapacityFit, common_range
from knowcap.capacity.forecast.forecast import (
    FLOPS_PER_PARAM,
    UNKNOWN,
    Forecast,
    Given,
    comparison,
    exactly,
    with_cost,
)
from knowcap.capacity.forecast.log_prediction import Interval, bounds, crossing, interval
from knowcap.capacity.forecast.number_text import number_text, range_text
from knowcap.capacity.laws.estimators import Floats

NUM_POINTS = 401
"""Points of the grid on which a prediction is inverted."""

NOTED_FACTOR = 1.05
"""Smallest factor outside of the models of a fit that is noted."""


def from_table(given: Given, fit: CapacityFit, exposures: float) -> Forecast:
    """Forecast at a number of exposures from the fits of a table."""
    base = Forecast("table", exactly(exposures))
    fewest, most = fit.exposure_range
    if not fewest <= exposures <= most:
        return replace(base, refused=_outside("exposures", exposures, (fewest, most)))
    limits, sizes = fit.allowed_sizes(exposures), fit.size_range(exposures)
    base = replace(base, fit_sizes=sizes)
    if limits[0] > limits[1]:
        return replace(base, refused="the models at fewer and at more exposures differ in size")
    size, refused = _size(given, fit, exposures)
    if refused:
        return replace(base, refused=refused)
    ratio = interval(fit.log_ratio(np.asarray(size.estimate), exposures))
    stored = ratio.times(size.estimate)
    is_size_predicted = given.bits is not None and given.num_params is None
    done = replace(
        base,
        num_params=size,
        capacity_ratio=ratio,
        bits=exactly(given.bits) if is_size_predicted and given.bits is not None else stored,
        notes=(*comparison(given, stored), *_beyond(size, limits, "parameters")),
    )
    return with_cost(_with_outside_factor(done), given)


def _size(given: Given, fit: CapacityFit, exposures: float) -> tuple[Interval, str]:
    """Parameters that are given or that the bits or the compute need, or why there are none."""
    limits, sizes = fit.allowed_sizes(exposures), fit.size_range(exposures)
    if given.num_params is not None:
        if limits[0] <= given.num_params <= limits[1]:
            return exactly(given.num_params), ""
        return UNKNOWN, _outside("parameters", given.num_params, sizes, limits)
    grid = np.geomspace(*limits, NUM_POINTS)
    bits = tuple(ratio * grid for ratio in bounds(fit.log_ratio(grid, exposures)))
    if given.bits is not None:
        size, refused = _invert(grid, bits, given.bits, "bits")
    else:
        costs = tuple(_flops(given, exposures, grid, each) for each in bits)
        size, refused = _invert(grid, costs, given.flops or math.nan, "FLOPs")
    if refused:
        refused += f"; its models have {range_text(sizes)} parameters"
    return size, refused


def needed_exposures(given: Given, fit: CapacityFit) -> Forecast:
    """Exposures at which a model of a given size stores the given bits, from the table."""
    assert given.bits is not None
    assert given.num_params is not None
    base = Forecast("table", num_params=exactly(given.num_params), bits=exactly(given.bits))
    base = replace(base, capacity_ratio=exactly(given.bits / given.num_params))
    limits = fit.exposure_range
    grid = np.geomspace(*limits, NUM_POINTS if limits[1] > limits[0] else 1)
    grid[0], grid[-1] = limits
    allowed = common_range([fit.allowed_sizes(each) for each in grid])
    sizes = common_range([fit.size_range(each) for each in grid])
    base = replace(base, fit_sizes=sizes)
    if not allowed[0] <= given.num_params <= allowed[1]:
        return replace(base, refused=_outside("parameters", given.num_params, sizes, allowed))
    size = np.asarray(given.num_params)
    ratios = [interval(fit.log_ratio(size, each)) for each in grid.tolist()]
    bits = tuple(np.array(end) * given.num_params for end in zip(*ratios, strict=True))
    found, refused = _invert(grid, bits, given.bits, "bits")
    if refused:
        return replace(base, refused=refused)
    done = replace(base, exposures=found, notes=tuple(_beyond(found, limits, "exposures")))
    return with_cost(_with_outside_factor(done), given)


def _with_outside_factor(forecast: Forecast) -> Forecast:
    """Forecast that says how far its parameters lie outside of the models of the fit."""
    assert forecast.fit_sizes is not None
    size = forecast.num_params.estimate
    factor = outside_factor(size, forecast.fit_sizes)
    notes = forecast.notes
    if factor > NOTED_FACTOR:
        text = f"Extrapolated: {number_text(size)} parameters lie outside of the models of this fit"
        text += f" ({range_text(forecast.fit_sizes)} parameters), {number_text(factor)} times."
        notes = (*notes, text)
    return replace(forecast, outside_factor=factor, notes=notes)


def _invert(
    grid: Floats, values: tuple[Floats, ...], target: float, unit: str
) -> tuple[Interval, str]:
    """Point of the grid where the estimate reaches `target`, or why there is none.

    The interval has the points whose prediction intervals contain the target: a further model at
    the upper end reaches it with a probability of 97.5 %.
    """
    estimate, lower, upper = values
    if len(grid) > 1 and estimate[-1] <= estimate[0]:
        return UNKNOWN, f"{unit} do not rise along this fit"
    found = Interval(*(crossing(grid, each, target) for each in (estimate, upper, lower)))
    if found.estimate in (0, math.inf):
        extremes = (float(estimate[0]), float(estimate[-1]))
        return UNKNOWN, _outside(unit, target, extremes)
    return found, ""


def _flops(given: Given, exposures: float, num_params: Floats, bits: Floats) -> Floats:
    tokens = given.tokens_per_exposure or given.tokens_per_bit * bits
    return np.asarray(FLOPS_PER_PARAM * num_params * exposures * tokens)


def _beyond(found: Interval, limits: tuple[float, float], unit: str) -> Iterator[str]:
    """Yield which ends of an interval lie beyond the limits of the predictions."""
    for end, limit, side in (
        (found.lower, limits[0], "lower"),
        (found.upper, limits[1], "upper"),
    ):
        if end in (0, math.inf):
            yield (
                f"The {side} end of the interval lies beyond {number_text(limit)} {unit}, where "
                "nothing is predicted."
            )


def _outside(
    unit: str,
    number: float,
    measured: tuple[float, float],
    allowed: tuple[float, float] | None = None,
) -> str:
    """Sentence that a number lies too far outside of a range."""
    factor = outside_factor(number, measured)
    side = "above the largest" if number > measured[1] else "below the smallest"
    what = "of this fit" if unit in ("exposures", "parameters") else "that this fit can predict"
    text = f"{number_text(number)} {unit} are {number_text(factor)} times {side} {what}"
    text += f" ({range_text(measured)})"
    return f"{text}; R is predicted for {range_text(allowed)}" if allowed else text


def outside_factor(number: float, limits: tuple[float, float]) -> float:
    """Times by which a number lies outside of a range; 1 inside."""
    return max(limits[0] / number, number / limits[1], 1.0)
