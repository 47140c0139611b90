"""Asymptote of R for many exposures, from a curve fitted to each model."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from knowcap.capacity.laws.cells import SAME_MODEL, cells
from knowcap.capacity.laws.estimators import Floats, Moments
from knowcap.capacity.laws.settings import held_settings

MIN_EXPOSURES = 4
"""Smallest number of points to which a curve with three parameters is fitted."""


def compare_with_asymptote(models: pd.DataFrame, column: str, relative_to: int) -> pd.DataFrame:
    """Cells with the asymptote of `column`, relative to its value at `relative_to` exposures.

    The curve ``A / (1 + (E0 / E)^h)`` is fitted in logarithms.
    """
    rows = []
    if models.empty:
        return pd.DataFrame()
    points = cells(models, column, (*SAME_MODEL, "exposures"))
    keys = [*SAME_MODEL, *held_settings(points, ["optimization.exposures"])]
    for _, group in points.groupby(keys, sort=False):
        ordered = group.sort_values("exposures")
        exposures = ordered["exposures"].to_numpy(dtype=float)
        values = ordered["value"].to_numpy(dtype=float)
        if len(group) < MIN_EXPOSURES or relative_to not in exposures or (values <= 0).any():
            continue
        at = int(np.flatnonzero(exposures == relative_to)[0])
        names = ("value", "variance", "degrees_of_freedom")
        points_of_curve = Moments(*(ordered[name].to_numpy(dtype=float) for name in names))
        found = fit_asymptote(exposures, points_of_curve, at)
        ratio = math.exp(float(found.mean))
        rows.append(
            ordered.iloc[at].to_dict()
            | {
                "value": ratio,
                "variance": float(found.variance) * ratio**2,
                "degrees_of_freedom": float(found.degrees_of_freedom),
                "value_baseline": values[at],
                "num_params_baseline": ordered["num_params"].iloc[at],
                "capacity_ratio_baseline": ordered["capacity_ratio"].iloc[at],
                "num_replicates": int(ordered["num_replicates"].sum()),
                "edge_loss": ordered["edge_loss"].max(),
                "train_iters": ordered["train_iters"].iloc[at],
            }
        )
    return pd.DataFrame(rows)


def fit_asymptote(exposures: Floats, values: Moments, at: int) -> Moments:
    """Logarithm of the asymptote relative to the fitted value at one point.

    Parameters
    ----------
    exposures
        Exposures of each point.
    values
        Mean of each point over its seeds.
    at
        Index of the point that the asymptote is relative to.
    """
    from scipy.optimize import curve_fit

    log_e, log_value = np.log(exposures), np.log(values.mean)

    def curve(log_e: Floats, log_a: float, log_e0: float, h: float) -> Floats:
        return np.asarray(log_a - np.log1p(np.exp(h * (log_e0 - log_e))))

    start = (float(log_value.max()), float(log_e.mean()), 1.0)
    # The bounds exclude an asymptote over a hundred times the largest value, and steps.
    bounds = ([start[0] - 1, log_e.min() - 5, 0.2], [start[0] + 4.6, log_e.max() + 5, 8.0])
    (_, log_e0, h), _ = curve_fit(curve, log_e, log_value, p0=start, bounds=bounds)
    odds = np.exp(h * (log_e0 - log_e))
    share = odds / (1 + odds)
    # The logarithm of the ratio is log(1 + (E0 / E)^h); its error follows from those of the points
    # through the derivatives of the fit.
    jacobian = np.column_stack([np.ones_like(share), -share * h, -share * (log_e0 - log_e)])
    gradient = np.array([0.0, share[at] * h, share[at] * (log_e0 - log_e[at])])
    parts = (gradient @ np.linalg.pinv(jacobian) / values.mean) ** 2 * values.variance
    freedom = parts.sum() ** 2 / (parts**2 / values.degrees_of_freedom).sum()
    return Moments(np.log1p(odds[at]), parts.sum(), freedom)
