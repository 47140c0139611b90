"""Asymptote of R for many exposures, from a curve fitted to each model."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from knowcap.capacity.laws.cells import SAME_MODEL, cells
from knowcap.capacity.laws.estimators import Floats

MIN_EXPOSURES = 4
"""Smallest number of points to which a curve with three parameters is fitted."""


def compare_with_asymptote(models: pd.DataFrame, column: str, relative_to: int) -> pd.DataFrame:
    """Cells with the asymptote of `column`, relative to its value at `relative_to` exposures.

    The curve ``A / (1 + (E0 / E)^h)`` is fitted in logarithms, weighted by the seeds' variances.
    """
    rows = []
    if models.empty:
        return pd.DataFrame()
    points = cells(models, column, (*SAME_MODEL, "exposures"))
    for _, group in points.groupby(list(SAME_MODEL), sort=False):
        ordered = group.sort_values("exposures")
        exposures = ordered["exposures"].to_numpy(dtype=float)
        values = ordered["value"].to_numpy(dtype=float)
        if len(group) < MIN_EXPOSURES or relative_to not in exposures or (values <= 0).any():
            continue
        at = int(np.flatnonzero(exposures == relative_to)[0])
        errors = np.sqrt(ordered["variance"].to_numpy(dtype=float)) / values
        log_ratio, variance = fit_asymptote(exposures, values, errors, at)
        ratio = math.exp(log_ratio)
        rows.append(
            ordered.iloc[at].to_dict()
            | {
                "value": ratio,
                "variance": variance * ratio**2,
                "degrees_of_freedom": float(ordered["degrees_of_freedom"].sum()),
                "value_baseline": values[at],
                "num_params_baseline": ordered["num_params"].iloc[at],
                "capacity_ratio_baseline": ordered["capacity_ratio"].iloc[at],
                "num_replicates": int(ordered["num_replicates"].sum()),
                "edge_loss": ordered["edge_loss"].max(),
                "train_iters": ordered["train_iters"].iloc[at],
            }
        )
    return pd.DataFrame(rows)


def fit_asymptote(
    exposures: Floats, values: Floats, errors: Floats, at: int
) -> tuple[float, float]:
    """Logarithm of the asymptote relative to the fitted value at one point, and its variance.

    Parameters
    ----------
    exposures, values
        Points of the curve.
    errors
        Standard errors of the logarithms of `values`; NaN if unknown.
    at
        Index of the point that the asymptote is relative to.
    """
    from scipy.optimize import curve_fit

    log_e = np.log(exposures)
    is_known = bool(np.isfinite(errors).all() and (errors > 0).all())

    def curve(log_e: Floats, log_a: float, log_e0: float, h: float) -> Floats:
        return np.asarray(log_a - np.log1p(np.exp(h * (log_e0 - log_e))))

    start = (float(np.log(values).max()), float(log_e.mean()), 1.0)
    # The bounds exclude an asymptote over a hundred times the largest value, and steps.
    bounds = ([start[0] - 1, log_e.min() - 5, 0.2], [start[0] + 4.6, log_e.max() + 5, 8.0])
    found, covariance = curve_fit(
        curve, log_e, np.log(values), p0=start, bounds=bounds,
        sigma=errors if is_known else None, absolute_sigma=is_known,
    )  # fmt: skip
    odds = math.exp(found[2] * (found[1] - log_e[at]))
    share = odds / (1 + odds)
    # The logarithm of the ratio is log(1 + (E0 / E)^h).
    gradient = np.array([0.0, share * found[2], share * (found[1] - log_e[at])])
    variance = float(gradient @ covariance @ gradient) if is_known else math.nan
    return math.log1p(odds), variance
