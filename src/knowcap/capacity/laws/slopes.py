"""Slopes of regressions over cells, each cell or group of cells being one observation."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from knowcap.capacity.laws.cell_summaries import coverage_of
from knowcap.capacity.laws.estimate import Estimate
from knowcap.capacity.laws.estimators import Floats, slope

MIN_RESIDUALS = 2
"""Smallest number of residual degrees of freedom for an interval."""


def log_log_slope(
    cells: pd.DataFrame, exog: list[str], of: str, group: str | None = None
) -> Estimate:
    """OLS slope of the logarithm of ``value`` on that of `of`, given the other `exog`.

    Parameters
    ----------
    cells
        Cells of one kind.
    exog
        Columns of regressors; those that do not vary are left out.
    of
        The column whose slope is returned.
    group
        Column of groups of cells, such as sizes of one shape, that share an error. The mean of a
        group is one observation.
    """
    if cells.empty:
        return Estimate.without_interval("no data")
    coverage = coverage_of(cells)
    if (cells["value"] <= 0).any():
        return Estimate.without_interval("not positive", coverage=coverage)
    logs = cells[["value", *exog]].astype(float).apply(np.log)
    if group is not None:
        logs = logs.groupby(cells[group].to_numpy()).mean()
    regressors = logs[exog] - logs[exog].mean()
    varying = [name for name in exog if np.ptp(regressors[name]) > 1e-12]
    matrix = regressors[varying].to_numpy()
    is_singular = of not in varying or np.linalg.matrix_rank(matrix) < len(varying)
    if is_singular or len(logs) - len(varying) - 1 < MIN_RESIDUALS:
        return Estimate.without_interval("too few models", coverage=coverage)
    endog, column = logs["value"].to_numpy(), varying.index(of)
    found = slope(matrix, endog, column)
    return Estimate(
        float(found.mean), math.sqrt(found.variance), float(found.degrees_of_freedom), "ok",
        coverage=coverage, leave_one_out=_leave_one_out(matrix, endog, column),
    )  # fmt: skip


def _leave_one_out(exog: Floats, endog: Floats, column: int) -> tuple[float, float]:
    """Lowest and highest slope when each observation is left out; NaN where there is none."""
    slopes = []
    for index in range(len(endog)):
        rest = np.delete(exog, index, axis=0)
        if np.linalg.matrix_rank(rest - rest.mean(axis=0)) < exog.shape[1]:
            return math.nan, math.nan
        slopes.append(float(slope(rest, np.delete(endog, index), column).mean))
    return min(slopes), max(slopes)
