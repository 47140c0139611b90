"""Estimators on arrays: selection without luck, means over cells, regressions.

All take arrays with any leading dimensions, such as simulated studies, and are computed for all of
them at once. Missing values are NaN and are left out one by one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """Mean, variance of the mean, and its degrees of freedom; NaN where they do not exist."""

    mean: Floats
    variance: Floats
    degrees_of_freedom: Floats


def values_without_selection_bias(values: Floats) -> Floats:
    """Value of each seed at the candidate that all other seeds select.

    The highest mean of several learning rates is biased upward, as luck decides among nearly equal
    rates. Here no value takes part in its own selection.

    Parameters
    ----------
    values
        ``(..., candidate, seed)``. NaN where a candidate was not trained with a seed.

    Returns
    -------
    Floats
        ``(..., seed)``, NaN where the selected candidate does not have the seed. With one
        candidate, or if no candidate has two seeds, the values of the best candidate.
    """
    num_candidates = values.shape[-2]
    trained = np.isfinite(values)
    if num_candidates == 1:
        return values[..., 0, :]
    filled = np.where(trained, values, 0.0)
    total, count = filled.sum(axis=-1, keepdims=True), trained.sum(axis=-1, keepdims=True)
    others, num_others = total - filled, count - trained
    with np.errstate(invalid="ignore", divide="ignore"):
        means = np.where(num_others > 0, others / num_others, -np.inf)
        overall = np.where(count > 0, total / count, -np.inf)
    # A single seed cannot be left out: the candidate is then selected by the seed itself.
    means = np.where((num_others > 0).any(axis=-2, keepdims=True), means, overall)
    selected = means.argmax(axis=-2)[..., None, :]
    return np.take_along_axis(values, selected, axis=-2)[..., 0, :]


def moments(values: Floats) -> Moments:
    """Mean over the last axis, with the variance of the mean."""
    count = np.isfinite(values).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.nansum(values, axis=-1) / count
        squares = np.nansum((values - mean[..., None]) ** 2, axis=-1)
        variance = np.where(count > 1, squares / (count - 1) / count, np.nan)
    return Moments(mean, variance, np.where(count > 1, count - 1.0, np.nan))


def ratio_moments(numerator: Moments, denominator: Moments) -> Moments:
    """Ratio of two independent means, by the delta method, with Welch's degrees of freedom."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = numerator.mean / denominator.mean
        parts = (
            numerator.variance / denominator.mean**2,
            ratio**2 * denominator.variance / denominator.mean**2,
        )
        variance = parts[0] + parts[1]
        freedom = variance**2 / (
            parts[0] ** 2 / numerator.degrees_of_freedom
            + parts[1] ** 2 / denominator.degrees_of_freedom
        )
    return Moments(ratio, variance, freedom)


def interpolated_moments(small: Moments, large: Moments, weight: Floats | float) -> Moments:
    """Value between two independent means, linear in logarithms.

    Parameters
    ----------
    small, large
        Means at both ends.
    weight
        Weight of `large`, from 0 to 1.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.exp((1 - weight) * np.log(small.mean) + weight * np.log(large.mean))
        parts = [
            (share * value / end.mean) ** 2 * end.variance
            for share, end in ((1 - weight, small), (weight, large))
        ]
        variance = parts[0] + parts[1]
        freedom = variance**2 / (
            parts[0] ** 2 / small.degrees_of_freedom + parts[1] ** 2 / large.degrees_of_freedom
        )
    return Moments(value, variance, freedom)


def paired_ratio_moments(numerator: Floats, denominator: Floats) -> Moments:
    """Ratio of two means over the last axis, whose values belong to the same trainings."""
    complete = np.isfinite(numerator) & np.isfinite(denominator)
    numerator, denominator = (
        np.where(complete, values, np.nan) for values in (numerator, denominator)
    )
    base = moments(denominator).mean
    ratio = moments(numerator).mean / base
    residuals = moments(numerator - ratio[..., None] * denominator)
    return Moments(ratio, residuals.variance / base**2, residuals.degrees_of_freedom)


def leave_one_out(values: Floats) -> tuple[Floats, Floats]:
    """Lowest and highest mean over the last axis when each value is left out."""
    count = values.shape[-1]
    if count < 2:
        missing = np.full(values.shape[:-1], np.nan)
        return missing, missing
    means = (values.sum(axis=-1, keepdims=True) - values) / (count - 1)
    return means.min(axis=-1), means.max(axis=-1)


def slope(exog: Floats, endog: Floats, column: int) -> Moments:
    """OLS coefficient of a column of `exog`, with its variance; a constant is added.

    Parameters
    ----------
    exog
        ``(observation, column)``
    endog
        ``(..., observation)``
    column
        Index of the coefficient.
    """
    design = np.column_stack([np.ones(len(exog)), exog - exog.mean(axis=0)])
    inverse = np.linalg.inv(design.T @ design)
    coefficients = endog @ design @ inverse
    freedom = float(len(exog) - design.shape[1])
    residuals = endog - coefficients @ design.T
    variance = (residuals**2).sum(axis=-1) / freedom * inverse[column + 1, column + 1]
    return Moments(
        coefficients[..., column + 1], variance, np.full(coefficients.shape[:-1], freedom)
    )
