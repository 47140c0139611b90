"""Predictions on the logarithmic scale: mean, variance of a new cell, degrees of freedom."""

from __future__ import annotations

from functools import reduce
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from knowcap.capacity.laws.estimate import half_width
from knowcap.capacity.laws.estimators import Floats, Moments


class Interval(NamedTuple):
    """A predicted number and its 95 % prediction interval; NaN where there is none."""

    estimate: float
    lower: float
    upper: float

    def times(self, factor: float) -> Interval:
        """Return all three numbers multiplied by a positive factor."""
        return Interval(*(factor * number for number in self))


def new_cell(values: Floats) -> Moments:
    """Prediction of the logarithm of a further value from a sample of positive values.

    Its variance is s^2 (1 + 1/n) with n - 1 degrees of freedom.
    """
    logs = np.log(values)
    count = len(logs)
    return Moments(
        np.asarray(logs.mean()),
        np.asarray(logs.var(ddof=1) * (1 + 1 / count)),
        np.asarray(count - 1.0),
    )


def product(*factors: Moments) -> Moments:
    """Prediction of a product of independent factors, with Satterthwaite's degrees of freedom."""
    return weighted_sum(factors, [1.0] * len(factors))


def weighted_sum(parts: tuple[Moments, ...], weights: list[float]) -> Moments:
    """Prediction of a sum of logarithms; means and variances have the same weights.

    With weights that add up to 1, the variance lies between those of the parts, as for two
    predictions between which is interpolated.
    """
    shares = [
        weight * np.asarray(part.variance) for part, weight in zip(parts, weights, strict=True)
    ]
    variance = np.asarray(sum(shares))
    squares = sum(
        share**2 / part.degrees_of_freedom for share, part in zip(shares, parts, strict=True)
    )
    fewest = reduce(np.minimum, (part.degrees_of_freedom for part in parts))
    with np.errstate(invalid="ignore", divide="ignore"):
        freedom = np.where(variance > 0, variance**2 / squares, fewest)
    mean = sum(weight * part.mean for part, weight in zip(parts, weights, strict=True))
    return Moments(np.asarray(mean), variance, freedom)


def bounds(found: Moments) -> tuple[Floats, Floats, Floats]:
    """Estimate, lower and upper end of the prediction interval, no longer as logarithms."""
    width = half_width(np.sqrt(found.variance), found.degrees_of_freedom)
    mean = np.asarray(found.mean)
    with np.errstate(over="ignore"):
        return np.exp(mean), np.exp(mean - width), np.exp(mean + width)


def interval(found: Moments) -> Interval:
    """Interval of a single prediction."""
    return Interval(*(float(end) for end in bounds(found)))


def crossing(grid: npt.ArrayLike, values: npt.ArrayLike, target: float) -> float:
    """First point of an ascending grid where `values` reach `target`, linear in logarithms.

    Returns
    -------
    float
        Infinite if they never do, and 0 if the first value does already.
    """
    points, levels = np.asarray(grid, dtype=float), np.asarray(values, dtype=float)
    reached = np.flatnonzero(levels >= target)
    if not reached.size:
        return float("inf")
    above = int(reached[0])
    if above == 0:
        return 0.0 if levels[0] > target else float(points[0])
    low, high = np.log(levels[above - 1 : above + 1])
    share = (np.log(target) - low) / (high - low)
    ends = np.log(points[above - 1 : above + 1])
    return float(np.exp(ends[0] + share * (ends[1] - ends[0])))
